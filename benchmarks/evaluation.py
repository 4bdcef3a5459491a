"""Box classification by the harness, against the released way: the whole picture again for every box.

    python -m benchmarks.evaluation --annotations instances_val2017.json --image-root val2017 --pictures 5

Random weights of the released base size, and random class vectors: time does not depend on what they say. Both ways are
timed in one run on the same boxes. Without annotations the pictures are scenes of the embedded world.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks._report import command, report
from fgclip2.config import preset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.writers import write_coco
from fgclip2.evaluation.encoder import Encoder, Wants, clip
from fgclip2.evaluation.readers.boxes import instances
from fgclip2.evaluation.records import Box
from fgclip2.evaluation.store import VectorStore
from fgclip2.images import open_image
from fgclip2.modeling import Fgclip2Model
from fgclip2.predictor import FGCLIP2
from fgclip2.pretrained import resolve
from fgclip2.processing import Processor

_CLASSES = 80
_T = TypeVar("_T")


@dataclass
class Arguments:
    """Time of both ways, and whether they name boxes alike."""

    annotations: Path | None = None
    """COCO instances."""
    image_root: Path | None = None
    """Folder of their pictures; the annotations' own when not given."""
    pictures: int = 3
    """How many, the first ones."""


def main(arguments: Arguments) -> None:
    """Time, compare and report."""
    model = _base()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = _places(arguments, folder)
        wants = Wants()
        for path, box in places:
            wants.add_boxes(path, [box])
        encoder = Encoder(model, VectorStore(folder / "features", model.width))
        model.dense_features(places[0][0])  # warm up

        def harness() -> Tensor:
            encoder.prepare(wants)
            return encoder.regions(places)[0]

        def released() -> Tensor:
            return torch.cat([model.region_features(path, [clip(box, open_image(path).size)]) for path, box in places])

        together, short = _timed(harness)
        alone, long = _timed(released)
    classes = torch.nn.functional.normalize(torch.randn(_CLASSES, model.width), dim=-1)
    same = int(((together @ classes.T).argmax(1) == (alone @ classes.T).argmax(1)).sum())
    rows = [
        {"way": way, "pictures": arguments.pictures, "boxes": len(places), "seconds": f"{seconds:.1f}",
         "boxes a second": f"{len(places) / seconds:.2f}", "times": f"{long / seconds:.1f}",
         "same class": f"{same} of {len(places)}"}
        for way, seconds in (("picture again for every box", long), ("one dense map a picture", short))
    ]  # fmt: skip
    report("evaluation", rows, {"times": long / short, "same": same / len(places)})


def _base() -> FGCLIP2:
    """Base-size vision tower; of the text tower, which is not used, next to nothing."""
    config = preset("base")
    config.text_config.vocab_size, config.text_config.num_hidden_layers = 4096, 1
    torch.manual_seed(0)
    model = Fgclip2Model(config).float().requires_grad_(False)
    return FGCLIP2(model, Processor.from_pretrained(resolve("tiny")), "random base")


def _places(arguments: Arguments, folder: Path) -> list[tuple[Path, Box]]:
    file, root = arguments.annotations, arguments.image_root
    if file is None:
        world, config = World(), SceneConfig(size=448, objects=(6, 8))
        file = write_coco((world.scene(seed, config) for seed in range(arguments.pictures)), folder, world.categories)
        root = folder / "images"
    records = islice(instances(file, root or file.parent), arguments.pictures)
    return [(record.image, box) for record in records for box in record.boxes]


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    command(main, Arguments)

"""What fusion adds to a detector that knows base classes only: ``python -m benchmarks.fusion`` after ``make ovd``.

On the held-out scenes, AP50 of

- the detector alone: its classes are the base names of its training, as in any closed-vocabulary detector, so an object
  of a novel class can only be missed or called a base name;
- the same detector, its boxes and scores fused with FG-CLIP 2's names: training-free, as with anybody's detector;
- its class-agnostic proposals, trained on base classes, fused; and the control, each name with another one's embedding;
- the detector's own open vocabulary: its head alone, and joined with the dense map, as ``make ovd`` reports it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks._report import command, report
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2.images import open_image

if TYPE_CHECKING:
    from PIL import Image

    from fgclip2_mmdet.inference import OpenVocabInferencer

ALONE: Final = "detector alone"
FUSED: Final = ("detector, fused", "proposals, fused")
_CONTROL: Final = f"{FUSED[1]}, names shuffled"
_CLOSED: Final = "base names"


@dataclass
class Arguments:
    """AP50 over base and novel classes, with names in both languages."""

    work_dir: Path = Path("work_dirs/ovd")
    """Of ``make ovd``."""
    pictures: int | None = None
    """Held-out scenes; all of them when not given."""
    batch_size: int = 8
    """Pictures computed together."""
    max_patches: int = 400
    """Of the dense map that names the boxes. Scenes of 320 px have 400 patches of 16; by itself the model takes
    the next of its usual counts, 576, and so goes beyond the 400 that the embedded model was trained on."""


class Named(NamedTuple):
    """What one way of naming finds in one picture."""

    way: str
    language: str
    boxes: Tensor
    """(K, 4) x1, y1, x2, y2 in pixels."""
    scores: Tensor
    """(K,), 0..1."""
    labels: Tensor
    """(K,), into the names of all classes."""


class Ways:
    """All ways of naming, from one pass of the detector and one dense map a picture.

    Args:
        trained: a two-stage detector; its vocabularies are replaced.
        names: language -> names of all classes, first that of the training.
        fusion: how scores are joined.

    Raises:
        Fgclip2Error: a detector without proposals.
    """

    def __init__(
        self, trained: OpenVocabInferencer, names: Mapping[str, Sequence[str]], fusion: FusionConfig | None = None
    ) -> None:
        from fgclip2_mmdet.vocabulary import as_vocabulary, shuffled

        self.trained, self.detector = trained, trained.detector
        if not hasattr(self.detector, "rpn_head"):
            raise Fgclip2Error("the comparison needs a detector with proposals; give --work-dir of a two-stage one")
        self.fusion = fusion or FusionConfig(nms_iou=0.5)
        model, known = self.detector.backbone.predictor, self.detector.trained_classes
        self.model = model
        self.language, first = next(iter(names.items()))
        self.base = torch.tensor([first.index(name) for name in known])
        self.detector.set_vocabulary(known, novel=(), name=_CLOSED)
        for language, every in names.items():
            self.detector.add_vocabulary(language, every, [name not in known for name in first])
        self.rescorers = {language: FusionRescorer(model, every, self.fusion) for language, every in names.items()}
        self.control = FusionRescorer(model, shuffled(as_vocabulary(first, model)), self.fusion)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[list[Named]]:
        """What every way finds in every picture."""
        from fgclip2_mmdet.inference import raw_picture

        packed = [self.trained.pipeline(raw_picture(image)) for image in images]
        batch = {key: [item[key] for item in packed] for key in ("inputs", "data_samples")}
        batch = self.detector.data_preprocessor(batch)
        regions, proposals = self.detector.look(batch["inputs"], batch["data_samples"])
        metas = [sample.metainfo for sample in batch["data_samples"]]
        head, usual = self.detector.roi_head, self.detector.roi_head.ensemble
        head.ensemble = replace(usual, alpha=0.0, beta=0.0)
        alone = head.detect(regions, metas)
        head.ensemble = usual
        joined = head.detect(regions, metas)
        found = []
        for index, (image, meta) in enumerate(zip(images, metas, strict=True)):
            closed = alone[_CLOSED][index]
            named = [Named(ALONE, self.language, closed.bboxes, closed.scores, self.base[closed.labels])]
            for way, results in (("open head", alone), ("open head and dense map", joined)):
                for language in self.rescorers:
                    own = results[language][index]
                    named.append(Named(way, language, own.bboxes, own.scores, own.labels))
            dense = self.model.dense_features(image, max_patches=self.fusion.max_patches)
            free = proposals[index]
            scale = free.bboxes.new_tensor([*meta["scale_factor"]] * 2)
            given = ((closed.bboxes, closed.scores), (free.bboxes / scale, free.scores.clamp(0, 1)))
            for language, rescorer in self.rescorers.items():
                for way, own in zip(FUSED, given, strict=True):
                    fused = rescorer(dense, *own)
                    named.append(Named(way, language, fused.boxes, fused.scores, fused.labels))
            fused = self.control(dense, *given[1])
            named.append(Named(_CONTROL, self.language, fused.boxes, fused.scores, fused.labels))
            found.append(named)
        return found


def main(arguments: Arguments) -> None:
    """Detect and evaluate."""
    from fgclip2.evaluation.average_precision import open_vocabulary_ap
    from fgclip2_mmdet.embedded import find_scenes
    from fgclip2_mmdet.inference import OpenVocabInferencer
    from fgclip2_mmdet.metric import coco_results

    data = find_scenes(arguments.work_dir / "scenes")
    truth = json.loads(data.val_annotations.read_text(encoding="utf-8"))
    truth["images"] = truth["images"][: arguments.pictures]
    shown = {image["id"] for image in truth["images"]}
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] in shown]
    ids = [category["id"] for category in truth["categories"]]  # in the order of the names
    fusion = FusionConfig(nms_iou=0.5, max_patches=arguments.max_patches)
    ways = Ways(OpenVocabInferencer.from_checkpoint(arguments.work_dir), data.names, fusion)
    results: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for start in tqdm(range(0, len(truth["images"]), arguments.batch_size)):
        batch = truth["images"][start : start + arguments.batch_size]
        pictures = [open_image(data.directory / "val" / item["file_name"]) for item in batch]
        for item, every in zip(batch, ways(pictures), strict=True):
            for named in every:
                content = {"bboxes": named.boxes.tolist(), "scores": named.scores, "labels": named.labels}
                results[named.way, named.language] += coco_results([{"img_id": item["id"], **content}], ids)
    figures = {key: open_vocabulary_ap(truth, found, data.novel) for key, found in results.items()}
    order = [ALONE, *FUSED, _CONTROL]
    rows: list[dict[str, object]] = []
    flat: dict[str, float] = {}
    for way, language in sorted(figures, key=lambda key: order.index(key[0]) if key[0] in order else len(order)):
        row = {name: round(figures[way, language][f"AP50_{name}"], 1) for name in ("base", "novel", "all")}
        rows.append({"classes by": way, "names": language, **row})
        flat |= {f"{way}, {language}, {name}": value for name, value in row.items()}
    report("fusion", rows, flat)


if __name__ == "__main__":
    command(main, Arguments)

"""Write a stock detector's boxes as ``fgclip2 eval`` reads them, to be named anew by FG-CLIP 2.

    python apps/ovd_boxes.py data/lvis/lvis_v1_minival_inserted_image_name.json --images data/coco \\
        --detector iSEE-Laboratory/llmdet_tiny --out predictions/lvis_minival.boxes.json
    python apps/ovd_boxes.py data/lvis/lvis_v1_val.json --images data/coco \\
        --detector CONFIG.py CHECKPOINT.pth --out predictions/lvis_val.boxes.json
    fgclip2 eval --tasks detection --data-root data --predictions predictions

The boxes have no class (category 0): what a detector of other classes calls them has no LVIS id, and a zero-shot
detector's boxes of several prompts are one box here. What was done stays beside the file until it is written, so that a
run that was stopped goes on.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.data.coco_results import NO_CLASS, ImageResults, save_results
from fgclip2.data.outputs import identity
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.boxes import image_name
from fgclip2.evaluation.readers.files import entry, read_object
from fgclip2.evaluation.sharing import Kept, Outcome, digest_of, share
from fgclip2.images import open_image
from fgclip2.names import parse_names, spoken

if TYPE_CHECKING:
    from fgclip2.fusion import Proposals

_STOPPED = "stopped; the same command goes on"


@dataclass
class Arguments:
    """Write a detector's boxes of the pictures of an annotation file as COCO results without classes."""

    annotations: Annotated[Path, tyro.conf.Positional]
    """COCO or LVIS JSON; its pictures are looked at."""
    images: Path
    """Folder that its pictures are in; of LVIS's files the one that has val2017/ and train2017/."""
    detector: tuple[str, ...]
    """CONFIG and CHECKPOINT of a stock mmdetection detector, or the directory or hub id of one of transformers'
    zero-shot detectors (MM-Grounding-DINO, LLMDet, OWLv2)."""
    out: Path
    """The results file, such as predictions/lvis_minival.boxes.json."""
    ask_for: str = ""
    """What a zero-shot detector is asked for, in English: "person, vehicle, animal"; without it the classes of the
    annotation file."""
    threshold: float = 0.05
    """Lowest score of a zero-shot detector's boxes, 0 to 1. A stock detector's is in its config (test_cfg)."""
    max_boxes: int = 1000
    """Of a picture, the best; fixed AP knows no limit. A detector's config may have a lower one (max_per_img)."""
    device: str = "auto"
    """auto (CUDA when there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.detector) <= 2 or (len(self.detector) == 1 and self.detector[0].endswith(".py")):
            raise Fgclip2Error("--detector takes CONFIG and CHECKPOINT, or the name of one zero-shot detector")
        zero_shot = len(self.detector) == 1
        useless = {
            "--ask-for": bool(self.ask_for) and not zero_shot,
            "--threshold": self.threshold != Arguments.threshold and not zero_shot,
        }
        given = [name for name, wrong in useless.items() if wrong]
        if given:
            raise Fgclip2Error(f"{' and '.join(given)} would do nothing with a stock detector; leave it out")
        if self.max_boxes < 1:
            raise Fgclip2Error(f"--max-boxes {self.max_boxes}: give 1 or more")
        if not self.images.is_dir():
            raise Fgclip2Error(f"--images {str(self.images)!r} is no folder; give the one that the pictures are in")

    def proposals(self, names: Sequence[str]) -> Proposals:
        """The detector; ``names`` are those of the annotation file."""
        if len(self.detector) == 2:
            from fgclip2_mmdet import MMDetProposals

            return MMDetProposals(*self.detector, self.device, max_boxes=self.max_boxes)
        from fgclip2.zero_shot import ZeroShotProposals

        asked = parse_names(self.ask_for, names) if self.ask_for else [spoken(name) for name in names]
        return ZeroShotProposals(self.detector[0], asked, self.device, self.threshold, self.max_boxes)


def run(arguments: Arguments) -> None:
    """Do what the command line says; see the module's text."""
    truth = read_object(arguments.annotations, "images", "categories")
    images = [entry(image, f"{arguments.annotations}, images", "id") for image in truth["images"]]
    names = [str(entry(item, f"{arguments.annotations}, categories", "name")["name"]) for item in truth["categories"]]
    paths = {
        image["id"]: arguments.images / image_name(image, arguments.annotations, arguments.images) for image in images
    }
    proposals = arguments.proposals(names)
    settings = [arguments.ask_for or names, arguments.threshold, arguments.max_boxes]
    how = digest_of("boxes", json.dumps([identity(arguments.detector), *settings]))
    kept = Kept(arguments.out.with_name(f".{arguments.out.name}.kept"))
    if len(kept):
        print(f"{len(kept)} pictures were done before")

    def key(image: Mapping[str, Any]) -> bytes:
        return digest_of(how, paths[image["id"]].read_bytes())

    def compute(image: Mapping[str, Any]) -> Outcome:
        """(M, 5) float32: a box and its score."""
        try:
            picture = open_image(paths[image["id"]])
        except Fgclip2Error as error:
            return Outcome(np.zeros((0, 5), np.float32), str(error))
        ((boxes, scores),) = proposals([picture])
        return Outcome(np.concatenate([boxes.numpy(), scores.numpy()[:, None]], 1).astype(np.float32))

    outcomes = share(images, compute, key, kept)
    failures = [(paths[image["id"]], outcome.failure) for image, outcome in zip(images, outcomes, strict=True)
                if outcome.failure is not None]  # fmt: skip
    if len(failures) == len(images):
        raise Fgclip2Error(f"not one picture could be read, nothing was written; the first: {failures[0][1]}"
                           if failures else f"{arguments.annotations} names no pictures")  # fmt: skip
    written = save_results(
        arguments.out,
        {image["id"]: _results(outcome.values) for image, outcome in zip(images, outcomes, strict=True)},
    )
    for path, reason in failures:
        print(f"without boxes: {path}: {reason}", file=sys.stderr)
    if not failures:  # else the next run has little to do
        shutil.rmtree(kept.folder, ignore_errors=True)
    most = max(len(outcome.values) for outcome in outcomes)
    print(f"{written:,} boxes of {len(images) - len(failures):,} pictures, at most {most:,} of one: {arguments.out}")
    if failures:
        print(f"{len(failures):,} pictures could not be read and have no boxes")


def _results(values: np.ndarray) -> ImageResults:
    """Boxes turned the right way round: those of untrained detectors may have a corner on the wrong side."""
    corners = values[:, :4].reshape(-1, 2, 2)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return ImageResults(boxes, values[:, 4], np.full(len(values), NO_CLASS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, 2 after an error that the user can mend, 130 after Ctrl-C."""
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)), _STOPPED)


if __name__ == "__main__":
    sys.exit(main())

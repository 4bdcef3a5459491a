"""Find what you name in your own pictures or videos, with a detector that ``ovd_train.py`` trained.

    python apps/ovd_detect.py fgclip2/assets/images/scene.png --classes "bread, 书包"
    python apps/ovd_detect.py photos/ clip.mp4 --classes-file classes.txt --out found

Or without any training, with the boxes of another detector, which FG-CLIP 2 names anew:

    python apps/ovd_detect.py photos/ --classes "dog, 红色汽车" --model qihoo360/fg-clip2-base \\
        --detector faster-rcnn_r50_fpn_1x_coco.py faster_rcnn_r50_fpn_1x_coco.pth
    python apps/ovd_detect.py photos/ --classes "dog, 红色汽车" --model qihoo360/fg-clip2-base \\
        --detector google/owlv2-base-patch16-ensemble --ask-for "animal, vehicle"
    python apps/ovd_detect.py photos/ --model qihoo360/fg-clip2-base \\
        --detections results.json --annotations instances_val.json

Large pictures in tiles, folders of many pictures in several runs:

    python apps/ovd_detect.py aerial/ --classes "car, 船" --tile 1024 --resume

Writes the pictures with their boxes, and one detections.json with every box; a detector that was trained with masks
gives them too, drawn and as COCO's run lengths. Any names will do, English or Chinese,
whether or not the detector was trained on them; without names it looks for what it was trained on, or for the classes
of --annotations.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

import fgclip2
from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.data.category_ids import category_ids
from fgclip2.data.coco import CocoDataset, load_coco
from fgclip2.data.coco_results import ImageResults, load_results, result_entries
from fgclip2.data.finding import find_in_pictures, find_in_video, keep_picture
from fgclip2.data.media import is_video
from fgclip2.data.outputs import Results, identity, source
from fgclip2.data.sources import Sources, check_out
from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.fusion import FusionConfig, FusionInferencer, FusionRescorer
from fgclip2.images import open_image
from fgclip2.names import FILES, said
from fgclip2.pretrained import DEFAULT_MODEL, ENVIRONMENT_VARIABLE
from fgclip2.progress import progress
from fgclip2.splitting import split_names
from fgclip2.tiles import TiledFinder, Tiling
from fgclip2.vocabulary import Vocabulary, load_classes, parse_names

if TYPE_CHECKING:
    from fgclip2.fusion import Proposals
    from fgclip2.predictor import FGCLIP2
    from fgclip2.tiles import Finder
    from fgclip2.vocabulary import ClassNames


_RESULTS = "results.json"


@dataclass
class Arguments:
    """Find what you name, English or Chinese, in pictures, folders of pictures, or videos."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures, folders (searched with their subfolders) and videos. A picture that you name must be readable; bad ones
    in a folder are counted and listed in failures.jsonl. With --detections one folder, of --annotations' pictures."""
    classes: str = ""
    """What to look for, separated by commas: "dog, 红色汽车"; quotes keep a comma in a name. Or a .safetensors file
    that `fgclip2 vocabulary` made."""
    classes_file: Path | None = None
    """The same from a file: .txt with one name a line, .json with a list of names, of {"name": "sofa", "synonyms":
    ["couch", "沙发"]}, or COCO's categories, or YOLO's data.yaml."""
    checkpoint: Path = Path("work_dirs/ovd")
    """A work directory of ovd_train.py (its newest checkpoint is taken), or an epoch_N.pth."""
    config: Path | None = None
    """The config of that training; normally found beside the checkpoint."""
    model: str | None = None
    """FG-CLIP 2: tiny, a directory or a hub id. Without it what the detector was trained on; with --detector and
    --detections $FGCLIP2_MODEL or qihoo360/fg-clip2-base."""
    detector: tuple[str, ...] = ()
    """CONFIG and CHECKPOINT of a stock mmdetection detector, or the directory or hub id of one of transformers'
    zero-shot detectors (MM-Grounding-DINO, LLMDet, OWLv2). Its boxes are named by --model; nothing needs training."""
    ask_for: str = ""
    """What a zero-shot detector is asked for, in English: "person, vehicle, animal"; without it the classes."""
    detections: Path | None = None
    """COCO results JSON of any detector, in place of running one; the pictures are those of --annotations."""
    annotations: Path | None = None
    """COCO JSON that --detections speaks of. Its objects, if it has any, give the AP before and after."""
    exponent: float = FusionConfig.exponent
    """With --detector and --detections: weight of FG-CLIP 2 against the detector's own score, 0 to 1."""
    nms_iou: float = 0.7
    """With these: of boxes of one name that overlap more, only the best stays; 1 keeps all. The paper names none."""
    temperature: float = FusionConfig.temperature
    """With these: multiplier of the cosine before the softmax over classes."""
    multi_label: bool = False
    """With these: the best pairs of box and class, in place of the best class of every box."""
    max_patches: int | None = FusionConfig.max_patches
    """With these: most patches of the dense map; without it as many as a picture's size asks for."""
    max_detections: int = FusionConfig.max_detections
    """With these: a picture keeps so many, the best."""
    out: Path = Path("outputs/ovd_detect")
    """Folder for the results."""
    score_thr: float = 0.3
    """Lowest score to keep, 0 to 1. Try less when too little is found."""
    contrast: bool = True
    """Let classes that you did not name compete, so that "dog" alone does not win every cat: those of the training, of
    a stock detector's checkpoint, or of --annotations. A zero-shot detector has none; name what else is to be seen."""
    guess_translations: bool = False
    """Where no table translates a name, take the nearest embedding for its translation; such guesses can be wrong."""
    every: int = 1
    """Look at every n-th frame of a video."""
    batch_size: int = 4
    """Pictures, frames or tiles computed together."""
    tile: int | None = None
    """Look at larger pictures in square tiles of so many pixels, and once as a whole: for small things in 4K and up."""
    overlap: float = Tiling.overlap
    """Of neighbouring tiles, as a share of their side; things up to this size are whole in at least one."""
    resume: bool = False
    """Leave out what an earlier run with --resume and the same settings has done, whether it ended or was stopped."""
    device: str = "auto"
    """auto (CUDA when there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        if not 0 <= self.score_thr <= 1:
            raise Fgclip2Error(f"--score-thr {self.score_thr}: give a number from 0 to 1")
        if self.batch_size < 1:
            raise Fgclip2Error(f"--batch-size {self.batch_size}: give 1 or more")
        if not self.inputs:
            hint = " (before --detector, which takes all that follows it)" if len(self.detector) > 2 else ""
            raise Fgclip2Error(f"nothing to look at; name pictures, folders or videos{hint}")
        self._check_sources()
        self.tiling()
        if self.classes and self.classes_file:
            raise Fgclip2Error("--classes and --classes-file were both given; give one of them")

    def _check_sources(self) -> None:
        """One source of boxes, and no option that would do nothing with it."""
        if len(self.detector) > 2 or (len(self.detector) == 1 and self.detector[0].endswith(".py")):
            raise Fgclip2Error("--detector takes CONFIG and CHECKPOINT, or the name of one zero-shot detector")
        if self.detector and self.detections:
            raise Fgclip2Error("--detector and --detections were both given; give one of them")
        if bool(self.detections) != bool(self.annotations):
            raise Fgclip2Error("--detections and --annotations belong together: results, and the pictures they are of")
        if self.detections and (len(self.inputs) != 1 or not self.inputs[0].is_dir()):
            raise Fgclip2Error("with --detections name one folder: the one that the annotation file's pictures are in")
        fused = bool(self.detector or self.detections)
        useless = {
            "--checkpoint": fused and self.checkpoint != Arguments.checkpoint,
            "--config": fused and self.config is not None,
            "--exponent": not fused and self.exponent != Arguments.exponent,
            "--nms-iou": not fused and self.nms_iou != Arguments.nms_iou,
            "--temperature": not fused and self.temperature != Arguments.temperature,
            "--multi-label": not fused and self.multi_label,
            "--max-patches": not fused and self.max_patches != Arguments.max_patches,
            "--max-detections": not fused and self.max_detections != Arguments.max_detections,
            "--ask-for": bool(self.ask_for) and len(self.detector) != 1,
            "--every": bool(self.detections) and self.every != Arguments.every,
            "--batch-size": bool(self.detections) and self.batch_size != Arguments.batch_size,
            "--tile": bool(self.detections) and self.tile is not None,
            "--overlap": self.tile is None and self.overlap != Arguments.overlap,
        }
        given = [name for name, wrong in useless.items() if wrong]
        if given:
            raise Fgclip2Error(f"{' and '.join(given)} would do nothing with this source of boxes; leave it out")
        if self.max_patches is not None and self.max_patches < 1:
            raise Fgclip2Error(f"--max-patches {self.max_patches}: give 1 or more, such as 1024")
        if fused:
            self.fusion()

    def fusion(self) -> FusionConfig:
        """How scores are joined."""
        return FusionConfig(
            temperature=self.temperature,
            exponent=self.exponent,
            assign="several" if self.multi_label else "best",
            max_detections=self.max_detections,
            nms_iou=None if self.nms_iou == 1 else self.nms_iou,
            max_patches=self.max_patches,
            guess_translations=self.guess_translations,
        )

    def tiling(self) -> Tiling | None:
        """How large pictures are cut."""
        return (
            None
            if self.tile is None
            else Tiling(self.tile, self.overlap, nms_iou=self.nms_iou, max_detections=self.max_detections)
            if self.detector
            else Tiling(self.tile, self.overlap)
        )

    def settings(self) -> dict[str, Any]:
        """All that results depend on beside the pictures."""
        without = {"inputs", "out", "batch_size", "device", "resume"}
        if self.detector or self.detections:
            without |= {"checkpoint", "config"}
        found = {item.name: identity(getattr(self, item.name)) for item in fields(self) if item.name not in without}
        if self.detector or self.detections:  # else the checkpoint says which model
            found["model"] = identity(self.model or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_MODEL)
        return found

    def names(self, known: Iterable[str] = ()) -> ClassNames | Vocabulary | None:
        """The classes that were asked for, or ``None`` for those of the training.

        Args:
            known: names of the training or of an annotation file, whose commas do not cut.
        """
        if self.classes_file:
            return load_classes(self.classes_file)
        if not self.classes:
            return None
        if self.classes.lower().endswith(".safetensors"):
            return Vocabulary.load(self.classes)
        if self.classes.lower().endswith(FILES):
            raise Fgclip2Error(f"--classes {self.classes!r} looks like a file; give it as --classes-file")
        return parse_names(self.classes, known)

    def check_names(self) -> None:
        """Refuse what no known name could mend, before anything is loaded."""
        if (
            self.classes_file
            or not split_names(self.classes)
            or self.classes.lower().endswith((".safetensors", *FILES))
        ):
            self.names()


def run(arguments: Arguments) -> None:
    """Do what the command line says; see the module's text."""
    arguments.check_names()
    check_out(arguments.out, arguments.inputs)
    if arguments.detections:
        rescore(arguments)
        return
    sources = Sources.collect(arguments.inputs, arguments.out, arguments.every)
    fusion = None
    find: Finder
    if arguments.detector:
        find, fusion = _stock_finder(arguments)
    else:
        find = _trained_finder(arguments)
    tiled: TiledFinder | None = None
    if tiling := arguments.tiling():
        find = tiled = TiledFinder(find, tiling, arguments.batch_size)
    with Results(arguments.out, arguments.settings() if arguments.resume else None) as results:
        if results.done:
            print(f"{len(results.done)} pictures and videos were done before")
        find_in_pictures(find, sources.pictures(), results, arguments.batch_size)
        for video in sources.videos:
            find_in_video(find, video, arguments.every, results, arguments.batch_size)
        if not results.entries:
            first = results.failures[0]["error"] if results.failures else "there is no frame in the video"
            raise Fgclip2Error(f"not one picture could be read, nothing was written; the first: {first}")
        results.commit()
    _report(results, sources, arguments)
    if fusion is not None:
        _say_left_out(fusion.outside, fusion.cut + (tiled.cut if tiled else 0), arguments.max_detections)


def _trained_finder(arguments: Arguments) -> Finder:
    from fgclip2_mmdet.inference import OpenVocabInferencer

    inferencer = OpenVocabInferencer.from_checkpoint(
        arguments.checkpoint, config=arguments.config, model=arguments.model, device=arguments.device
    )
    _say_what_it_knows(inferencer.detector.backbone.predictor)
    names = arguments.names(inferencer.classes)
    if names is None:
        names = list(inferencer.classes)
        print(f"looking for the {len(names)} classes of the training; --classes names others")
    others = inferencer.set_classes(names, contrast=arguments.contrast, guess_translations=arguments.guess_translations)
    if others:
        print(f"{others} other classes of the training compete (--no-contrast leaves them out)")
    _say_same(inferencer.left_out, inferencer.classes)
    return lambda images: inferencer(images, arguments.score_thr)


def _stock_finder(arguments: Arguments) -> tuple[Finder, FusionInferencer]:
    if not (arguments.classes or arguments.classes_file):
        raise Fgclip2Error("--detector needs --classes or --classes-file: its own classes are not looked at")
    for file in arguments.detector if len(arguments.detector) == 2 else ():
        if not Path(file).is_file():
            raise Fgclip2Error(f"--detector: {file!r} does not exist; give CONFIG and CHECKPOINT")
    predictor = fgclip2.load(arguments.model, device=arguments.device)
    proposals: Proposals
    if len(arguments.detector) == 2:
        from fgclip2_mmdet import MMDetProposals

        config, checkpoint = arguments.detector
        proposals = MMDetProposals(config, checkpoint, arguments.device)
        others: Sequence[str] = proposals.classes
        names = arguments.names(others)
    else:
        from fgclip2.zero_shot import ZeroShotProposals

        names = arguments.names()
        own = list(names.names if isinstance(names, Vocabulary) else names or ())
        asked = parse_names(arguments.ask_for, own) if arguments.ask_for else own
        proposals = ZeroShotProposals(arguments.detector[0], asked, arguments.device)
        others = ()  # what it was asked for may be general: "animal" must not win the dogs
    assert names is not None
    inferencer = FusionInferencer(proposals, predictor, arguments.fusion())
    _say_what_it_knows(predictor)
    _say_contrast(inferencer.set_classes(names, others if arguments.contrast else ()), len(names))
    _say_same(inferencer.left_out, inferencer.classes)
    return (lambda images: inferencer(images, arguments.score_thr)), inferencer


def rescore(arguments: Arguments) -> None:
    """Name the boxes of a results file; without names, by the classes of the annotation file."""
    assert arguments.detections is not None
    assert arguments.annotations is not None
    dataset = load_coco(arguments.annotations, arguments.inputs[0], check_sizes=True, need_objects=False)
    names = arguments.names(dataset.names)
    given = load_results(arguments.detections, dataset)
    predictor = fgclip2.load(arguments.model, device=arguments.device)
    _say_what_it_knows(predictor)
    contrast = dataset.names if names and arguments.contrast else ()
    rescorer = FusionRescorer(predictor, names or dataset.names, arguments.fusion(), contrast)
    if names:
        _say_contrast(len(rescorer.contrast), len(names))
        _say_same(rescorer.left_out, rescorer.vocabulary.names)
    own = category_ids(rescorer.vocabulary, dataset.categories, predictor if arguments.guess_translations else None)
    ids, known = own.ids, bool(own.ids)
    fused: dict[int, list[dict[str, Any]]] = {}
    outside = cut = 0
    with Results(arguments.out, arguments.settings() if arguments.resume else None) as results:
        earlier = _earlier_results(results, dataset) if known else {}
        if results.done:
            print(f"{len(results.done)} pictures were done before")
        for image in progress(dataset.images):
            path = dataset.path(image)
            key = source(path)
            done = key in results.done
            if done and (not known or image.id in earlier):
                fused[image.id] = earlier.get(image.id, [])
                continue
            try:
                picture = open_image(path)
            except Fgclip2Error as error:
                results.fail(path, str(error))
                continue
            found = rescorer(picture, given[image.id].boxes, given[image.id].scores)
            outside, cut = outside + found.outside, cut + found.cut
            every = found.above(0.0)
            if known:
                rows = [row for row, label in enumerate(every.labels) if label in ids]
                categories = np.array([ids[every.labels[row]] for row in rows], np.int64)
                named = ImageResults(every.boxes[rows], every.scores[rows], categories)
                fused[image.id] = result_entries(image.id, named)
            if not done:
                if known:
                    results.asides[str(path)] = fused[image.id]
                keep_picture(results, path, Path(image.file_name), picture, found.above(arguments.score_thr), key)
        if not results.entries:
            raise Fgclip2Error(f"not one picture could be read, nothing was written; see {arguments.inputs[0]}")
        if known:
            entries = [entry for of_image in fused.values() for entry in of_image]
            place, _ = results.place(Path(_RESULTS), (".json",), ".json")
            write_atomically(place, json.dumps(entries).encode())
        results.commit()
    _report(results, Sources(), arguments)
    _say_left_out(outside, cut, arguments.max_detections)
    for line in own.notes(arguments.annotations.name, _RESULTS):
        print(line)
    if not known:
        return
    print(f"results:  {arguments.out / _RESULTS} (COCO)")
    if dataset.annotations:
        wanted = set(ids.values())
        files = {"as given": arguments.detections, "fused": arguments.out / _RESULTS}
        _compare(arguments.annotations, files, wanted, set(fused))


def _earlier_results(results: Results, dataset: CocoDataset) -> dict[int, list[dict[str, Any]]]:
    """Image id -> entries of the results file that earlier runs made, finished or stopped."""
    found: dict[int, list[dict[str, Any]]] = {}
    if file := results.earlier(_RESULTS):
        found = {image.id: [] for image in dataset.images}
        for entry in json.loads(file.read_text(encoding="utf-8")):
            found[entry["image_id"]].append(entry)
    asides = {image.id: results.asides.get(str(dataset.path(image))) for image in dataset.images}
    return found | {number: own for number, own in asides.items() if own is not None}


def _compare(annotations: Path, files: dict[str, Path], categories: set[int], images: set[int]) -> None:
    """Print AP of results files, over some categories and pictures."""
    try:
        from fgclip2.evaluation.average_precision import FREQUENCIES, evaluate_boxes, is_lvis
    except ImportError:
        print("no AP: it needs pip install 'fgclip2[mmdet]'")
        return
    from rich import print as show
    from rich.table import Table

    def chosen(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entry for entry in entries if entry["category_id"] in categories and entry["image_id"] in images]

    truth = json.loads(annotations.read_text(encoding="utf-8-sig"))
    truth["images"] = [image for image in truth["images"] if image["id"] in images]
    truth["categories"] = [category for category in truth["categories"] if category["id"] in categories]
    truth["annotations"] = chosen(truth["annotations"])
    federated = is_lvis(truth)
    protocol = "LVIS" if federated else "COCO"
    print(
        f"on {len(images)} pictures and {len(categories)} classes of {annotations.name}, {protocol}'s protocol, in %:"
    )
    table = Table("boxes", "AP50", "AP 0.50:0.95", *(FREQUENCIES.values() if federated else ()))
    for name, file in files.items():
        entries = chosen(json.loads(file.read_text(encoding="utf-8-sig")))
        figures = evaluate_boxes(truth, entries, (), federated=federated).figures
        columns = ("AP50_all", "AP_all", *(FREQUENCIES.values() if federated else ()))
        table.add_row(name, *("-" if math.isnan(figures[key]) else f"{figures[key]:.1f}" for key in columns))
    show(table)


def _say_contrast(others: int, names: int) -> None:
    if others:
        print(f"{others} other classes compete (--no-contrast leaves them out)")
    else:
        print(f"nothing but your {names} names competes for the boxes, so every box gets one of them")


def _say_same(left_out: Sequence[str], names: Sequence[str], most: int = 8) -> None:
    """Which classes were taken to mean one that was named, unless they bear its name."""
    own = set(map(said, names))
    others = [name for name in left_out if said(name) not in own]
    if others:
        more = f" and {len(others) - most} more" if len(others) > most else ""
        print(f"taken to mean one of your names, so not competing: {', '.join(others[:most])}{more}")


def _say_left_out(outside: int, cut: int, most: int) -> None:
    if outside:
        print(f"{outside} boxes of the detector had no area inside their picture and were left out")
    if cut:
        print(f"{cut} boxes beyond the best {most} of a picture were left out")


def _say_what_it_knows(predictor: FGCLIP2) -> None:
    if predictor.embedded:
        print("this detector stands on the embedded model, which knows drawn glyphs only: photographs need another one")


def _report(results: Results, sources: Sources, arguments: Arguments) -> None:
    counts: dict[str, int] = {}
    for entry in results.entries:
        for label in entry["labels"]:
            counts[label] = counts.get(label, 0) + 1
    found = ", ".join(f"{label} {number}" for label, number in sorted(counts.items(), key=lambda item: -item[1])[:12])
    what = "pictures and frames" if sources.videos else "pictures"
    print(f"{len(results.entries)} {what}, {sum(counts.values())} boxes with a score of {arguments.score_thr} or more")
    print(f"found: {found or 'nothing; try a lower --score-thr'}")
    if sources.ignored:
        print(f"{sources.ignored} other files in the folders were left alone")
    if results.failures:
        listing = arguments.out / "failures.jsonl"
        videos = sum(is_video(failure["image"]) for failure in results.failures)
        numbers = {"pictures could not be read": len(results.failures) - videos, "videos not to their end": videos}
        what = ", ".join(f"{number} {problem}" for problem, number in numbers.items() if number)
        print(f"{what}, see {listing}; first: {results.failures[0]['error']}")
    print(f"boxes:    {arguments.out / 'detections.json'}")
    drawn = list(dict.fromkeys(entry["picture"] for entry in results.entries))
    print(f"pictures: {arguments.out}{os.sep} ({len(drawn)}, such as {arguments.out / drawn[0]})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())

"""Segment what you name in your own pictures or videos, without training or with a head of ``seg_train.py``.

    python apps/seg_predict.py fgclip2/assets/images/scene.png --classes "bread, 书包" --model tiny
    python apps/seg_predict.py photos/ clip.mp4 --classes-file classes.json --model qihoo360/fg-clip2-base --out found
    python apps/seg_predict.py fgclip2/assets/images/scene.png --classes "bread, 书包" --checkpoint work_dirs/seg
    python apps/seg_predict.py photos/ --classes "dog, 红色汽车" --checkpoint work_dirs/seg_instances

Writes for every picture an overlay with a legend and an index PNG (0: none of your classes, k: the k-th class), and one
segments.json with the areas. With a Mask R-CNN the overlay has boxes too, the PNG numbers things (0: nothing, k: the
k-th thing), and instances.json has boxes, scores, names, areas and masks as COCO results. Any names will do, English or
Chinese; with --checkpoint and without names those of the training are looked for.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import tyro
from PIL import Image

import fgclip2
from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.data.finding import up_to_damage
from fgclip2.data.media import VideoReader, VideoWriter
from fgclip2.data.outputs import Results
from fgclip2.data.sources import Sources, check_out
from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image
from fgclip2.instances import InstanceSegmentation
from fgclip2.names import FILES
from fgclip2.progress import progress
from fgclip2.segmentation import DenseSegmentor, Segmentation, SegmentationConfig
from fgclip2.visualize import draw_instances, draw_segmentation
from fgclip2.vocabulary import ClassNames, Vocabulary, load_classes, parse_names

_KEPT_SUFFIXES = (".jpg", ".jpeg", ".png")  # other pictures are written as PNG
_PATCHES = 4096
_AREAS, _THINGS = "segments.json", "instances.json"

Found: TypeAlias = Segmentation | InstanceSegmentation
Segmentor: TypeAlias = Callable[[Image.Image], Found]


@dataclass
class Arguments:
    """Segment what you name, English or Chinese, in pictures, folders of pictures, or videos."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures, folders (searched with their subfolders) and videos. A picture that you name must be readable; bad ones
    in a folder are counted and listed in failures.jsonl."""
    classes: str = ""
    """What to look for, separated by commas: "天空, tree, 红色汽车"; or a .safetensors file that `fgclip2 vocabulary`
    made."""
    classes_file: Path | None = None
    """The same from a file: .txt with one name a line, or .json with a list of names, of {"name": "sofa", "synonyms":
    ["couch", "沙发"]}, or COCO's categories."""
    checkpoint: Path | None = None
    """A work directory of seg_train.py, or a .pth file in it, of a segmentor or a Mask R-CNN; without one nothing
    trained is used."""
    model: str | None = None
    """FG-CLIP 2: tiny, a directory or a hub id. Without it that of the checkpoint, or without a checkpoint
    $FGCLIP2_MODEL or qihoo360/fg-clip2-base."""
    out: Path = Path("outputs/seg_predict")
    """Folder for the results."""
    max_patches: int | None = None
    """Most patches of a picture or tile, up to 16,384; without it those of the training, or 4,096."""
    threshold: float | None = None
    """Score below which a pixel is none of your classes: a cosine, or with --checkpoint a score from 0 to 1; of a
    Mask R-CNN the least score of a thing, 0.3 without it."""
    background: str = ""
    """Training-free: phrases that compete with your classes and mean none of them: "wall, 地面"."""
    tile: int | None = None
    """Training-free: side in pixels of overlapping tiles, for pictures with small things in them."""
    refine: bool = False
    """Training-free: let the borders follow the picture's edges."""
    every: int = 1
    """Look at every n-th frame of a video."""
    device: str = "auto"
    """auto (CUDA when there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise Fgclip2Error("nothing to look at; name pictures, folders or videos")
        if self.classes and self.classes_file:
            raise Fgclip2Error("--classes and --classes-file were both given; give one of them")
        if not self.classes and not self.classes_file and self.checkpoint is None:
            raise Fgclip2Error('nothing to look for; name --classes "天空, tree, 红色汽车", or give a --checkpoint')
        useless = {"--background": self.background, "--tile": self.tile, "--refine": self.refine}
        given = [name for name, value in useless.items() if value and self.checkpoint is not None]
        if given:
            raise Fgclip2Error(f"{' and '.join(given)} would do nothing with --checkpoint; leave it out")
        self.config()

    def config(self) -> SegmentationConfig:
        """How pictures are segmented without a checkpoint."""
        phrases = tuple(parse_names(self.background)) if self.background else ()
        threshold = None if self.checkpoint else self.threshold
        return SegmentationConfig(
            _PATCHES if self.max_patches is None else self.max_patches,
            tile=self.tile,
            threshold=threshold,
            background=phrases,
            refine=self.refine,
        )

    def names(self) -> ClassNames | Vocabulary | None:
        """The classes that were asked for, or ``None`` for those of the training."""
        if self.classes_file:
            return load_classes(self.classes_file)
        if self.classes.lower().endswith(".safetensors"):
            return Vocabulary.load(self.classes)
        if self.classes.lower().endswith(FILES):
            raise Fgclip2Error(f"--classes {self.classes!r} looks like a file; give it as --classes-file")
        return parse_names(self.classes) if self.classes else None


def run(arguments: Arguments) -> None:
    """Do what the command line says; see the module's text."""
    names = arguments.names()
    check_out(arguments.out, arguments.inputs)
    sources = Sources.collect(arguments.inputs, arguments.out, arguments.every)
    segment, listing = _training_free(arguments, names) if arguments.checkpoint is None else _trained(arguments, names)
    with Results(arguments.out, listing=listing) as results:
        for path, name in progress(sources.pictures()):
            try:
                image = open_image(path)
            except Fgclip2Error as error:
                results.fail(path, str(error))
                continue
            _keep(results, path, name, image, segment(image))
        for video in sources.videos:
            _segment_video(segment, video, arguments.every, results)
        if not results.entries:
            first = results.failures[0]["error"] if results.failures else "there is no frame in the video"
            raise Fgclip2Error(f"not one picture could be read, nothing was written; the first: {first}")
        written = results.commit()
    # The masks that an earlier run's other listing spoke of have been written over.
    (arguments.out / (_AREAS if listing == _THINGS else _THINGS)).unlink(missing_ok=True)
    _report(results, sources, written, arguments)


def _trained(arguments: Arguments, names: ClassNames | Vocabulary | None) -> tuple[Segmentor, str]:
    """What a checkpoint is, and what its listing is called."""
    from fgclip2_detectron2.inference import load_inferencer

    assert arguments.checkpoint is not None
    warnings.filterwarnings("ignore", category=UserWarning, module="detectron2|torch|fvcore")
    inferencer, facts = load_inferencer(
        arguments.checkpoint,
        arguments.classes if isinstance(names, list) else names,  # names of the training may have commas
        model=arguments.model,
        max_patches=arguments.max_patches,
        threshold=arguments.threshold,
        device=arguments.device,
    )
    _say_what_it_knows(inferencer.predictor)
    if inferencer.max_patches != facts["max_patches"]:
        print(f"--max-patches {inferencer.max_patches} as you say; in the training it was {facts['max_patches']}")
    if names is None:
        print(f"looking for the {len(inferencer.names)} classes of the training; --classes names others")
    return inferencer, _THINGS if facts.get("instances") else _AREAS


def _training_free(arguments: Arguments, names: ClassNames | Vocabulary | None) -> tuple[Segmentor, str]:
    assert names is not None  # the arguments were checked
    predictor = fgclip2.load(arguments.model, device=arguments.device)
    _say_what_it_knows(predictor)
    if isinstance(names, Vocabulary):
        names.require(predictor)
        names = names.to(predictor.device)
    segmentor = DenseSegmentor(predictor, names, arguments.config())
    if arguments.threshold is None and not arguments.background:
        print(
            f"every pixel gets one of your {len(segmentor.names)} names; --background or --threshold let some have none"
        )
    return segmentor, _AREAS


def _say_what_it_knows(predictor: fgclip2.FGCLIP2) -> None:
    if predictor.embedded:
        print("this is the embedded model, which knows drawn glyphs only: photographs need another one")


def _keep(results: Results, path: Path, name: Path, image: Image.Image, found: Found) -> None:
    """The overlay, the index picture and the entry."""
    target, called = results.place(name, _KEPT_SUFFIXES, ".png")
    _drawn(image, found).save(target, quality=92)
    target, mask = results.place(Path("masks") / Path(called).with_suffix(".png"), (".png",), ".png")
    found.mask_image().save(target)
    described = _described(image, found, len(results.entries) + 1)
    results.entries.append({"image": str(path), **described, "picture": called, "mask": mask})


def _segment_video(segment: Segmentor, path: Path, every: int, results: Results) -> None:
    """One MP4 of overlays, and an entry and an index picture a frame; of a damaged video up to the damage."""
    problems: list[Fgclip2Error] = []
    before = len(results.entries)
    try:
        reader = VideoReader(path, every)
    except Fgclip2Error as error:
        results.fail(path, str(error))
        return
    target, called = results.place(Path(path.name), (".mp4",), ".mp4")
    masks = Path("masks") / Path(called).with_suffix("")  # not the video's own name, which another may have too
    with (
        reader,
        VideoWriter(target, reader.rate / every) as writer,
        progress(total=-(-reader.frames // every) or None, unit="frame") as bar,
    ):
        for frame in up_to_damage(reader, problems):
            found = segment(frame.image)
            writer.add(_drawn(frame.image, found))
            place, mask = results.place(masks / f"{frame.index:06d}.png", (".png",), ".png")
            found.mask_image().save(place)
            where = {"image": str(path), "frame": frame.index, "time": round(frame.time, 3)}
            described = _described(frame.image, found, len(results.entries) + 1)
            results.entries.append({**where, **described, "picture": called, "mask": mask})
            bar.update()
    count = len(results.entries) - before
    if not count:
        target.unlink(missing_ok=True)  # an MP4 without a frame
    if problems:
        results.fail(path, f"{problems[0]}; {count} frames could be read before that and are kept")


def _drawn(image: Image.Image, found: Found) -> Image.Image:
    if isinstance(found, InstanceSegmentation):
        return draw_instances(image, found)
    return draw_segmentation(image, found.labels, found.names)


def _described(image: Image.Image, found: Found, number: int) -> dict[str, Any]:
    """An entry's facts; ``number`` counts the entries from 1, and is a picture's id in COCO results."""
    if isinstance(found, InstanceSegmentation):
        return {"size": list(image.size), "image_id": number, "instances": found.coco_results(number)}
    values = {name: index for index, name in enumerate(found.names, start=1)}
    segments = [{"value": values[area["name"]], **area} for area in found.areas()]
    return {"size": list(image.size), "segments": segments}


def _report(results: Results, sources: Sources, written: list[Path], arguments: Arguments) -> None:
    print(f"{len(results.entries)} {'pictures and frames' if sources.videos else 'pictures'}")
    print(f"found: {', '.join(_summary(results.entries)) or 'nothing; try a lower --threshold'}")
    if sources.ignored:
        print(f"{sources.ignored} other files in the folders were left alone")
    if results.failures:
        listing = arguments.out / "failures.jsonl"
        named = {str(path) for path in sources.videos}
        videos = sum(failure["image"] in named for failure in results.failures)
        numbers = {"pictures could not be read": len(results.failures) - videos, "videos not to their end": videos}
        counted = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
        print(f"{counted}, see {listing}; first: {results.failures[0]['error']}")
    drawn = [path for path in written if path.suffix in (*_KEPT_SUFFIXES, ".mp4") and "masks" not in path.parts]
    things = results.listing == _THINGS
    print(f"{'things:  ' if things else 'areas:   '} {arguments.out / results.listing}")
    meaning = "0: nothing, k: the k-th thing" if things else "0: none of them, k: the k-th class"
    print(f"masks:    {arguments.out / 'masks'}{os.sep} ({meaning})")
    print(f"pictures: {arguments.out}{os.sep} ({len(drawn)}, such as {drawn[-1]})")


def _summary(entries: Sequence[dict[str, Any]]) -> list[str]:
    """The classes that were found most: their share of the pictures, or how many things."""
    amounts: Counter[str] = Counter()
    for entry in entries:
        for area in entry.get("segments", ()):
            amounts[area["name"]] += area["share"] / len(entries)
        amounts.update(thing["name"] for thing in entry.get("instances", ()))
    counted = "instances" in entries[0]
    return [f"{name} {int(amount) if counted else format(amount, '.1%')}" for name, amount in amounts.most_common(12)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())

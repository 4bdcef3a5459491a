"""Finding small things in a collection, with and without regions, in both languages: ``python -m benchmarks.search``.

Held-out scenes are written as files and indexed. A query is the phrase of one small object that names its colour; a
hit is right when the phrase is true of something in the picture, and its box when it overlaps such a thing by IoU 0.3.
Where people could disagree whether the phrase is true, the picture is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fgclip2
from benchmarks._report import command, report
from fgclip2.data.openmoji import Scene, SceneConfig, SceneObject, World, truth
from fgclip2.data.openmoji.writers import write_finehard
from fgclip2.data.records import LANGUAGES
from fgclip2.errors import Fgclip2Error
from fgclip2.search.build import build_store
from fgclip2.search.search import Index

TOP = 10
IOU = 0.3


@dataclass
class Arguments:
    """Recall of small objects and of captions, whether the box is right, and the time of a query."""

    model: str = "tiny"
    """What ``fgclip2.load`` takes."""
    scenes: int = 2000
    """Pictures of the collection."""
    queries: int = 300
    """Most phrases of small objects; captions are a third as many."""
    size: int = 224
    """Side of a scene in pixels; it shows 3 to 6 objects."""
    small: float = 0.2
    """Longest side of a small object, as a share of the picture's."""
    rerank: int = 20
    """Pictures that are looked at again."""
    work_dir: Path = Path("work_dirs/search")
    """For the scenes and the store; what is there of an earlier run is used."""


@dataclass(frozen=True)
class Way:
    """One way to search."""

    name: str
    region_weight: float | None
    rerank: bool = False


WAYS = (
    Way("whole pictures", 0.0),
    Way("regions", 1.0),
    Way("both", None),
    Way("both, looked at again", None, True),
)


def main(arguments: Arguments) -> None:
    """Index, ask, and report."""
    model = fgclip2.load(arguments.model, dtype="float32")  # figures do not depend on the processor
    config = SceneConfig(size=arguments.size, objects=(3, 6))
    world = World()
    scenes = [world.scene(seed, config) for seed in range(arguments.scenes)]
    folder = arguments.work_dir / f"{arguments.size}-{arguments.scenes}"
    if not (folder / "finehard_en.json").exists():
        write_finehard(scenes, folder, lossless=True)
    done = build_store(folder / "images", folder / f"store-{model.hash[:12]}", model)
    index = Index.open(folder / f"store-{model.hash[:12]}", model)
    smalls = [
        thing
        for scene in scenes
        for thing in scene.objects
        if thing.attributes.colour is not None and _longest(thing) <= arguments.small * arguments.size
    ][: arguments.queries]
    if not smalls:
        raise Fgclip2Error(f"{arguments.scenes} scenes have no object that small; take more scenes")
    answers = [_Answer.of(thing, scenes) for thing in smalls]
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for way in WAYS:
        for language in LANGUAGES:
            texts = [thing.phrases[language] for thing in smalls]
            row = _measure(index, way, texts, answers, arguments.rerank)
            rows.append({"queries": "small objects", "by": way.name, "language": language, **row})
    for way in WAYS[:3]:
        for language in LANGUAGES:
            texts = [scene.short[language][0] for scene in scenes[: arguments.queries // 3]]
            own = [_Answer({_name(scene): []}, frozenset()) for scene in scenes]
            row = _measure(index, way, texts, own[: len(texts)], arguments.rerank)
            rows.append({"queries": "captions", "by": way.name, "language": language, **row, "box": "-"})
    for row in rows:
        for measure in ("R@1", "R@10", "box", "ms"):
            if row[measure] != "-":
                figures[f"{row['queries']}, {row['by']}, {row['language']}, {measure}"] = float(str(row[measure]))
    if done.embedded:
        figures["pictures indexed a second"] = round(done.embedded / done.seconds, 1)
    figures["bytes a picture"] = round(sum(file.bytes for file in index.store.manifest.files()) / len(index))
    report("search", rows, figures)


@dataclass(frozen=True)
class _Answer:
    """Pictures that are right, with the boxes of what makes them so; and pictures that are passed over."""

    right: dict[str, list[tuple[float, float, float, float]]]
    doubtful: frozenset[str]

    @classmethod
    def of(cls, thing: SceneObject, scenes: Sequence[Scene]) -> _Answer:
        right: dict[str, list[tuple[float, float, float, float]]] = {}
        doubtful: set[str] = set()
        for scene in scenes:
            verdicts = [truth(thing.attributes, other) for other in scene.objects]
            if True in verdicts:
                boxes = [other.box for other, verdict in zip(scene.objects, verdicts, strict=True) if verdict]
                right[_name(scene)] = boxes
            elif None in verdicts:
                doubtful.add(_name(scene))
        return cls(right, frozenset(doubtful))


def _measure(
    index: Index, way: Way, texts: Sequence[str], answers: Sequence[_Answer], rerank: int
) -> dict[str, object]:
    first = tenth = located = 0
    begun = time.perf_counter()
    for text, answer in zip(texts, answers, strict=True):
        hits = index.search(text, top=3 * TOP, rerank=rerank if way.rerank else 0, region_weight=way.region_weight)
        judged = [hit for hit in hits if hit.name not in answer.doubtful][:TOP]
        place = next((number for number, hit in enumerate(judged) if hit.name in answer.right), None)
        if place is not None:
            tenth += 1
            first += place == 0
            located += any(_iou(judged[place].box, box) >= IOU for box in answer.right[judged[place].name])
    seconds = time.perf_counter() - begun
    return {
        "R@1": round(100 * first / len(texts), 1),
        "R@10": round(100 * tenth / len(texts), 1),
        "box": round(100 * located / max(1, tenth), 1),
        "ms": round(1000 * seconds / len(texts), 1),
    }


def _name(scene: Scene) -> str:
    return f"{scene.seed:09d}.png"


def _longest(thing: SceneObject) -> float:
    x1, y1, x2, y2 = thing.box
    return max(x2 - x1, y2 - y1)


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return across / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across)


if __name__ == "__main__":
    command(main, Arguments)

"""The embedded world as detection data: scenes on disk in COCO form, base classes for training, all for validation."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.pictures import Drawn, SceneFile, draw_scenes
from fgclip2.data.openmoji.split import HELD_OUT_SEED, SplitConfig, split_evenly
from fgclip2.errors import Fgclip2Error

DONE: Final = "_SUCCESS"


@dataclass(frozen=True)
class EmbeddedConfig(SplitConfig):
    """Which scenes; their pictures are kept as files.

    Attributes:
        masks: annotations have masks too.
    """

    masks: bool = False


@dataclass(frozen=True)
class EmbeddedData:
    """Where the scenes are and what they show. Names are in class order: base and novel mixed, as in ``val.json``."""

    directory: Path
    names: dict[str, list[str]]
    """By language, ``en`` and ``zh``, in the same order."""
    novel: list[str]
    """English names, as the JSON files have them."""

    @property
    def train_annotations(self) -> Path:
        """COCO JSON of the training pictures."""
        return self.directory / "train.json"

    @property
    def val_annotations(self) -> Path:
        """COCO JSON of the held-out pictures."""
        return self.directory / "val.json"


def split_categories(world: World, config: EmbeddedConfig) -> tuple[list[int], list[int]]:
    """Category ids, base and novel, each sorted.

    Raises:
        Fgclip2Error: the world has fewer categories than asked for.
    """
    return split_evenly(world, config.base, config.novel, config.seed)


def prepare(
    directory: str | Path,
    config: EmbeddedConfig | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddedData:
    """Generate the scenes, or find them: the same config gives the same files.

    Files appear under their final name only when all are there; what a killed run left is thrown away and made again.

    Args:
        directory: where to; replaced when it holds scenes of another config.
        config: which scenes.
        workers: processes; ``None`` takes one a core.
        progress: called with (pictures made, pictures in all).
    """
    directory, config = Path(directory), config or EmbeddedConfig()
    world = World()
    base, novel = split_categories(world, config)
    shown = sorted(base + novel)
    data = _described(directory, world, shown, novel)
    done, stamp = directory / DONE, _stamp(config, data)
    if done.is_file() and done.read_text(encoding="utf-8") == stamp:
        return data
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("train", "val"):
        (partial / part).mkdir(parents=True)
    _generate(partial, world, config, {"train": base, "val": shown}, shown, workers, progress)
    (partial / DONE).write_text(stamp, encoding="utf-8")
    if directory.exists():
        shutil.rmtree(directory)
    partial.replace(directory)
    return data


def find_scenes(directory: str | Path) -> EmbeddedData:
    """The scenes that `prepare` left.

    Raises:
        Fgclip2Error: none there, or another version's.
    """
    done = Path(directory) / DONE
    if not done.is_file():
        raise Fgclip2Error(f"{directory} has no finished scenes; `make ovd` draws them into work_dirs/ovd/scenes")
    written = done.read_text(encoding="utf-8")
    try:
        config = EmbeddedConfig(**json.loads(written)["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise Fgclip2Error(f"{done} is of another version ({error}); run `make ovd` again") from error
    world = World()
    base, novel = split_categories(world, config)
    data = _described(Path(directory), world, sorted(base + novel), novel)
    if _stamp(config, data) != written:
        raise Fgclip2Error(f"{done} is of another version (its names differ); run `make ovd` again")
    return data


def _described(directory: Path, world: World, shown: Sequence[int], novel: Sequence[int]) -> EmbeddedData:
    categories = [world.categories[index] for index in shown]
    names = {"en": [category.name_en for category in categories], "zh": [category.name_zh for category in categories]}
    return EmbeddedData(directory, names, [world.categories[index].name_en for index in novel])


def _stamp(config: EmbeddedConfig, data: EmbeddedData) -> str:
    about = asdict(config)
    if not config.masks:  # as scenes were stamped before they could have masks
        del about["masks"]
    return json.dumps({"config": about, "names": data.names}, ensure_ascii=False, sort_keys=True)


def fingerprint(config: EmbeddedConfig) -> str:
    """What the training scenes of a config are, in words and as a hash; how many are held out is not part of it."""
    world = World()
    base, novel = split_categories(world, config)
    names = _described(Path(), world, sorted(base + novel), novel).names
    about = {key: value for key, value in asdict(config).items() if key != "val"}
    stamp = json.dumps({"config": about, "names": names}, ensure_ascii=False, sort_keys=True)
    return (
        f"{config.train} scenes of {config.base} base and {config.novel} novel categories, seed {config.seed} "
        f"({hashlib.sha256(stamp.encode()).hexdigest()[:12]})"
    )


def _generate(
    directory: Path,
    world: World,
    config: EmbeddedConfig,
    pools: dict[str, list[int]],
    shown: list[int],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    counts = {"train": config.train, "val": config.val}
    first = {"train": config.seed * 10_000_000, "val": HELD_OUT_SEED + config.seed * 10_000_000}
    jobs = [
        SceneFile(
            first[part] + index,
            SceneConfig(size=config.size, category_ids=tuple(pools[part])),
            index,
            directory / part / f"{index:06d}.jpg",
            config.masks,
        )
        for part, count in counts.items()
        for index in range(count)
    ]
    made: dict[str, list[Drawn]] = {"train": [], "val": []}
    for number, drawn in enumerate(draw_scenes(jobs, workers), start=1):
        made[drawn.job.file.parent.name].append(drawn)
        if progress:
            progress(number, len(jobs))
    for part, scenes in made.items():
        categories = [
            {"id": index, "name": world.categories[index].name_en, "name_zh": world.categories[index].name_zh}
            for index in (shown if part == "val" else pools["train"])
        ]
        annotations = [annotation for scene in scenes for annotation in scene.annotations]
        content = {
            "images": [scene.image for scene in scenes],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
            "categories": categories,
        }
        (directory / f"{part}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

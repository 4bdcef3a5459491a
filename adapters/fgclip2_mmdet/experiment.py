"""From data to a complete mmdetection config: what depends on the user's files is filled in here, nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Final

from mmengine.config import Config
from torch.utils.data import DataLoader

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import LVIS_DETECTIONS

from .embedded import EmbeddedData

CONTROL = "shuffled"
_LEAST_SCORE = 1e-4  # LVIS counts 300 boxes a picture over 1,203 classes, so scores far below COCO's still count
_OF_THE_DATA = (
    *("work_dir", "randomness.seed", "resume", "launcher"),
    *(f"model.vocabulary.{key}" for key in ("train", "test", "novel", "control")),
    *(f"{part}_dataloader.dataset.metainfo.classes" for part in ("train", "val", "test")),
    *(
        f"{part}_evaluator.{key}"
        for part in ("val", "test")
        for key in ("type", "ann_file", "novel", "field", "prefix")
    ),
)
_TEST_FILES = tuple(f"test_dataloader.dataset.{key}" for key in ("ann_file", "data_prefix.img"))
_FILES = tuple(
    f"{part}_dataloader.dataset.{key}" for part in ("train", "val", "test") for key in ("ann_file", "data_prefix.img")
)

_RUNNER: Final = (
    "model", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg",
    "optim_wrapper", "param_scheduler", "val_evaluator", "test_evaluator", "default_hooks", "custom_hooks",
    "data_preprocessor", "load_from", "env_cfg", "log_processor", "log_level", "visualizer", "vis_backends",
    "default_scope", "randomness", "auto_scale_lr", "work_dir", "resume", "launcher", "experiment_name",
)  # fmt: skip
"""Entries of a config that mmengine's runner reads."""
_TAKEN: Final = {
    "env_cfg": ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"),
    "randomness": ("seed", "deterministic", "diff_rank_seed"),
    "default_hooks": (
        "runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "visualization",
    ),
    **{
        f"{part}_dataloader": (*inspect.signature(DataLoader).parameters, "num_batch_per_epoch")
        for part in ("train", "val", "test")
    },
}  # fmt: skip
"""What mmengine takes in those of them that are no calls, whether a config has it or not."""


@dataclass(frozen=True)
class DetectionData:
    """Everything a run needs to know of its data.

    Names of classes are as in the annotation files; what the detector reads are the vocabularies.

    Attributes:
        classes: all names, in label order, as in the annotation files.
        novel: those of them that have no training labels.
        vocabularies: names to evaluate with, each in label order; the first is the main one, and is trained with.
        train_annotations: COCO JSON of the training pictures; annotations of novel classes in it are not read.
        val_annotations: COCO JSON of the validation pictures.
        train_images: folder its file names are relative to.
        val_images: the same.
        notes: sentences for the person who started the run.
        federated: the validation annotations are LVIS's, to be evaluated by its protocol.
        synonyms: by vocabulary, the other words of each class in label order; nothing where there are none.
    """

    classes: list[str]
    novel: list[str]
    vocabularies: dict[str, list[str]]
    train_annotations: Path
    val_annotations: Path
    train_images: Path
    val_images: Path
    notes: list[str] = field(default_factory=list)
    federated: bool = False
    synonyms: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def base(self) -> list[str]:
        """Names with training labels, in order."""
        return [name for name in self.classes if name not in self.novel]

    def texts(self, vocabulary: str, classes: Collection[str]) -> list[str] | dict[str, list[str]]:
        """Some classes as a detector's config names them: with their synonyms, where the vocabulary has any."""
        names = self.vocabularies[vocabulary]
        places = [index for index, name in enumerate(self.classes) if name in classes]
        synonyms = self.synonyms.get(vocabulary)
        if synonyms is None:
            return [names[index] for index in places]
        return {names[index]: synonyms[index] for index in places}


def from_embedded(data: EmbeddedData) -> DetectionData:
    """The embedded world, evaluated with English and with Chinese names."""
    return DetectionData(
        classes=data.names["en"],
        novel=data.novel,
        vocabularies={"en": data.names["en"], "zh": data.names["zh"]},
        train_annotations=data.train_annotations,
        val_annotations=data.val_annotations,
        train_images=data.directory / "train",
        val_images=data.directory / "val",
    )


def wants_masks(cfg: Config) -> bool:
    """Whether a config's detector has a mask head."""
    return "mask_head" in (cfg.model.get("roi_head") or {})


def fill_config(cfg: Config, data: DetectionData, model: str | None, work_dir: Path, seed: int) -> None:
    """Put data, vocabulary, model and folders into a config, in place; all its other entries stay.

    Where the detector has a mask head, masks are loaded with the annotations.

    Args:
        cfg: of an `OpenVocabDetector`, such as ``apps/configs/ovd/fvit.py``.
        data: the run's data.
        model: what `fgclip2.load` takes; ``None`` leaves the config's.
        work_dir: for checkpoints and logs.
        seed: of initial weights and the order of pictures.
    """
    cfg.work_dir = str(work_dir)
    cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}
    if model is not None:
        cfg.model.backbone.model = model
    cfg.model.vocabulary = {
        **(cfg.model.get("vocabulary") or {}),
        "train": data.texts(next(iter(data.vocabularies)), data.base),
        "test": {vocabulary: data.texts(vocabulary, data.classes) for vocabulary in data.vocabularies},
        "novel": [name in data.novel for name in data.classes],
        "control": CONTROL if len(data.classes) > 1 else None,
    }
    parts = {
        "train_dataloader": (data.train_annotations, data.train_images, data.base),
        "val_dataloader": (data.val_annotations, data.val_images, data.classes),
        "test_dataloader": (data.val_annotations, data.val_images, data.classes),
    }
    for loader, (file, images, classes) in parts.items():
        dataset = cfg[loader].dataset
        dataset.update(
            ann_file=str(file),
            data_prefix={**dataset.get("data_prefix", {}), "img": str(images)},
            metainfo={**dataset.get("metainfo", {}), "classes": classes},
        )
    if wants_masks(cfg):
        for step in cfg.train_dataloader.dataset.pipeline:
            if step["type"] == "LoadAnnotations":
                step["with_mask"] = True
    if data.federated:
        _look_for_more(cfg.model.test_cfg)
    for part in ("val", "test"):
        cfg[f"{part}_evaluator"] = _metrics(cfg, part, data)


def _look_for_more(test_cfg: Any) -> None:
    """As many boxes as LVIS counts, of as low a score, and as many regions to find them in."""
    last = test_cfg.get("rcnn", test_cfg)
    last.max_per_img = max(last.max_per_img, LVIS_DETECTIONS)
    last.nms_pre = max(last.get("nms_pre", 0), 10 * LVIS_DETECTIONS)
    last.score_thr = min(last.score_thr, _LEAST_SCORE)
    for regions in (test_cfg.get("rpn"), test_cfg.get("regions")):
        if regions is not None:
            regions.max_per_img = max(regions.max_per_img, LVIS_DETECTIONS)
            regions.nms_pre = max(regions.nms_pre, regions.max_per_img)


def _metrics(cfg: Config, part: str, data: DetectionData) -> list[dict[str, Any]]:
    """A metric for every vocabulary, with what the config's first one says of pictures and files; others are kept."""
    given = cfg.get(f"{part}_evaluator") or []
    given = [given] if isinstance(given, dict) else list(given)
    own = [metric for metric in given if metric["type"] in ("OpenVocabCocoMetric", "OpenVocabLvisMetric")]
    dataset = cfg[f"{part}_dataloader"].dataset
    common = dict(own[0]) if own else {}
    outfile = common.pop("outfile", None)
    chosen = common.pop("image_ids", None) or dataset.get("image_ids")
    if chosen is not None:  # pictures that are not looked at would count as missed
        common["image_ids"] = chosen
        dataset.setdefault("image_ids", chosen)
        if dataset.image_ids != chosen:
            raise Fgclip2Error(
                f"{part}_evaluator.image_ids is {str(chosen)!r}, but {part}_dataloader.dataset.image_ids is "
                f"{str(dataset.image_ids)!r}; give one of them, or the same"
            )
    kind = "OpenVocabLvisMetric" if data.federated else "OpenVocabCocoMetric"
    common |= {"type": kind, "ann_file": str(data.val_annotations), "novel": data.novel}
    fields = {name: f"pred_{name}" for name in data.vocabularies} | {next(iter(data.vocabularies)): "pred_instances"}
    if cfg.model.vocabulary["control"]:
        fields[CONTROL] = f"pred_{CONTROL}"
    metrics = []
    for number, (name, predicted) in enumerate(fields.items()):
        metrics.append({**common, "field": predicted, "prefix": name})
        if outfile:  # one file each
            file = Path(outfile)
            metrics[-1]["outfile"] = str(file.with_stem(f"{file.stem}-{name}") if number else file)
    return metrics + [metric for metric in given if metric not in own]


def settings(cfg: Config, *more: str) -> dict[str, Any]:
    """All settings that an override of a config may change, those that mmengine takes and the config lacks as ``None``.

    Other entries are helpers that the config's own files have already read: changing them would do nothing.

    Args:
        cfg: of a run.
        more: further entries that are read.
    """
    found = {name: cfg.get(name) for name in (*_RUNNER, *more) if name in cfg or name in _RUNNER}
    for name, keys in _TAKEN.items():
        if isinstance(found[name], Mapping):
            found[name] = {**dict.fromkeys(keys), **found[name]}
    return found


def check_options(options: Mapping[str, Any], published: bool) -> None:
    """Check that no override of a config's entries would itself be written over by `fill_config`.

    Args:
        options: dotted names and values.
        published: whether the config names the files of a published dataset, whose paths may be overridden.

    Raises:
        Fgclip2Error: one would be, named with what decides instead.
    """
    for path in dotted(options):
        # The items of a list are all alike here.
        name = ".".join(part for part in path.split(".") if not part.isdigit())
        if published and name in _TEST_FILES:
            raise Fgclip2Error(
                f"--cfg-options {name}: the run evaluates on the files of val_dataloader and this would be written "
                "over; give val_dataloader.dataset the file, or test_evaluator.image_ids for a part of its pictures"
            )
        if name in _OF_THE_DATA or (name in _FILES and not published):
            raise Fgclip2Error(
                f"--cfg-options {name}: this follows from the data, --work-dir, --seed, --resume and --launcher and "
                "would be written over; leave it out"
            )


def dotted(options: Mapping[str, Any], above: str = "") -> list[str]:
    """The dotted names of all values of overrides, of those in given mappings too."""
    names = []
    for key, value in options.items():
        name = f"{above}{key}"
        names += dotted(value, f"{name}.") if isinstance(value, Mapping) and value else [name]
    return names


def set_epochs(cfg: Config, epochs: int) -> None:
    """Train for another number of epochs; schedules that run over all epochs follow."""
    old = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = epochs + 1
    for schedule in cfg.param_scheduler:
        if schedule.get("T_max") == old:
            schedule.T_max = epochs


def fit_warm_up(cfg: Config, iterations: int) -> str:
    """Shorten a warm-up that is longer than a quarter of the run, in place: a few pictures would never be learned from.

    Args:
        cfg: with `param_scheduler` entries; a ``LinearLR`` by iterations is a warm-up.
        iterations: of the whole run.

    Returns:
        What was changed, to be told to the user; empty when nothing was.
    """
    longest = max(1, iterations // 4)
    note = ""
    for schedule in cfg.param_scheduler:
        if schedule.type == "LinearLR" and not schedule.get("by_epoch", True) and schedule.end > longest:
            note = f"warm-up shortened from {schedule.end} to {longest} iterations: the whole run has {iterations}"
            schedule.end = longest
    return note


def summary(metrics: Mapping[str, Any], vocabularies: Collection[str] | None = None) -> dict[str, dict[str, float]]:
    """mmengine's flat metrics ``vocabulary/figure`` as nested ones.

    Args:
        metrics: what ``Runner.test`` returns.
        vocabularies: prefixes of our own metrics; those of others are left out, see `further_metrics`. ``None``
            takes all.
    """
    nested: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        vocabulary, _, figure = name.partition("/")
        if vocabularies is None or vocabulary in vocabularies:
            nested.setdefault(vocabulary, {})[figure] = float(value)
    return nested


def further_metrics(metrics: Mapping[str, Any], vocabularies: Collection[str]) -> dict[str, float | str]:
    """What metrics that a config adds to ours found, such as ``coco/bbox_mAP``; what is no number as text."""
    return {
        name: float(value) if isinstance(value, Real) else str(value)
        for name, value in metrics.items()
        if name.partition("/")[0] not in vocabularies
    }

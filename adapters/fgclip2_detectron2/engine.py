"""Training and evaluation of segmentors and Mask R-CNNs with detectron2's loop, from a LazyConfig."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import SimpleTrainer, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.solver import WarmupParamScheduler
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn

import fgclip2
from fgclip2.commandline import check_overrides
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import LVIS_DETECTIONS
from fgclip2.predictor import find_device
from fgclip2.segmentation import DenseSegmentor, SegmentationConfig

from .checkpoint import Model, SegmentorCheckpointer, facts_of, find_checkpoint, load_model
from .config_data import MASK_RCNN, overridden, training_records
from .datasets import SegmentationSet, class_set
from .evaluator import OpenVocabSemSegEvaluator
from .fingerprint import data_fingerprint
from .instance_evaluator import OpenVocabInstanceEvaluator
from .instances import InstanceMapper, InstanceSet
from .mapper import SegmentationMapper
from .mask_rcnn import OpenVocabMaskRCNN
from .predictions import PredictionWriter
from .training_hooks import FiniteGradients, Progress, not_finite

CONTROL: Final = "shuffled"
"""The vocabulary that gives every class the name of another."""
BASELINE: Final = "training-free"
_SEGMENTOR: Final = "fgclip2_detectron2.segmentor.build_segmentor"


def load_config(file: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Read a config of ``apps/configs/seg`` and apply ``key=value`` overrides.

    Raises:
        Fgclip2Error: no such file, or an override that does not parse or names no entry.
    """
    if not Path(file).is_file():
        raise Fgclip2Error(f"config {str(file)!r} does not exist; see apps/configs/seg")
    cfg = LazyConfig.load(str(file))
    _override(cfg, overrides)
    return cfg


def as_trained(
    cfg: DictConfig, facts: Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[DictConfig, list[str]]:
    """A config that is what a checkpoint was trained with, but for ``overrides``.

    That is its model, the size of its pictures, and which scenes it was trained on; who changes these at evaluation
    says so in an override.

    Args:
        cfg: the config, overrides applied.
        facts: of the checkpoint, see `facts_of`.
        overrides: the same ones again.

    Returns:
        The config; and a line each of what was taken from the checkpoint, and of what an override changes.

    Raises:
        Fgclip2Error: an override as for `load_config`.
    """
    target = MASK_RCNN if facts.get("instances") else _SEGMENTOR
    cfg = cfg.copy()
    cfg.model = {"_target_": target, **facts["options"]}
    _override(cfg, [text for text in overrides if text.startswith("model.")])
    stored = {"data.test_max_patches": facts["max_patches"]}
    if "scenes" in cfg:
        stored |= {f"scenes.{key}": value for key, value in (facts.get("scenes") or {}).items()}
    taken, changed = [], []
    for key, value in stored.items():
        present = OmegaConf.select(cfg, key)
        if present == value:
            continue
        if overridden(overrides, key):
            changed.append(f"{key}={present} as you say; in the training it was {value}")
        else:
            OmegaConf.update(cfg, key, value)
            taken.append(f"{key}={value}")
    return cfg, [*([f"as in the training: {' '.join(taken)}"] if taken else []), *changed]


def _override(cfg: DictConfig, overrides: Sequence[str]) -> None:
    check_overrides(overrides, cast(Any, OmegaConf.to_container(cfg, resolve=False)))
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise Fgclip2Error(f"override {text!r}: give key=value, such as train.lr=0.0005")
        # hydra's grammar knows no word with Chinese letters and takes commas for a list of choices, so plain text that
        # has them is quoted for it.
        plain = re.search(r"[^\x00-\x7f]|,", value) and not re.search(r"""^[\[{"']|["\\]""", value)
        try:
            LazyConfig.apply_overrides(cfg, [f'{key}="{value}"' if plain else text])
        except Exception as error:  # omegaconf's, hydra's and its grammar's errors have no common base
            reason = str(error).strip().splitlines()[0]
            raise Fgclip2Error(f"override {text!r} cannot be applied ({reason:.120}); quote strings") from error


def build_model(cfg: DictConfig) -> Model:
    """The model of a config, on ``train.device``, seeded."""
    torch.manual_seed(cfg.train.seed)
    built: Model = instantiate(cfg.model)
    return built.to(find_device(cfg.train.device))


def load_trained(cfg: DictConfig) -> Model:
    """The model in ``train.output_dir``, with what `as_trained` made of ``model``."""
    changed = {key: value for key, value in _plain(cfg.model).items() if key != "_target_"}
    return load_model(cfg.train.output_dir, device=cfg.train.device, **changed)[0]


def set_training(model: Model, dataset: str) -> None:
    """Give a model the base classes of a data set, in each of its languages."""
    data = class_set(dataset)
    names = {language: [listed[index] for index in data.base] for language, listed in data.names.items()}
    model.set_training_classes(names, data.base)


def train(cfg: DictConfig, segmentor: Model, resume: bool = False) -> None:
    """Train to ``train.iterations``, with checkpoints in ``train.output_dir``; on all ranks.

    Data are drawn anew from (seed, first iteration), so a resumed run is not the uninterrupted one bit for bit.

    Raises:
        Fgclip2Error: a loss or a gradient is not finite; no weight was changed by it.
    """
    options = cfg.train
    set_training(segmentor, cfg.data.train)
    cuda = segmentor.device.type == "cuda"
    model = create_ddp_model(segmentor, broadcast_buffers=False, device_ids=[comm.get_local_rank()] if cuda else None)
    facts = facts_of(
        segmentor,
        iterations=int(options.iterations),
        max_patches=int(cfg.data.test_max_patches),
        background=class_set(cfg.data.train).background,
        names=segmentor.training_names,
        scenes={key: cfg.scenes[key] for key in ("base", "novel", "size", "seed")} if "scenes" in cfg else None,
        **{"training data": data_fingerprint(cfg.data.train)},
    )
    optimizer = torch.optim.AdamW(parameter_groups(segmentor, cfg), lr=options.lr)
    trainer = SimpleTrainer(model, [], optimizer)
    checkpointer = SegmentorCheckpointer(
        model, options.output_dir, facts, trainer=trainer, save_to_disk=comm.is_main_process()
    )
    warm_up = min(options.warm_up, options.iterations // 4) / options.iterations
    schedule = WarmupParamScheduler(CosineParamScheduler(1, 0.01), 0.01, warm_up)
    trainer.register_hooks([
        FiniteGradients(options.clip),
        hooks.LRScheduler(scheduler=schedule),
        hooks.PeriodicCheckpointer(checkpointer, options.checkpoint_every, max_to_keep=2)
        if comm.is_main_process() else None,
        Progress(options.log_every) if comm.is_main_process() else None,
    ])  # fmt: skip
    start = 0
    if resume:
        checkpointer.load(str(find_checkpoint(options.output_dir)))
        start = trainer.iter + 1
    if start >= options.iterations:
        return
    trainer.data_loader = train_loader(cfg, start)
    try:
        trainer.train(start, options.iterations)
    except FloatingPointError as error:  # detectron2's, of losses and of boxes
        raise not_finite(trainer.iter + 1, str(error).partition("\n")[0]) from error


def train_loader(cfg: DictConfig, start: int = 0) -> Any:
    """Endless batches of the training set."""
    data = cfg.data
    mapper = _mapper(data.train)(data.train, data.max_patches, train=True, crop=tuple(data.crop), flip=data.flip)
    records, left_out = training_records(data.train)
    if left_out and comm.is_main_process():
        print(
            f"{left_out:,} of {left_out + len(records):,} pictures show no object of a trained class and are left out "
            "of training",
            flush=True,
        )
    return build_detection_train_loader(
        dataset=records,
        mapper=mapper,
        sampler=TrainingSampler(len(records), seed=cfg.train.seed + start),
        total_batch_size=data.batch_size,
        aspect_ratio_grouping=False,
        num_workers=data.workers,
    )


def parameter_groups(segmentor: Model, cfg: DictConfig) -> list[dict[str, Any]]:
    """What learns: the head, and at ``backbone_factor`` of its rate the tower; norms and biases do not decay."""
    options = cfg.train
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in segmentor.named_parameters():
        if parameter.requires_grad:
            rate = options.lr * (options.backbone_factor if name.startswith("backbone.") else 1.0)
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def evaluate(
    cfg: DictConfig, segmentor: Model, predictions: str | Path | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures ``{data set: {vocabulary: {figure: value}}}`` of every data set in ``data.test``; empty off rank 0.

    Every language of a data set is a vocabulary; `CONTROL` gives each class the name of another. With
    ``training_free`` in the config pixels are also labelled without the head, keys ``training-free (en)``, ...

    Args:
        cfg: the config.
        segmentor: the model.
        predictions: folder for the label maps of each data set's first language, see `PredictionWriter`.

    Raises:
        Fgclip2Error: ``predictions`` of a data set with instances.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in cfg.data.test:
        data = class_set(name)
        pixels = isinstance(data, SegmentationSet)
        evaluator = OpenVocabSemSegEvaluator if pixels else OpenVocabInstanceEvaluator
        _say_most(segmentor, name)
        vocabularies = vocabularies_of(name)
        segmentor.set_vocabularies(vocabularies, data.background)
        loader = test_loader(cfg, name)
        writers = [] if predictions is None else [PredictionWriter(name, predictions)]
        evaluators = DatasetEvaluators([*(evaluator(name, key) for key in vocabularies), *writers])
        found = dict(inference_on_dataset(segmentor, loader, evaluators) or {})
        if pixels and cfg.get("training_free"):
            options = SegmentationConfig(**_plain(cfg.training_free))
            baseline = TrainingFree(segmentor, data.names, options)
            evaluators = DatasetEvaluators([OpenVocabSemSegEvaluator(name, key) for key in baseline.segmentors])
            found |= dict(inference_on_dataset(baseline, test_loader(cfg, name), evaluators) or {})
        results[name] = found
    return results


def _say_most(model: Model, dataset: str) -> None:
    """Tell where a model gives fewer detections than LVIS's protocol counts."""
    data = class_set(dataset)
    lvis = isinstance(data, InstanceSet) and data.lvis is not None
    if lvis and isinstance(model, OpenVocabMaskRCNN) and model.config.most < LVIS_DETECTIONS and comm.is_main_process():
        print(
            f"LVIS's protocol counts {LVIS_DETECTIONS} detections of a picture, this model gives {model.config.most}: "
            f"model.detector.most={LVIS_DETECTIONS} changes that, without training"
        )


def vocabularies_of(dataset: str) -> dict[str, list[str]]:
    """A data set's names by language, and with two or more classes the control."""
    data = class_set(dataset)
    names = {language: list(listed) for language, listed in data.names.items()}
    half = len(data.main) // 2  # neighbours in a list are often alike
    return {**names, CONTROL: [*data.main[half:], *data.main[:half]]} if half else names


def test_loader(cfg: DictConfig, dataset: str) -> Any:
    """A data set's pictures, one at a time."""
    mapper = _mapper(dataset)(dataset, cfg.data.test_max_patches)
    return build_detection_test_loader(
        dataset=DatasetCatalog.get(dataset), mapper=mapper, num_workers=cfg.data.workers, batch_size=1
    )


class TrainingFree(nn.Module):
    """`DenseSegmentor` in detectron2's calling convention, to compare a trained head with.

    Args:
        segmentor: whose FG-CLIP 2 is used, as it was before training.
        vocabularies: class names by language.
        config: of the segmentation.
    """

    def __init__(self, segmentor: Model, vocabularies: Mapping[str, Sequence[str]], config: SegmentationConfig) -> None:
        super().__init__()
        # Its own copy, as training may have changed the segmentor's.
        predictor = fgclip2.load(segmentor.options["model"], device=segmentor.device)
        self.segmentors = {
            f"{BASELINE} ({key})": DenseSegmentor(predictor, names, config) for key, names in vocabularies.items()
        }

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Labels of each vocabulary, as `OpenVocabSegmentor` gives them."""
        results = []
        for item in batched_inputs:
            labels = {}
            for key, segmentor in self.segmentors.items():
                found = torch.from_numpy(segmentor(item["image"].permute(1, 2, 0)).labels).float()
                size = (item["height"], item["width"])
                labels[key] = nn.functional.interpolate(found[None, None], size, mode="nearest-exact")[0, 0].long()
            results.append({"labels": labels})
        return results


def _mapper(dataset: str) -> type[SegmentationMapper] | type[InstanceMapper]:
    return InstanceMapper if isinstance(class_set(dataset), InstanceSet) else SegmentationMapper


def _plain(node: Any) -> dict[str, Any]:
    """A config's part without omegaconf's types."""
    return cast("dict[str, Any]", OmegaConf.to_container(node))


def shown_records(cfg: DictConfig, dataset: str, count: int) -> Iterator[dict[str, Any]]:
    """The first records of a data set, prepared, for drawing."""
    mapper = _mapper(dataset)(dataset, cfg.data.test_max_patches)
    for record in DatasetCatalog.get(dataset)[:count]:
        yield mapper(record)

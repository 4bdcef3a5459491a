"""Boxes of mmdetection's stock detectors, for fusion: its classes are not looked at, its boxes and scores are."""

from __future__ import annotations

import copy
import importlib
import logging
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import find_device

from .inference import open_config, raw_picture, without_loaders

_log = logging.getLogger(__name__)


class MMDetProposals:
    """A stock detector that takes a picture and nothing else: one- or two-stage, DETR-like, or proposals alone.

    Args:
        config: mmdetection config, with a ``test_dataloader`` whose pipeline is used.
        checkpoint: its weights; None keeps random ones, which is for tests.
        device: ``auto`` takes CUDA when there is one; or what torch calls it.
        max_boxes: a picture, the best.
        cfg_options: overrides of config entries, such as ``{"model.test_cfg.rcnn.score_thr": 0.01}``.

    Attributes:
        classes: what it was trained on, when its checkpoint says so.

    Raises:
        Fgclip2Error: a config that cannot be read, has no test pipeline or wants texts, or weights that do not fit it.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        max_boxes: int = 300,
        cfg_options: Mapping[str, Any] | None = None,
    ) -> None:
        if max_boxes < 1:
            raise Fgclip2Error(f"max_boxes {max_boxes}: give 1 or more")
        cfg, pipeline = _read(Path(config), cfg_options or {})
        detector = build_detector(cfg, str(config))
        self.classes = () if checkpoint is None else load_detector(detector, Path(checkpoint))
        self.detector = detector.to(find_device(device)).eval()
        self.pipeline = Compose(without_loaders(pipeline))
        self.max_boxes = max_boxes

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        """Boxes (M, 4) x1, y1, x2, y2 in pixels and scores (M,) 0..1 of every picture, best first."""
        if not images:
            return []
        packed = [self.pipeline(raw_picture(image)) for image in images]
        # Together only what needs no padding, which changes what detectors find.
        members: dict[torch.Size, list[int]] = defaultdict(list)
        for index, item in enumerate(packed):
            members[item["inputs"].shape].append(index)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for indices in members.values():
            data = {key: [packed[index][key] for index in indices] for key in ("inputs", "data_samples")}
            samples = self.detector.test_step(data)
            found |= zip(indices, (self._best(sample.pred_instances) for sample in samples), strict=True)
        return [found[index] for index in range(len(images))]

    def _best(self, found: Any) -> tuple[Tensor, Tensor]:
        boxes = getattr(found.bboxes, "tensor", found.bboxes).float().cpu()
        scores, order = found.scores.float().cpu().sort(descending=True, stable=True)
        return boxes[order][: self.max_boxes].reshape(-1, 4), scores[: self.max_boxes]


def _read(path: Path, options: Mapping[str, Any]) -> tuple[Config, list[dict[str, Any]]]:
    """The config and its test pipeline."""
    cfg = open_config(path, "give an mmdetection config", options)
    pipeline = cfg.get("test_dataloader", {}).get("dataset", {}).get("pipeline") or cfg.get("test_pipeline")
    if "model" not in cfg or not pipeline:
        raise Fgclip2Error(f"{str(path)!r} is no mmdetection config with a model and a test pipeline")
    return cfg, pipeline


def _without_downloads(settings: Any) -> None:
    """Take out what would fetch pretrained parts: the checkpoint has all weights."""
    if isinstance(settings, dict):
        init = settings.get("init_cfg")
        if isinstance(init, dict) and init.get("type") == "Pretrained":
            settings["init_cfg"] = None
        for value in settings.values():
            _without_downloads(value)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            _without_downloads(value)


def build_detector(cfg: Config, name: str) -> BaseModel:
    """The detector of a config, without weights.

    Args:
        cfg: mmdetection's.
        name: how it is called in messages.

    Raises:
        Fgclip2Error: it wants texts, or cannot be built.
    """
    if "language_model" in cfg.model:
        raise Fgclip2Error(
            f"{name!r} is of a detector that wants texts; take transformers' copy of it by its directory or hub id"
        )
    init_default_scope(cfg.get("default_scope", "mmdet"))
    settings = copy.deepcopy(cfg.model)
    _without_downloads(settings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return revert_sync_batchnorm(MODELS.build(settings))
    except (KeyError, TypeError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Fgclip2Error(f"the detector of {name!r} cannot be built: {reason}") from error


def load_detector(detector: nn.Module, path: Path) -> tuple[str, ...]:
    """Load weights, strictly, and return the classes that the checkpoint names.

    Raises:
        Fgclip2Error: no such file, one that holds other objects than weights, or weights of another detector.
    """
    if not path.is_file():
        raise Fgclip2Error(f"the detector checkpoint {str(path)!r} does not exist; give a .pth file")
    try:
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for torn and foreign files
        raise Fgclip2Error(
            f"{path} is torn, or holds objects beside weights, which may run code. The epoch files of mmengine do: if "
            "you trust yours, keep its weights alone with python -c \"import torch; c = torch.load('IN.pth', "
            "weights_only=False); torch.save({'state_dict': c['state_dict'], 'meta': {'dataset_meta': "
            "c['meta'].get('dataset_meta')}}, 'OUT.pth')\""
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise Fgclip2Error(f"{path} holds no weights; give an mmdetection checkpoint")
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        # With mmdetection's own conversions of old names; misshapen weights raise in either case.
        missing, unexpected = detector.load_state_dict(state, strict=False)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise Fgclip2Error(f"{path} does not fit the config; give the one it was trained with ({detail})") from error
    if missing:
        raise Fgclip2Error(
            f"{path} does not fit the config; give the one it was trained with ({len(missing)} weights are missing, "
            f"such as {missing[0]})"
        )
    # Means and deviations of the input are in the config.
    others = [name for name in unexpected if not name.startswith("data_preprocessor.")]
    if others:
        _log.warning("%s has %d weights that the config does not use, such as %s", path, len(others), others[0])
    meta = (content.get("meta") or {}).get("dataset_meta") or {}
    return tuple(dict.fromkeys(map(str, meta.get("classes") or meta.get("CLASSES") or ())))


def _numbers() -> list[Any]:
    """What checkpoints hold of numpy's; none of it runs code."""
    core: Any = importlib.import_module("numpy._core.multiarray")
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    return [
        np.ndarray,
        np.dtype,
        *kinds,
        core._reconstruct,
        core.scalar,
        (core._reconstruct, "numpy.core.multiarray._reconstruct"),  # as numpy 1 called them
        (core.scalar, "numpy.core.multiarray.scalar"),
    ]

"""Boxes of any mmdetection detector, for fusion: its classes are not looked at, its boxes and scores are."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import find_device

from .inference import raw_picture, without_loaders
from .runner import read_checkpoint


class MMDetProposals:
    """A stock detector: one- or two-stage, or a region proposal network alone.

    Args:
        config: mmdetection config, with a ``test_dataloader`` whose pipeline is used.
        checkpoint: its weights; None keeps random ones, which is for tests.
        device: ``auto`` takes CUDA when there is one; or what torch calls it.
        max_boxes: a picture, the best.
        cfg_options: overrides of config entries, such as ``{"model.test_cfg.rcnn.score_thr": 0.01}``.

    Raises:
        Fgclip2Error: a config that cannot be read or has no test pipeline, or weights that do not fit it.
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
        cfg = _read(Path(config))
        cfg.merge_from_dict(dict(cfg_options or {}))
        init_default_scope(cfg.get("default_scope", "mmdet"))
        settings = copy.deepcopy(cfg.model)
        _without_downloads(settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = revert_sync_batchnorm(MODELS.build(settings))
        if checkpoint is not None:
            _load(detector, Path(checkpoint))
        self.detector = detector.to(find_device(device)).eval()
        self.pipeline = Compose(without_loaders(cfg.test_dataloader.dataset.pipeline))
        self.max_boxes = max_boxes

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        """Boxes (M, 4) x1, y1, x2, y2 in pixels and scores (M,) 0..1 of every picture, best first."""
        if not images:
            return []
        packed = [self.pipeline(raw_picture(image)) for image in images]
        data = {key: [item[key] for item in packed] for key in ("inputs", "data_samples")}
        return [self._best(sample.pred_instances) for sample in self.detector.test_step(data)]

    def _best(self, found: Any) -> tuple[Tensor, Tensor]:
        boxes = getattr(found.bboxes, "tensor", found.bboxes).float().cpu()
        scores, order = found.scores.float().cpu().sort(descending=True, stable=True)
        # One box may stand there under several labels; fusion names it once.
        first: dict[tuple[float, ...], int] = {}
        for index, box in enumerate(map(tuple, boxes[order].tolist())):
            first.setdefault(box, index)
        kept = torch.tensor(list(first.values())[: self.max_boxes], dtype=torch.int64)
        return boxes[order][kept].reshape(-1, 4), scores[kept]


def _read(path: Path) -> Config:
    if not path.is_file():
        raise Fgclip2Error(f"the detector config {str(path)!r} does not exist; give an mmdetection config")
    try:
        cfg = Config.fromfile(path)
    except (SyntaxError, NameError, OSError, AttributeError, KeyError, TypeError, ImportError) as error:
        raise Fgclip2Error(f"the config {str(path)!r} cannot be read: {type(error).__name__}: {error}") from error
    if "model" not in cfg or "test_dataloader" not in cfg:
        raise Fgclip2Error(f"{str(path)!r} is no mmdetection config with a model and a test_dataloader")
    return cfg


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


def _load(detector: nn.Module, path: Path) -> None:
    content = read_checkpoint(path)
    state = {name.removeprefix("module."): tensor for name, tensor in content["state_dict"].items()}
    try:
        detector.load_state_dict(state)  # strictly, with mmdetection's own conversions of old names
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise Fgclip2Error(f"{path} does not fit the config; give the one it was trained with ({detail})") from error

"""A trained detector on any pictures with any class names: load once, choose classes, detect."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from fgclip2.detections import MaskedDetections
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.names import said
from fgclip2.predictor import find_device
from fgclip2.vocabulary import ClassNames, Vocabulary, matches

from .open_vocab import OpenVocabDetector
from .runner import checkpoints, load_weights, read_checkpoint
from .vocabulary import as_vocabulary, novel_flags, trained_words

_log = logging.getLogger(__name__)


class OpenVocabInferencer:
    """A detector in evaluation mode with its own test pipeline.

    Args:
        detector: with weights loaded.
        pipeline: mmdetection's test pipeline; steps that read files are left out.
        device: where to compute.

    Attributes:
        left_out: classes of the training that mean one of these, so that they do not compete with it.
    """

    def __init__(self, detector: OpenVocabDetector, pipeline: Sequence[dict[str, Any]], device: torch.device) -> None:
        self.detector = detector.to(device).eval()
        self.pipeline = Compose(without_loaders(pipeline))
        self.device = device
        self._classes: tuple[str, ...] = ()
        self.left_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """What is looked for; `set_classes` changes it."""
        return self._classes

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        *,
        config: str | Path | None = None,
        model: str | None = None,
        device: str = "auto",
    ) -> OpenVocabInferencer:
        """Build the detector of a training run.

        Args:
            checkpoint: an ``epoch_N.pth``, or the work directory, whose newest one is taken.
            config: the run's config; ``None`` takes the one that the run left beside the checkpoint.
            model: where FG-CLIP 2's weights are, when not where the config says; they must be the same weights.
            device: ``auto`` takes CUDA when there is one; or what torch calls it.

        Raises:
            Fgclip2Error: no checkpoint or config, or a checkpoint of another config or model.
        """
        file = find_checkpoint(checkpoint)
        content = read_checkpoint(file)
        cfg = read_config(config or find_config(file.parent))
        init_default_scope("mmdet")
        settings = copy.deepcopy(cfg.model)
        if model is not None:
            settings.backbone.model = model
        vocabulary = settings.get("vocabulary") or {}
        # The classes to look for come from the caller; without any, those that the detector was trained on.
        settings.vocabulary = {key: value for key, value in vocabulary.items() if key in ("train", "templates")}
        detector = MODELS.build(settings)
        detector.words = trained_words(vocabulary)
        load_weights(detector, content, file)
        inferencer = cls(detector, cfg.test_dataloader.dataset.pipeline, find_device(device))
        inferencer._classes = detector.trained_classes
        return inferencer

    def set_classes(
        self, names: Vocabulary | ClassNames, *, contrast: bool = True, guess_translations: bool = False
    ) -> int:
        """Choose what to look for.

        Args:
            names: class names, English or Chinese, with or without synonyms; or a vocabulary made by the same model.
            contrast: also score the classes of the training, whose detections are then dropped. Scores are shares
                between classes: without something to lose against, "dog" alone would win every cat. Training classes
                that mean one of ``names`` do not take part: `left_out`.
            guess_translations: where no table translates a name, take the nearest embedding for its translation.

        Classes that mean a class of the training, by a name in any language, a synonym, or a translation (see
        `fgclip2.vocabulary.matches`), are scored as trained ones, all others as novel ones.

        Returns:
            How many classes stand in contrast.

        Raises:
            Fgclip2Error: names that are empty or repeat, or a vocabulary of another model.
        """
        predictor, trained = self.detector.backbone.predictor, self.detector.trained_classes
        scored = wanted = as_vocabulary(names, predictor, self.detector.templates)
        same: dict[int, int] = {}
        if trained:
            known = Vocabulary.build(predictor, trained, wanted.templates)
            same = self._by_word(wanted)
            named = set(same.values())  # a class that the training has by name needs no translation
            same |= {
                k: w for k, w in matches(wanted, known, predictor, guess=guess_translations).items() if w not in named
            }
            scored = wanted.against(known, same) if contrast else wanted
        words = {word for of_class in self.detector.words.values() for word in of_class}.union(trained)
        novel = novel_flags(scored.names, words, None, scored.synonyms)
        for index in same.values():
            novel[index] = False
        self.detector.set_vocabulary(scored, novel)
        self._classes = wanted.names
        self.left_out = tuple(trained[index] for index in sorted(same)) if contrast else ()
        return len(scored) - len(wanted)

    def _by_word(self, wanted: Vocabulary) -> dict[int, int]:
        """Training classes that are asked for by one of their words in any language -> index into ``wanted``."""
        asked = {said(word): index for index, words in enumerate(wanted.synonyms) for word in words}
        asked |= {said(name): index for index, name in enumerate(wanted.names)}
        found = {}
        for index, name in enumerate(self.detector.trained_classes):
            for word in sorted(self.detector.words.get(name, ())):
                if word in asked:
                    found[index] = asked[word]
        return found

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], score_thr: float = 0.3) -> list[Detections]:
        """Detect in a batch of pictures.

        Args:
            images: upright RGB pictures of any sizes; similar shapes waste least.
            score_thr: lowest score to keep, 0..1.

        Returns:
            What is in each; with masks, `MaskedDetections`, where the detector has a mask head.
        """
        if not images:
            return []
        packed = [self.pipeline(raw_picture(image)) for image in images]
        data = {key: [item[key] for item in packed] for key in ("inputs", "data_samples")}
        return [self._selected(sample.pred_instances, score_thr) for sample in self.detector.test_step(data)]

    def _selected(self, found: Any, score_thr: float) -> Detections:
        keep = (found.scores >= score_thr) & (found.labels < len(self.classes))  # contrast classes come behind
        labels = tuple(self.classes[label] for label in found.labels[keep].tolist())
        boxes, scores = (values[keep].float().cpu().numpy() for values in (found.bboxes, found.scores))
        if "masks" in found:
            return MaskedDetections(boxes, scores, labels, found.masks[keep.cpu().numpy()], names=self.classes)
        return Detections(boxes, scores, labels, names=self.classes)


def find_checkpoint(where: str | Path) -> Path:
    """The file itself, or the newest checkpoint of a work directory.

    Raises:
        Fgclip2Error: neither is there.
    """
    path = Path(where)
    if path.is_file():
        return path
    if not path.is_dir():
        raise Fgclip2Error(
            f"no checkpoint {str(path)!r}; `make ovd` trains a detector in a few minutes, then give its work directory "
            "or an epoch_N.pth of it"
        )
    found = checkpoints(path)
    if not found:
        raise Fgclip2Error(
            f"{str(path)!r} has no finished checkpoint (epoch_N.pth); was the training stopped before its first epoch "
            "ended? Continue it with apps/ovd_train.py --resume"
        )
    return found[0]


def find_config(folder: Path) -> Path:
    """The config that a run left in its work directory.

    Raises:
        Fgclip2Error: none there, or several.
    """
    found = sorted(path for path in folder.glob("*.py") if path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise Fgclip2Error(
            f"{str(folder)!r} should hold the one config that ovd_train.py leaves beside its checkpoints, but has: "
            f"{names}; give the right one with --config"
        )
    return found[0]


def read_config(path: str | Path) -> Config:
    """The config of one of our detectors.

    Raises:
        Fgclip2Error: no such file, or no config of an FG-CLIP 2 detector.
    """
    file = Path(path)
    cfg = open_config(file, "see apps/configs/ovd")
    kind = MODELS.get(str(cfg.get("model", {}).get("type")))
    if not (isinstance(kind, type) and issubclass(kind, OpenVocabDetector)) or "test_dataloader" not in cfg:
        raise Fgclip2Error(f"{str(file)!r} is no config of an FG-CLIP 2 detector; see apps/configs/ovd")
    return cfg


def open_config(file: Path, hint: str, options: Mapping[str, Any] | None = None) -> Config:
    """mmengine's ``Config.fromfile`` with errors that say what to do; a config is Python code and is run.

    Args:
        file: Python, JSON or YAML.
        hint: what to do when there is no such file.
        options: entries to override, by their dotted names.

    Raises:
        Fgclip2Error: no such file, or one that fails.
    """
    if not file.is_file():
        raise Fgclip2Error(f"the config {str(file)!r} does not exist; {hint}")
    try:
        cfg = Config.fromfile(file)
        cfg.merge_from_dict(dict(options or {}))
    except (SyntaxError, NameError, OSError, AttributeError, KeyError, TypeError, ImportError) as error:
        raise Fgclip2Error(f"the config {str(file)!r} cannot be read: {type(error).__name__}: {error}") from error
    return cfg


def without_loaders(pipeline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of an mmdetection pipeline that come after reading files."""
    kinds = (getattr(step["type"], "__name__", str(step["type"])).rpartition(".")[2] for step in pipeline)
    return [copy.deepcopy(step) for step, kind in zip(pipeline, kinds, strict=True) if not kind.startswith("Load")]


def raw_picture(image: Image.Image) -> dict[str, Any]:
    """What mmdetection's pipeline starts from, as if a loader had read it: (H, W, 3) uint8 BGR."""
    pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    return {"img": pixels, "img_shape": pixels.shape[:2], "ori_shape": pixels.shape[:2]}

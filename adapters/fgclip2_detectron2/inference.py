"""A trained segmentor on single pictures, with any classes; and whatever a checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgclip2.errors import Fgclip2Error
from fgclip2.images import ImageLike, open_image
from fgclip2.names import parse_names
from fgclip2.predictor import FGCLIP2
from fgclip2.processing import MAX_PATCHES
from fgclip2.segmentation import Segmentation
from fgclip2.vocabulary import ClassNames, Vocabulary

from .checkpoint import load_model, load_segmentor
from .instance_inference import SURE, InstanceInferencer
from .mapper import whole_patches
from .mask_rcnn import OpenVocabMaskRCNN
from .segmentor import OpenVocabSegmentor

_KEY = "asked"


class SegmentorInferencer:
    """Pictures in, `Segmentation` out.

    Args:
        segmentor: trained.
        names: classes to look for, in any mix of languages, with or without synonyms; or a vocabulary.
        max_patches: most patches of a picture, best those of the training.
        threshold: score, 0 to 1, below which a pixel is none of the classes; 0 gives every pixel one. ``None`` takes
            the segmentor's own.

    Raises:
        Fgclip2Error: no name, a repeated one, or a number out of range.
    """

    def __init__(
        self,
        segmentor: OpenVocabSegmentor,
        names: Vocabulary | ClassNames,
        max_patches: int,
        threshold: float | None = None,
    ) -> None:
        if not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"max_patches {max_patches}: give 1 to {MAX_PATCHES:,}")
        if threshold is not None and not 0 <= threshold < 1:
            raise Fgclip2Error(f"threshold {threshold}: scores of a trained head are 0 to 1")
        self.segmentor = segmentor.eval()
        self.max_patches = max_patches
        if threshold is not None:
            segmentor.threshold = threshold
        segmentor.set_vocabularies({_KEY: names}, background=True)
        self.names = segmentor.vocabularies()[_KEY].names

    @property
    def predictor(self) -> FGCLIP2:
        """The segmentor's FG-CLIP 2."""
        return self.segmentor.backbone.predictor

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        names: Vocabulary | ClassNames | None = None,
        *,
        model: str | None = None,
        max_patches: int | None = None,
        threshold: float | None = None,
        device: str | torch.device = "auto",
    ) -> SegmentorInferencer:
        """Of a checkpoint or a work directory; ``None`` takes what the training had.

        Where the training data had no background, every pixel gets a class unless a threshold is given.

        Raises:
            Fgclip2Error: see `fgclip2_detectron2.checkpoint.load_segmentor`.
        """
        segmentor, facts = load_segmentor(path, model, device)
        return cls(segmentor, *_settings(facts, names, max_patches), _threshold(facts, threshold))

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one picture; scores are 0..1."""
        opened = open_image(image)
        pixels = whole_patches(np.asarray(opened), self.max_patches)
        (found,) = self.segmentor([{"image": pixels, "height": opened.height, "width": opened.width}])
        labels, scores = found["labels"][_KEY], found["scores"][_KEY]
        return Segmentation(self.names, labels.int().cpu().numpy(), scores.cpu().numpy())


def load_inferencer(
    path: str | Path,
    names: Vocabulary | ClassNames | str | None = None,
    *,
    model: str | None = None,
    max_patches: int | None = None,
    threshold: float | None = None,
    device: str | torch.device = "auto",
) -> tuple[SegmentorInferencer | InstanceInferencer, dict[str, Any]]:
    """What a checkpoint or a work directory is: a segmentor, or a Mask R-CNN; and the checkpoint's facts.

    Arguments are those of `SegmentorInferencer.from_checkpoint`; a Mask R-CNN's own threshold is `SURE`. One text with
    commas between names is cut by `parse_names`, but not inside names of the training.

    Raises:
        Fgclip2Error: see `fgclip2_detectron2.checkpoint.load_model`.
    """
    found, facts = load_model(path, model, device)
    settings = _settings(facts, names, max_patches)
    if isinstance(found, OpenVocabMaskRCNN):
        return InstanceInferencer(found, *settings, SURE if threshold is None else threshold), facts
    return SegmentorInferencer(found, *settings, _threshold(facts, threshold)), facts


def _settings(
    facts: Mapping[str, Any], names: Vocabulary | ClassNames | str | None, max_patches: int | None
) -> tuple[Vocabulary | ClassNames, int]:
    if isinstance(names, str):
        names = parse_names(names, [name for known in facts["names"].values() for name in known])
    chosen = next(iter(facts["names"].values())) if names is None else names
    return chosen, facts["max_patches"] if max_patches is None else max_patches


def _threshold(facts: Mapping[str, Any], threshold: float | None) -> float | None:
    return 0.0 if threshold is None and not facts["background"] else threshold

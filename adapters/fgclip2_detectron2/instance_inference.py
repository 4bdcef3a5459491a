"""A trained Mask R-CNN on single pictures, with any classes."""

from __future__ import annotations

from typing import Final

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.images import ImageLike, open_image
from fgclip2.instances import InstanceSegmentation
from fgclip2.predictor import FGCLIP2
from fgclip2.processing import MAX_PATCHES
from fgclip2.vocabulary import ClassNames, Vocabulary

from .mapper import whole_patches
from .mask_rcnn import OpenVocabMaskRCNN

SURE: Final = 0.3
"""Score from which a detection is shown to people; AP counts all of them."""
_KEY = "asked"


class InstanceInferencer:
    """Pictures in, `InstanceSegmentation` out.

    Args:
        model: trained.
        names: classes to look for, in any mix of languages, with or without synonyms; or a vocabulary.
        max_patches: most patches of a picture, best those of the training.
        threshold: least score of a thing, 0 to 1.

    Raises:
        Fgclip2Error: no name, a repeated one, or a number out of range.
    """

    def __init__(
        self,
        model: OpenVocabMaskRCNN,
        names: Vocabulary | ClassNames,
        max_patches: int,
        threshold: float = SURE,
    ) -> None:
        if not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"max_patches {max_patches}: give 1 to {MAX_PATCHES:,}")
        if not 0 <= threshold < 1:
            raise Fgclip2Error(f"threshold {threshold}: scores of a Mask R-CNN are 0 to 1")
        self.model, self.max_patches, self.threshold = model.eval(), max_patches, threshold
        model.set_vocabularies({_KEY: names})
        self.names = model.vocabularies()[_KEY].names

    @property
    def predictor(self) -> FGCLIP2:
        """The model's FG-CLIP 2."""
        return self.model.backbone.predictor

    def __call__(self, image: ImageLike) -> InstanceSegmentation:
        """Find the things of one picture."""
        opened = open_image(image)
        pixels = whole_patches(np.asarray(opened), self.max_patches)
        (found,) = self.model([{"image": pixels, "height": opened.height, "width": opened.width}])
        things = found["instances"][_KEY].to("cpu")
        # A mask can be empty when a box is smaller than what its mask is drawn with; there is nothing to show then.
        things = things[(things.scores >= self.threshold) & things.pred_masks.flatten(1).any(1)]
        return InstanceSegmentation(
            self.names,
            things.pred_boxes.tensor.numpy(),
            things.scores.numpy(),
            things.pred_classes.numpy(),
            things.pred_masks.numpy(),
        )

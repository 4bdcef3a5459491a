"""FG-CLIP 2's losses, one a module: pure functions of unit-length features and positive scales."""

from fgclip2.losses.contrastive import region_contrastive_loss
from fgclip2.losses.hard_negative import hard_negative_loss
from fgclip2.losses.sigmoid import sigmoid_loss

__all__ = ["hard_negative_loss", "region_contrastive_loss", "sigmoid_loss"]

"""FG-CLIP 2's losses, one a module: pure functions of unit-length features and positive scales.

Every loss takes a ``group`` of ranks to reach over; :mod:`fgclip2.losses.distributed` says what is then returned.
"""

from fgclip2.losses.contrastive import region_contrastive_loss
from fgclip2.losses.hard_itc import hard_itc_loss
from fgclip2.losses.hard_negative import hard_negative_loss
from fgclip2.losses.rank import rank_loss
from fgclip2.losses.sigmoid import sigmoid_loss
from fgclip2.losses.text_intra import text_intra_contrastive_loss

__all__ = [
    "hard_itc_loss",
    "hard_negative_loss",
    "rank_loss",
    "region_contrastive_loss",
    "sigmoid_loss",
    "text_intra_contrastive_loss",
]

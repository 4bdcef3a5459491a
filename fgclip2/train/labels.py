"""Class labels as a training signal for small models from scratch; in neither the paper nor the released code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.losses.distributed import Group, share_of_mean, sum_over_ranks
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import TextProcessor

TERMS: Final = ("label", "label_tokens", "label_names", "label_image")
_CHUNK = 256  # names encoded at a time


class LabelHead(nn.Module):
    """One learned unit vector a class, a *proxy*, that regions and bare class names are both classified against.

    A proxy stands for all texts that name its class. Encoding every name at every step would cost more than the
    pictures; a product with the proxies costs next to nothing, and text and picture meet through them.

    The tower's own tokens are classified too, through a linear layer: the dense head has no residual path, so until
    it has learned to look at its own place, little of what it is told reaches the tower. And whole pictures are, so
    that the pooling learns to gather the names of all things before captions ask for them with everything else.

    Args:
        classes: number of classes C.
        width: of the embeddings, D.
        tokens: width of the tower's tokens.
    """

    def __init__(self, classes: int, width: int, tokens: int) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(classes, width) / width**0.5)
        self.tokens = nn.Linear(tokens, width)
        # Scales start at 20: enough to learn from, and they must not saturate before the classes are apart.
        self.log_scales = nn.ParameterDict({name: torch.full((1,), 3.0) for name in TERMS})

    @torch.no_grad()
    def start(self, model: Fgclip2Model, texts: TextProcessor, names: Sequence[Sequence[str]]) -> None:
        """Let every proxy start where the model already puts its class's names: one list of C names a language."""
        for each in names:
            for rows in torch.arange(len(each), device=self.proxies.device).split(_CHUNK):
                ids = texts([each[row] for row in rows.tolist()], "box").to(self.proxies.device)
                features = model.get_text_features(ids, walk_type="box").float()
                self.proxies[rows] += F.normalize(features, dim=-1)

    def forward(self, name: str, features: Tensor, labels: Tensor, group: Group | None = None) -> Tensor:
        """Mean cross entropy of ``scale cos(x_i, proxy)``.

        Args:
            name: ``label`` for regions, ``label_tokens`` for the tower's tokens there, ``label_names`` for names,
                ``label_image`` for the pictures that regions are in.
            features: ``(M, D)``, or ``(M, W)`` tokens.
            labels: int64 ``(M,)``, -1 where unknown.
            group: ranks to average over, see :mod:`fgclip2.losses.distributed`.

        Returns:
            Scalar; 0 without a known label.
        """
        if name == "label_tokens":
            features = self.tokens(features)
        features = F.normalize(features.float(), dim=-1)
        logits = self.log_scales[name].exp() * features @ F.normalize(self.proxies, dim=-1).T
        total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return share_of_mean(total, sum_over_ranks((labels >= 0).sum().to(total.dtype), group), group)

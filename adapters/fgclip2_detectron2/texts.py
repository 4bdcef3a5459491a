"""The classes of a segmentor: names, and one embedding a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import Vocabulary, check_names


class PromptTexts(nn.Module):
    """Names and embeddings ``(T, P, D)`` as a buffer: it follows the model's device, and is derived, not stored.

    Args:
        predictor: the segmentor's own model.
        names: T class names in any mix of languages.
        templates: P prompts with ``{}`` for the name; each is a channel of the cost volume.

    Raises:
        Fgclip2Error: no name, a repeated one, or a template without exactly one ``{}``.
    """

    embeddings: Tensor

    def __init__(self, predictor: FGCLIP2, names: Sequence[str], templates: Sequence[str]) -> None:
        super().__init__()
        self.names = check_names(names)
        parts = [Vocabulary.build(predictor, self.names, [template]).embeddings for template in templates]
        self.register_buffer("embeddings", torch.stack(parts, dim=1).float().clone(), persistent=False)

    def __len__(self) -> int:
        return len(self.names)

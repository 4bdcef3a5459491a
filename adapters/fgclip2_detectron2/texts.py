"""The classes of a model: names, one embedding a prompt, and what it is trained on and looks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import ClassNames, Vocabulary, check_classes

from .backbone import FGCLIP2Backbone

PIXEL = 127.5
"""``x / PIXEL - 1`` are FG-CLIP 2's pixel values of 0..255."""


class PromptTexts(nn.Module):
    """Names and embeddings ``(T, P, D)`` as a buffer: it follows the model's device, and is derived, not stored.

    Args:
        predictor: the model's own FG-CLIP 2.
        classes: T class names in any mix of languages, with or without synonyms, or a vocabulary of that model.
        templates: P prompts with ``{}`` for the name; each is a channel of the cost volume. A vocabulary has prompts of
            its own, averaged, and so suits a model of one prompt only.

    Raises:
        Fgclip2Error: no name, a repeated one, a template without exactly one ``{}``, or an unsuitable vocabulary.
    """

    embeddings: Tensor

    def __init__(self, predictor: FGCLIP2, classes: Vocabulary | ClassNames, templates: Sequence[str]) -> None:
        super().__init__()
        if isinstance(classes, Vocabulary):
            classes.require(predictor)
            if len(templates) != 1:
                raise Fgclip2Error(
                    f"a vocabulary has one embedding a class, but this model takes {len(templates)} prompts a class; "
                    "give the names instead"
                )
            self.names, parts = classes.names, [classes.embeddings]
        else:
            named = check_classes(classes)
            self.names = tuple(named)
            parts = [Vocabulary.build(predictor, named, [template]).embeddings for template in templates]
        self.register_buffer("embeddings", torch.stack(parts, dim=1).detach().float().clone(), persistent=False)

    def __len__(self) -> int:
        return len(self.names)


class OpenVocabulary:
    """Mixed into a model whose classes are texts and live outside its weights.

    A model calls `init_texts` once its own ``__init__`` is through.

    Attributes:
        templates: prompts with ``{}`` for the name.
        options: the plain values it was built from, for checkpoints; empty when it was made otherwise.
    """

    backbone: FGCLIP2Backbone
    training_ids: Tensor
    training_texts: nn.ModuleDict
    texts: nn.ModuleDict

    def init_texts(self, templates: Sequence[str]) -> None:
        """Begin without classes."""
        self.templates = tuple(templates)
        self.training_texts, self.texts = nn.ModuleDict(), nn.ModuleDict()
        self.background = False
        self.options: dict[str, Any] = {}
        cast(nn.Module, self).register_buffer("training_ids", torch.zeros(0, dtype=torch.int64), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.training_ids.device

    @property
    def training_names(self) -> dict[str, list[str]]:
        """Names of the trained classes, by language."""
        return {key: list(cast(PromptTexts, texts).names) for key, texts in self.training_texts.items()}

    def set_training_classes(self, vocabularies: Mapping[str, Sequence[str]], ids: Sequence[int]) -> None:
        """Choose what is trained.

        Args:
            vocabularies: names of the trained classes, by language; each batch draws one language.
            ids: label of each class in the data; other labels are negative for every class.
        """
        self.training_texts = self._embedded(vocabularies)
        self.training_ids = torch.as_tensor(ids, dtype=torch.int64, device=self.device)

    def set_vocabularies(self, vocabularies: Mapping[str, Vocabulary | ClassNames], background: bool = False) -> None:
        """Choose what is looked for.

        Args:
            vocabularies: classes by language, or by any key: names, with or without synonyms, or a vocabulary of the
                model's FG-CLIP 2. A picture is encoded once for all of them.
            background: leave pixels unnamed where no class reaches the threshold.
        """
        self.texts = self._embedded(vocabularies)
        self.background = background

    def drawn_training_texts(self) -> Tensor:
        """Embeddings ``(T, P, D)`` of the trained classes in one of their languages, drawn by torch's random state.

        Raises:
            Fgclip2Error: there are none.
        """
        if not self.training_texts:
            raise Fgclip2Error("nothing to train: call set_training_classes first")
        keys = list(self.training_texts)
        return cast(PromptTexts, self.training_texts[keys[int(torch.randint(len(keys), ()))]]).embeddings

    def vocabularies(self) -> dict[str, PromptTexts]:
        """What is looked for.

        Raises:
            Fgclip2Error: nothing is.
        """
        if not self.texts:
            raise Fgclip2Error("nothing to look for: call set_vocabularies first")
        return cast("dict[str, PromptTexts]", dict(self.texts.items()))

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 pixels as the tower takes them, on the model's device."""
        return image.to(self.device).float() / PIXEL - 1

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """uint8 pictures ``(3, h, w)`` as the tower takes them, padded to one size, and their own sizes."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        padded = [
            F.pad(self.pixels(image), (0, width - w, 0, height - h))
            for image, (h, w) in zip(images, sizes, strict=True)
        ]
        return torch.stack(padded), sizes

    def _embedded(self, vocabularies: Mapping[str, Vocabulary | ClassNames]) -> nn.ModuleDict:
        predictor = self.backbone.predictor
        texts = {key: PromptTexts(predictor, names, self.templates) for key, names in vocabularies.items()}
        return nn.ModuleDict(texts).to(self.device)


def plain_value(value: Any) -> Any:
    """A node of a LazyConfig as a dictionary or list, for JSON."""
    return dict(value) if isinstance(value, Mapping) else list(value)

"""The classes of a detector: names, their text embeddings, and which of them the detector was never trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.names import check_classes, said
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import ClassNames, Templates, Vocabulary


class ClassTexts(nn.Module):
    """Names and embeddings as buffers: they follow the detector's device, and are derived again instead of stored.

    Args:
        vocabulary: C names and embeddings.
        novel: for each name whether it is novel, that is, was never a training label; ``None`` for none.
    """

    embeddings: Tensor
    novel: Tensor

    def __init__(self, vocabulary: Vocabulary, novel: Sequence[bool] | None = None) -> None:
        super().__init__()
        self.names = tuple(vocabulary.names)
        flags = [False] * len(self.names) if novel is None else list(novel)
        if len(flags) != len(self.names):
            raise Fgclip2Error(f"{len(flags)} novel flags for {len(self.names)} classes; give one for each")
        embeddings = vocabulary.embeddings.detach().clone().float()
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.register_buffer("novel", torch.tensor(flags, dtype=torch.bool), persistent=False)

    def __len__(self) -> int:
        return len(self.names)


def as_vocabulary(
    source: Vocabulary | ClassNames, predictor: FGCLIP2, templates: Templates | None = None
) -> Vocabulary:
    """Names to a vocabulary of this model; a ready vocabulary is checked and passed on.

    Args:
        source: class names in any mix of languages, with or without synonyms, or a vocabulary.
        predictor: the detector's own model.
        templates: prompts with ``{}`` for the name, or those of each language; ``None`` takes the names alone.

    Raises:
        Fgclip2Error: no name, or a vocabulary that was embedded by another model.
    """
    if isinstance(source, Vocabulary):
        source.require(predictor)
        return source.to(predictor.device)
    return Vocabulary.build(predictor, source, templates)


def trained_words(vocabulary: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Training classes with all their words, as `fgclip2.names.said`: names in every language, and synonyms.

    Args:
        vocabulary: of a config. The vocabularies in its ``test`` name the same classes in the same order, so a class
            that one of them calls as ``train`` does has its names in the others too. Where none calls any class so, the
            flags in ``novel`` say which ones the training names are, in their order.
    """
    train = check_classes(vocabulary["train"]) if vocabulary.get("train") else {}
    test = vocabulary.get("test") or {}
    listed = [check_classes(names) for names in test.values()] if isinstance(test, Mapping) else []
    own = {name: {said(name), *map(said, synonyms)} for name, synonyms in train.items()}
    if len({len(classes) for classes in listed}) != 1:
        return {name: frozenset(words) for name, words in own.items()}
    groups = [
        {said(word) for name, synonyms in of_class for word in (name, *synonyms)}
        for of_class in zip(*(classes.items() for classes in listed), strict=True)
    ]
    place = {said(name): index for classes in listed for index, name in enumerate(classes)}
    places = {name: place[said(name)] for name in train if said(name) in place}
    flags = list(vocabulary.get("novel") or ())
    base = [index for index, flag in enumerate(flags) if flag is False]
    if not places and len(flags) == len(groups) and len(base) == len(train):
        places = dict(zip(train, base, strict=True))
    return {name: frozenset(words | groups[places[name]] if name in places else words) for name, words in own.items()}


def novel_flags(
    names: Sequence[str],
    trained: Collection[str],
    novel: Collection[str] | Sequence[bool] | None,
    synonyms: Sequence[Sequence[str]] = (),
) -> list[bool]:
    """Which names are novel.

    Args:
        names: C class names.
        trained: names the detector was trained on, in all languages.
        novel: novel names, or C flags; ``None`` calls every class novel of whose words none is among the trained ones.
        synonyms: the other words of the C classes; empty for none.

    Raises:
        Fgclip2Error: a novel name that is not a class, or a wrong number of flags.
    """
    if novel is None:
        known = {said(name) for name in trained}
        words = [(name, *others) for name, others in zip(names, synonyms or [()] * len(names), strict=True)]
        return [known.isdisjoint(map(said, of_class)) for of_class in words]
    given = list(novel)
    if given and all(isinstance(flag, bool) for flag in given):
        if len(given) != len(names):
            raise Fgclip2Error(f"{len(given)} novel flags for {len(names)} classes; give one for each")
        return [bool(flag) for flag in given]
    classes, chosen = set(names), set(given)
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise Fgclip2Error(f"novel classes that are not in the vocabulary: {', '.join(map(str, unknown))}")
    return [name in chosen for name in names]


def shuffled(vocabulary: Vocabulary, seed: int = 0) -> Vocabulary:
    """The control: the same names, each with the embedding of another one.

    A detector whose scores come from its texts falls to chance with it.

    Args:
        vocabulary: two or more classes.
        seed: of the permutation, a single cycle, so that no class keeps its own embedding.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(vocabulary.names), generator=generator)
    moved = torch.empty_like(vocabulary.embeddings)
    moved[order] = vocabulary.embeddings[order.roll(1)]
    return replace(vocabulary, embeddings=moved)

"""Class names, English or Chinese, as text embeddings: made once, cached on disk, tied to the model that made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.glossary import match_names
from fgclip2.names import (
    CJK,
    ClassNames,
    check_classes,
    check_names,
    load_classes,
    load_names,
    parse_names,
    spoken,
)
from fgclip2.progress import progress
from fgclip2.text_cache import TextCache, cache_dir
from fgclip2.translations import are_translations

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

__all__ = [
    "CJK",
    "TEMPLATES",
    "ClassNames",
    "Templates",
    "Vocabulary",
    "cache_dir",
    "check_classes",
    "check_names",
    "load_classes",
    "load_names",
    "load_templates",
    "matches",
    "parse_names",
    "same_classes",
]

Templates: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str]]"
"""Prompts with one ``{}`` for the name; or those of ``en`` and of ``zh``, which names with Chinese characters take."""

TEMPLATES: Final = ("{}",)
"""The bare name: what the box head was trained on, and right in both languages."""

_FORMAT: Final = "fgclip2.vocabulary"
_VERSION: Final = 1
_LANGUAGES: Final = ("en", "zh")
_CHUNK: Final = 4096  # prompts embedded, and kept on disk, at a time
_COMPARED: Final = 2048  # classes compared at a time


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names of classes with their embeddings.

    Attributes:
        names: C names in class order, distinct.
        embeddings: (C, D) float32, unit length; compare with region and dense features.
        model_hash: ``FGCLIP2.hash`` of the model that made them.
        model_name: that model's name, for messages.
        templates: the prompts whose mean an embedding is, each with one ``{}``; or those of each language.
        synonyms: C times the other words for a class, whose mean with the name its embedding is; empty for none at all.

    Raises:
        Fgclip2Error: names repeat, or do not fit the embeddings.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    model_hash: str
    model_name: str = "unknown"
    templates: tuple[str, ...] | Mapping[str, tuple[str, ...]] = TEMPLATES
    synonyms: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_names(self.names)
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.names):
            raise Fgclip2Error(
                f"{len(self.names)} names and embeddings of shape {tuple(self.embeddings.shape)}; give one (D,) row "
                "a name"
            )
        if self.synonyms and len(self.synonyms) != len(self.names):
            raise Fgclip2Error(
                f"{len(self.names)} names and synonyms of {len(self.synonyms)}; give those of every name"
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def build(
        cls,
        model: FGCLIP2,
        names: ClassNames,
        templates: Templates | None = None,
        *,
        cache: bool = True,
    ) -> Vocabulary:
        """Embed class names through the box head.

        A word's embedding is the mean over its prompts, of unit length, a class's the mean over its name and synonyms,
        of unit length too. So every word counts the same whatever its language's number of prompts, and a class stays
        one row, which costs nothing when it is scored.

        Args:
            model: what embeds them.
            names: distinct names, English or Chinese, with or without synonyms; see ``parse_names``, ``load_classes``.
                They are kept as they are given; in texts blanks stand for underscores.
            templates: prompts with one ``{}`` for the name; ``None`` takes the bare name. A dictionary has those of
                ``en`` and ``zh``: a name or synonym with a Chinese character takes the latter.
            cache: keep the embedding of every name under ``cache_dir()``, by the model's hash, the templates and the
                name, so that another list of names embeds only what is new in it.

        Raises:
            Fgclip2Error: no names, empty or repeated ones, or a template without exactly one ``{}``.
        """
        classes = check_classes(names)
        prompts = _check_templates(TEMPLATES if templates is None else templates)
        words = [tuple(map(spoken, (name, *synonyms))) for name, synonyms in classes.items()]
        rows = _embed(model, dict.fromkeys(word for of_class in words for word in of_class), prompts, cache)
        # Prompts that say different things have a short mean: as it is, such a word would count for less than others.
        means = torch.stack(
            [
                rows[of[0]] if len(of) == 1 else F.normalize(torch.stack([rows[w] for w in of]), dim=-1).mean(0)
                for of in words
            ]
        )
        synonyms = tuple(classes.values()) if any(classes.values()) else ()
        embeddings = F.normalize(means.to(model.device), dim=-1)
        return cls(tuple(classes), embeddings, model.hash, model.name, prompts, synonyms)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.safetensors`` file, atomically; names and the rest go into its metadata."""
        from safetensors.torch import save

        meta = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "names": json.dumps(self.names, ensure_ascii=False),
            "synonyms": json.dumps(self.synonyms, ensure_ascii=False),
            "templates": json.dumps(self.templates, ensure_ascii=False),
            "model_hash": self.model_hash,
            "model_name": self.model_name,
        }
        data = save({"embeddings": self.embeddings.detach().cpu().contiguous()}, metadata=meta)
        write_atomically(Path(path), data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: FGCLIP2 | None = None) -> Vocabulary:
        """Read what ``save`` wrote.

        Args:
            path: the file.
            model: the model it will be used with; its embeddings go to that model's device.

        Raises:
            Fgclip2Error: no such file, no vocabulary, or one of another model.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                meta = file.metadata() or {}
                embeddings = file.get_tensor("embeddings") if "embeddings" in file.keys() else None  # noqa: SIM118
        except FileNotFoundError as error:
            raise Fgclip2Error(
                f"vocabulary {os.fspath(path)!r} does not exist; make it with Vocabulary.build, or fgclip2 vocabulary"
            ) from error
        except (SafetensorError, OSError) as error:
            raise Fgclip2Error(
                f"{os.fspath(path)!r} cannot be read as a vocabulary ({error}); make it again"
            ) from error
        if embeddings is None or meta.get("format") != _FORMAT or meta.get("version") != str(_VERSION):
            raise Fgclip2Error(
                f"{os.fspath(path)!r} is not a vocabulary of version {_VERSION} (format {meta.get('format')!r}, "
                f"version {meta.get('version')!r}); make it again with Vocabulary.build(...).save(...)"
            )
        names, templates = tuple(json.loads(meta["names"])), _check_templates(json.loads(meta["templates"]))
        synonyms = tuple(map(tuple, json.loads(meta.get("synonyms", "[]"))))
        vocabulary = cls(names, embeddings, meta["model_hash"], meta["model_name"], templates, synonyms)
        if model is None:
            return vocabulary
        vocabulary.require(model)
        return vocabulary.to(model.device)

    def require(self, model: FGCLIP2) -> None:
        """Check that ``model`` made these embeddings.

        Raises:
            Fgclip2Error: another model did; both are named.
        """
        if model.hash != self.model_hash:
            raise Fgclip2Error(
                f"this vocabulary was made by model {self.model_name!r} (hash {self.model_hash[:12]}), but the model "
                f"in use is {model.name!r} (hash {model.hash[:12]}); make it again with Vocabulary.build"
            )

    def to(self, device: str | torch.device) -> Vocabulary:
        """The same vocabulary on another device."""
        return replace(self, embeddings=self.embeddings.to(device))

    def against(self, known: Vocabulary, same: Collection[int] | None = None) -> Vocabulary:
        """These classes, then those of ``known`` that mean none of them: rivals, without which one class wins all.

        Args:
            known: classes embedded by the same model.
            same: indices of those to leave out; ``None`` takes ``same_classes`` without a model.
        """
        same = same_classes(self, known) if same is None else same
        rest = [index for index in range(len(known)) if index not in same]
        own, others = (item.synonyms or ((),) * len(item) for item in (self, known))
        return replace(
            self,
            names=(*self.names, *(known.names[index] for index in rest)),
            embeddings=torch.cat([self.embeddings, known.embeddings[rest].to(self.embeddings)]),
            synonyms=(*own, *(others[index] for index in rest)) if self.synonyms or known.synonyms else (),
        )


def same_classes(
    wanted: Vocabulary, known: Vocabulary, model: FGCLIP2 | None = None, *, guess: bool = False
) -> set[int]:
    """Indices of the known classes that mean one of the wanted ones; see ``matches``."""
    return set(matches(wanted, known, model, guess=guess))


def matches(
    wanted: Vocabulary, known: Vocabulary, model: FGCLIP2 | None = None, *, guess: bool = False
) -> dict[int, int]:
    """Which known classes mean one of the wanted ones.

    A known class means a wanted one if a name or synonym is given again, or if a table of English and Chinese names
    translates one into the other, see `fgclip2.glossary.match_names`.

    Args:
        wanted: W classes.
        known: K classes, embedded by the same model.
        model: that model, which only ``guess`` needs; without it `fgclip2.translations.are_translations` is not asked.
        guess: also take the nearest embedding for a translation where no table has one. A model that does not know a
            word guesses wrong: the toy model takes "人" for "merperson".

    Returns:
        Index into ``known`` -> the one into ``wanted`` of the class that it means.

    Example:
        >>> english, chinese = (Vocabulary.build(model, [name]) for name in ("person", "人"))
        >>> matches(chinese, english)
        {0: 0}
    """
    same = match_names(_words_of(wanted), known.names)
    return same | _guessed(wanted, known, model, same) if guess else same


def _words_of(vocabulary: Vocabulary) -> list[tuple[str, ...]]:
    synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
    return [(name, *others) for name, others in zip(vocabulary.names, synonyms, strict=True)]


def _guessed(wanted: Vocabulary, known: Vocabulary, model: FGCLIP2 | None, same: Mapping[int, int]) -> dict[int, int]:
    """Translations by embeddings: a Chinese and a non-Chinese name that are each other's nearest.

    They must be nearer than any other known name, and neither may be a kind of the other, as "红色汽车" of "car", see
    `fgclip2.translations.are_translations`. Names in one script may be near without meaning the same ("wolf", "dog").
    """
    count = len(known)
    texts = known.embeddings.to(wanted.embeddings)
    closest = texts.new_full((len(wanted),), -torch.inf)  # of every wanted class, the highest cosine and its class
    nearest = torch.zeros(len(wanted), dtype=torch.int64, device=texts.device)
    back = torch.zeros(count, dtype=torch.int64, device=texts.device)  # of every known class, the nearest wanted one
    rivalled = torch.zeros(count, dtype=torch.bool, device=texts.device)  # another known class is as near
    for start in range(0, count, _COMPARED):
        part = texts[start : start + _COMPARED]
        between = part @ wanted.embeddings.T  # (k, W)
        cosine, row = between.max(0)
        nearer = cosine > closest
        closest, nearest = torch.where(nearer, cosine, closest), torch.where(nearer, row + start, nearest)
        best, back[start : start + _COMPARED] = between.max(1)
        among = part @ texts.T  # (k, K)
        among[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        rivalled[start : start + _COMPARED] = among.amax(1) >= best
    mutual = (back[nearest] == torch.arange(len(wanted), device=texts.device)) & ~rivalled[nearest]
    near = [(column, int(nearest[column])) for column in mutual.nonzero()[:, 0].tolist()]
    pairs = [
        (column, index)
        for column, index in near
        if index not in same and bool(CJK.search(wanted.names[column])) != bool(CJK.search(known.names[index]))
    ]
    meant = [True] * len(pairs) if model is None else are_translations(model, wanted, known, pairs)
    return {index: column for (column, index), holds in zip(pairs, meant, strict=True) if holds}


def load_templates(path: str | os.PathLike[str]) -> Templates:
    """Templates of a JSON file: a list, or ``{"en": [...], "zh": [...]}``.

    Raises:
        Fgclip2Error: no such file, no JSON, or no such templates.
    """
    file = Path(path)
    try:
        return _check_templates(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"templates {str(file)!r} cannot be read ({error}); give a JSON file") from error
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{file}: {error}") from error


def _check_templates(templates: Any) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    if isinstance(templates, Mapping):
        if sorted(templates) != sorted(_LANGUAGES):
            raise Fgclip2Error(
                f"templates are given for {', '.join(map(repr, templates)) or 'no language'}; a dictionary has those "
                "of 'en' and those of 'zh'"
            )
        return {language: _check_list(templates[language]) for language in _LANGUAGES}
    return _check_list(templates)


def _check_list(templates: Any) -> tuple[str, ...]:
    if not isinstance(templates, (list, tuple)):
        what = "one string" if isinstance(templates, str) else type(templates).__name__
        raise Fgclip2Error(f"templates are {what} ({templates!r:.60}); give a list, e.g. ['a photo of a {{}}.']")
    if not templates:
        raise Fgclip2Error("there are no templates; give at least one, or None for the bare name")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise Fgclip2Error(f"template {template!r} must hold exactly one {{}}, where the class name goes")
    return tuple(templates)


def _embed(
    model: FGCLIP2,
    words: Mapping[str, None],
    templates: tuple[str, ...] | Mapping[str, tuple[str, ...]],
    cache: bool,
) -> dict[str, Tensor]:
    """Of every word the mean (D,) over its prompts, on the CPU; not of unit length."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for word in words:
        chosen = templates["zh" if CJK.search(word) else "en"] if isinstance(templates, Mapping) else templates
        groups.setdefault(chosen, []).append(word)
    rows: dict[str, Tensor] = {}
    for prompts, group in groups.items():
        store = TextCache(_cache_folder(model, prompts)) if cache else None
        known = store.read(group) if store is not None else {}
        missing = [word for word in group if word not in known]
        size = max(1, _CHUNK // len(prompts))
        with progress(total=len(missing), unit="name", disable=len(missing) <= size) as bar:
            for start in range(0, len(missing), size):
                part = missing[start : start + size]
                texts = [prompt.replace("{}", word) for word in part for prompt in prompts]
                features = model.text_features(texts, kind="box").as_subclass(Tensor)
                means = features.unflatten(0, (len(part), len(prompts))).mean(1).cpu()
                known |= zip(part, means, strict=True)
                if store is not None:
                    store.add(part, means)
                bar.update(len(part))
        rows |= known
    return rows


def _cache_folder(model: FGCLIP2, templates: tuple[str, ...]) -> Path:
    # The dtype counts: bfloat16 embeddings differ from float32 ones in the third digit.
    key = json.dumps([_VERSION, model.hash, str(model.dtype), templates], ensure_ascii=False)
    return cache_dir() / "texts" / hashlib.sha256(key.encode()).hexdigest()[:32]

"""Class names, English or Chinese, as text embeddings: made once, cached on disk, tied to the model that made them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_log = logging.getLogger(__name__)

TEMPLATES: Final = ("{}",)
"""The bare name: what the box head was trained on, and right in both languages."""

_FORMAT: Final = "fgclip2.vocabulary"
_VERSION: Final = 1
CJK: Final = re.compile("[\u3400-\u9fff]")
"""A Chinese character."""
"""A Chinese character."""
_SEPARATORS: Final = re.compile(r"[,，、;；\n]")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names of classes with their embeddings.

    Attributes:
        names: C names in class order, distinct.
        embeddings: (C, D) float32, unit length; compare with region and dense features.
        model_hash: ``FGCLIP2.hash`` of the model that made them.
        model_name: that model's name, for messages.
        templates: the prompts whose mean an embedding is, each with one ``{}``.

    Raises:
        Fgclip2Error: names repeat, or do not fit the embeddings.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    model_hash: str
    model_name: str = "unknown"
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        check_names(self.names)
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.names):
            raise Fgclip2Error(
                f"{len(self.names)} names and embeddings of shape {tuple(self.embeddings.shape)}; give one (D,) row "
                "a name"
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def build(
        cls,
        model: FGCLIP2,
        names: Sequence[str],
        templates: Sequence[str] | None = None,
        *,
        cache: bool = True,
    ) -> Vocabulary:
        """Embed class names: every template through the box head, then the mean, then unit length.

        Args:
            model: what embeds them.
            names: distinct names, English or Chinese; see ``parse_names`` and ``load_names``.
            templates: prompts with one ``{}`` for the name; ``None`` takes the bare name.
            cache: keep the result under ``cache_dir()``, by the hash of model, names and templates.

        Raises:
            Fgclip2Error: no names, empty or repeated ones, or a template without exactly one ``{}``.
        """
        checked, prompts = check_names(names), _check_templates(TEMPLATES if templates is None else templates)
        file = _cache_file(model, checked, prompts) if cache else None
        if file is not None and file.exists():
            try:
                return cls.load(file, model)
            except Fgclip2Error as error:
                _log.warning("the cached vocabulary is made again (%s)", error)
        texts = [prompt.replace("{}", name) for name in checked for prompt in prompts]
        features = model.text_features(texts, kind="box").as_subclass(Tensor)
        embeddings = F.normalize(features.unflatten(0, (len(checked), len(prompts))).mean(1), dim=-1)
        vocabulary = cls(checked, embeddings, model.hash, model.name, prompts)
        if file is not None:
            vocabulary.save(file)
        return vocabulary

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.safetensors`` file, atomically; names and the rest go into its metadata."""
        from safetensors.torch import save

        meta = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "names": json.dumps(self.names, ensure_ascii=False),
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
                meta, embeddings = file.metadata() or {}, file.get_tensor("embeddings")
        except FileNotFoundError as error:
            raise Fgclip2Error(
                f"vocabulary {os.fspath(path)!r} does not exist; make it with Vocabulary.build"
            ) from error
        except (SafetensorError, OSError) as error:
            raise Fgclip2Error(
                f"{os.fspath(path)!r} cannot be read as a vocabulary ({error}); make it again"
            ) from error
        if meta.get("format") != _FORMAT or meta.get("version") != str(_VERSION):
            raise Fgclip2Error(
                f"{os.fspath(path)!r} is not a vocabulary of version {_VERSION} (format {meta.get('format')!r}, "
                f"version {meta.get('version')!r}); make it again with Vocabulary.build(...).save(...)"
            )
        names, templates = (tuple(json.loads(meta[key])) for key in ("names", "templates"))
        vocabulary = cls(names, embeddings, meta["model_hash"], meta["model_name"], templates)
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
        return Vocabulary(self.names, self.embeddings.to(device), self.model_hash, self.model_name, self.templates)


def parse_names(text: str) -> list[str]:
    """Split ``"dog, 红色汽车、猫"`` at commas, semicolons and line ends, half- or full-width.

    Raises:
        Fgclip2Error: no name, or one that repeats.
    """
    return list(check_names([name.strip() for name in _SEPARATORS.split(text) if name.strip()]))


def load_names(path: str | os.PathLike[str]) -> list[str]:
    """Class names of a file, in its order.

    Args:
        path: ``.txt`` with one name a line, or ``.json`` with a list of names, a list of ``{"name": ...}``, or COCO's
            ``{"categories": [{"name": ...}]}``.

    Raises:
        Fgclip2Error: the file is missing, of another kind or form, or its names repeat.
    """
    file = Path(path)
    if file.suffix.lower() not in (".txt", ".json"):
        raise Fgclip2Error(f"{file} is neither .txt (one class name a line) nor .json (a list of names, or COCO)")
    try:
        text = file.read_text(encoding="utf-8-sig")
        content: Any = json.loads(text) if file.suffix.lower() == ".json" else text.splitlines()
    except FileNotFoundError as error:
        raise Fgclip2Error(f"class file {file} does not exist; give a .txt or .json file") from error
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"class file {file} cannot be read ({error}); it must be UTF-8 text or JSON") from error
    if isinstance(content, dict):
        content = content.get("categories")
    if not isinstance(content, list):
        raise Fgclip2Error(f"{file} has no class names; allowed are a list of names, or COCO's 'categories'")
    entries: list[Any] = [entry.get("name") if isinstance(entry, dict) else entry for entry in content]
    wrong = [entry for entry in entries if not isinstance(entry, str)]
    if wrong:
        raise Fgclip2Error(f"{file}: {wrong[0]!r} is not a class name; every entry must be a string or have a 'name'")
    try:
        return list(check_names([name.strip() for name in entries if name.strip()]))
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{file}: {error}") from error


def same_classes(wanted: Vocabulary, known: Vocabulary) -> set[int]:
    """Which known classes mean one of the wanted ones.

    That is a name that is given again, whatever its case, or its translation: a Chinese and a non-Chinese name that are
    each other's nearest, nearer than any other known name. Names in one script may be neighbours without meaning the
    same ("wolf", "dog"), so nearness alone does not count there; cosines have no absolute scale, so ranks decide.

    Args:
        wanted: W classes.
        known: K classes, embedded by the same model.

    Returns:
        Indices into ``known``.
    """
    given = {name.strip().lower() for name in wanted.names}
    same = {index for index, name in enumerate(known.names) if name.strip().lower() in given}
    between = known.embeddings @ wanted.embeddings.T  # (K, W)
    among = (known.embeddings @ known.embeddings.T).fill_diagonal_(-torch.inf)
    rival = among.amax(dim=1)
    for column, name in enumerate(wanted.names):
        nearest = int(between[:, column].argmax())
        translated = bool(CJK.search(name)) != bool(CJK.search(known.names[nearest]))
        mutual = int(between[nearest].argmax()) == column and bool(between[nearest, column] > rival[nearest])
        if translated and mutual:
            same.add(nearest)
    return same


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple, when there is at least one, none is empty, and none repeats.

    Raises:
        Fgclip2Error: otherwise. Names that differ in case only repeat, since texts are lower-cased.
    """
    if isinstance(names, str):
        raise Fgclip2Error(f"the class names are one string ({names!r:.60}); split it with parse_names, or give a list")
    checked = tuple(names)
    if not checked:
        raise Fgclip2Error("there are no class names; give at least one, e.g. 'dog, 红色汽车'")
    seen: dict[str, int] = {}
    for index, name in enumerate(checked):
        if not isinstance(name, str) or not name.strip():
            raise Fgclip2Error(f"class name {index} is {name!r}; every name must be a string with something in it")
        key = name.strip().lower()
        if key in seen:
            raise Fgclip2Error(
                f"class names {seen[key]} and {index} are the same ({checked[seen[key]]!r}, {name!r}; case does not "
                "count); leave one out"
            )
        seen[key] = index
    return checked


def cache_dir() -> Path:
    """Where vocabularies are cached: ``$XDG_CACHE_HOME/fgclip2``, else ``~/.cache/fgclip2``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fgclip2"


def _check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    if isinstance(templates, str):
        raise Fgclip2Error(f"templates is one string ({templates!r}); give a list, e.g. ['a photo of a {{}}.']")
    if not templates:
        raise Fgclip2Error("there are no templates; give at least one, or None for the bare name")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise Fgclip2Error(f"template {template!r} must hold exactly one {{}}, where the class name goes")
    return tuple(templates)


def _cache_file(model: FGCLIP2, names: tuple[str, ...], templates: tuple[str, ...]) -> Path:
    # The dtype counts: bfloat16 embeddings differ from float32 ones in the third digit.
    key = json.dumps([_VERSION, model.hash, str(model.dtype), names, templates], ensure_ascii=False)
    return cache_dir() / "vocabularies" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

"""From a model's name to the directory that holds it: the embedded ``tiny``, a local path, or a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error

DEFAULT_MODEL: Final = "qihoo360/fg-clip2-base"
ENVIRONMENT_VARIABLE: Final = "FGCLIP2_MODEL"
EMBEDDED: Final = ("tiny",)
EXPORT: Final = "export.json"
"""What marks a directory that ``fgclip2 export`` has written."""
VOCABULARY: Final = "vocabulary.safetensors"
"""The classes that were baked into an export."""
GRAPHS: Final = ("vision.onnx", "text.onnx", "vision.xml", "text.xml")
"""Files of which an export has one or two."""

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_FILES: Final = ("config.json", "tokenizer.json", "tokenizer_config.json", "*.safetensors", "*.safetensors.index.json")


def resolve(name: str | os.PathLike[str] | None = None, *, exports: bool = False) -> Path:
    """Find the directory of a model, downloading it when the name is a hub id.

    Args:
        name: ``"tiny"`` for the embedded model, a directory, or a hub id such as ``"qihoo360/fg-clip2-base"``. Without
            one, ``$FGCLIP2_MODEL`` is taken, else the released base model. The embedded model is never a fallback.
        exports: whether a directory that ``fgclip2 export`` has written will do; it has no weights for torch.

    Returns:
        A directory with ``config.json``, ``tokenizer.json`` and safetensors weights; or an export's, not yet checked.

    Raises:
        Fgclip2Error: nothing by that name, an incomplete directory, or a download that failed; the message names the
            ways to get weights.
    """
    name = os.fspath(name or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_MODEL)
    if name in EMBEDDED:
        return _checked(Path(str(files("fgclip2") / "assets" / name)))
    path = Path(name).expanduser()
    if path.is_dir() and (path / EXPORT).is_file():
        if exports:
            return path
        raise Fgclip2Error(f"{path} is an export, which cannot be trained or taken apart; give the model itself")
    if path.is_dir():
        return _checked(path)
    if not _HUB_ID.fullmatch(name) or path.exists():
        raise Fgclip2Error(
            f"no model {name!r}: it is neither an existing directory, nor a hub id like {DEFAULT_MODEL}. {_WAYS}"
        )
    return _checked(_download(name))


def is_embedded(directory: Path) -> bool:
    """Whether a model's directory is one of the package's own."""
    return directory.resolve().parent == Path(str(files("fgclip2") / "assets")).resolve()


_WAYS: Final = (
    f"Three ways to get one: let it download ({DEFAULT_MODEL}, needs the network), give the directory of a copy "
    f"(also through ${ENVIRONMENT_VARIABLE}), or ask for the small embedded model by the name 'tiny'"
)


def _checked(directory: Path) -> Path:
    lacking = [file for file in ("config.json", "tokenizer.json") if not (directory / file).is_file()]
    if not any(file.name != VOCABULARY for file in directory.glob("*.safetensors")):
        lacking.append("*.safetensors")
    if lacking and any((directory / name).exists() for name in GRAPHS):
        raise Fgclip2Error(f"{directory} is a part of an export: it lacks {EXPORT}; copy the whole, or export again")
    if lacking:
        raise Fgclip2Error(f"{directory} is not a model directory: it lacks {', '.join(lacking)}. {_WAYS}")
    return directory


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES)))
    except RepositoryNotFoundError as error:
        raise Fgclip2Error(f"the hub has no public model {hub_id!r}. {_WAYS}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Fgclip2Error(f"could not download {hub_id!r} ({reason}). {_WAYS}") from error


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Silence transformers' bar over tensors: it takes no time worth showing and comes before all other output."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

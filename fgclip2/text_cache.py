"""Embeddings of texts on disk, text by text: what was embedded once, in whatever list, is not embedded again."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

_log = logging.getLogger(__name__)

_MOST_PARTS: Final = 16
_SMALL: Final = 1 << 26  # bytes; larger parts are never merged


class TextCache:
    """A folder of parts, each a ``.safetensors`` file of embeddings whose metadata holds their texts.

    Parts are written whole or not at all, under names of their own, and never changed: a process that is killed loses
    what it had not yet added, and processes that share the folder do not disturb each other. When there are many small
    parts they become one.

    Args:
        folder: of one model and one way of making embeddings from texts; made when the first part is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """Embeddings (D,) float32 of those of ``texts`` that are there."""
        wanted = set(texts)
        found: dict[str, Tensor] = {}
        for _, held, embeddings in self._open(self._parts()):
            rows = {text: row for row, text in enumerate(held) if text in wanted}
            if rows:
                found |= zip(rows, embeddings[list(rows.values())], strict=True)
        return found

    def add(self, texts: Sequence[str], embeddings: Tensor) -> None:
        """Keep embeddings (T, D) of T texts; where nothing can be written, a warning says so and nothing is kept."""
        try:
            self._write(texts, embeddings)
            small = [part for part in self._parts() if _size(part) < _SMALL]
            if len(small) > _MOST_PARTS:
                self._merge(small)
        except (Fgclip2Error, OSError) as error:
            _log.warning("embeddings of texts are not kept for the next time: %s", error)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def _write(self, texts: Sequence[str], embeddings: Tensor) -> None:
        from safetensors.torch import save

        tensors = {"embeddings": embeddings.detach().float().cpu().contiguous()}
        metadata = {"texts": json.dumps(list(texts), ensure_ascii=False)}
        write_atomically(self.folder / f"{uuid.uuid4().hex}.safetensors", save(tensors, metadata=metadata))

    def _open(self, parts: Iterable[Path]) -> Iterator[tuple[Path, list[str], Tensor]]:
        """Parts with texts and embeddings; damaged ones are removed, so that what they held is made again.

        A part that cannot be opened, with too many files open or a share that is gone, is whole: it is only passed by.
        """
        from safetensors import SafetensorError, safe_open

        for part in parts:
            try:
                with safe_open(os.fspath(part), framework="pt") as file:
                    texts, embeddings = json.loads(file.metadata()["texts"]), file.get_tensor("embeddings")
            except FileNotFoundError:  # merged by another process since the folder was listed
                continue
            except OSError as error:
                _log.warning("%s cannot be read now (%s); what it holds is computed", part, error)
                continue
            except (SafetensorError, ValueError, TypeError, KeyError) as error:
                _log.warning("%s is damaged (%s); what it held is made again", part, error)
                _remove(part)
                continue
            yield part, texts, embeddings

    def _merge(self, parts: Sequence[Path]) -> None:
        """One part in place of several; they go when the new one is there, so a text is at no time in none."""
        rows: dict[str, Tensor] = {}
        opened = []
        for part, texts, embeddings in self._open(parts):
            rows |= zip(texts, embeddings, strict=True)
            opened.append(part)
        if len(opened) < 2:  # another process was faster
            return
        self._write(list(rows), torch.stack(list(rows.values())))
        for part in opened:
            _remove(part)


def cache_dir() -> Path:
    """Where embeddings of texts are cached: ``$XDG_CACHE_HOME/fgclip2``, else ``~/.cache/fgclip2``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fgclip2"


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be removed (%s)", file, error)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return _SMALL  # gone, or not ours to read: nothing to merge

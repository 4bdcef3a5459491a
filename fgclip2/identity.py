"""What tells one model from another: a hash, of its files or of its tensors."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import torch
from torch import Tensor, nn

from fgclip2.cpu import sampled
from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.text_cache import cache_dir

if TYPE_CHECKING:
    from fgclip2.modeling import Fgclip2Model
    from fgclip2.processing import Processor

_log = logging.getLogger(__name__)

_Seen: TypeAlias = tuple[Path, int, int, int, int]
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LOCK: Final = threading.Lock()  # against reading gigabytes in two threads at once


def hash_of_files(directory: Path) -> str:
    """SHA-256, in hexadecimal, of a model directory's configuration, weights and tokenizer.

    Files are read once: the hash is kept under ``cache_dir()`` by every file's path, size, inode and times, of which
    the time of its last change of any kind cannot be set by programs that write files.
    """
    files = [directory / "config.json", *sorted(directory.glob("*.safetensors"))]
    files += sorted(directory.glob("tokenizer*.json"))
    with _LOCK:
        return _remembered(tuple(_seen(file) for file in files))


def hash_of_tensors(model: Fgclip2Model, processor: Processor) -> str:
    """SHA-256, in hexadecimal, of the configuration, all tensors and the tokenizer of a model in memory."""
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    digest.update(processor.text.tokenizer.to_str().encode())
    return digest.hexdigest()


class Unchanged:
    """Tells whether a module still computes what it did when this was made.

    It looks at the names of parameters and at some numbers of each, so that training, merged adapters and added ones
    show. Another device or number format does not count as a change.
    """

    def __init__(self, module: nn.Module) -> None:
        self._before = [(name, sample.clone()) for name, sample in _samples(module)]

    def __call__(self, module: nn.Module) -> bool:
        """Whether nothing has changed; makes the host wait for an accelerator."""
        now = list(_samples(module))
        return [name for name, _ in now] == [name for name, _ in self._before] and all(
            torch.equal(before.to(sample.dtype), sample)
            for (_, before), (_, sample) in zip(self._before, now, strict=True)
        )


def _samples(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, sampled(parameter).cpu()) for name, parameter in module.named_parameters())


def _seen(file: Path) -> _Seen:
    status = file.stat()
    return file.resolve(), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=16)
def _remembered(files: tuple[_Seen, ...]) -> str:
    """From the disk where it was kept, else computed and kept."""
    key = json.dumps([(str(path), *rest) for path, *rest in files], ensure_ascii=False)
    record = cache_dir() / "hashes" / hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        known = record.read_text(encoding="ascii")
    except (OSError, ValueError):
        known = ""
    if _DIGEST.fullmatch(known):
        return known
    found = _hash([path for path, *_ in files])
    try:
        write_atomically(record, found.encode())
    except (Fgclip2Error, OSError) as error:
        _log.warning("the hash of the model's files is not kept for the next time: %s", error)
    return found


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()

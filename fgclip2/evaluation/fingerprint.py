"""What a result depends on, as one number: a result of the same fingerprint need not be computed again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.benchmark import Benchmark
from fgclip2.evaluation.records import Question, pictures
from fgclip2.evaluation.scores import Settings

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

RESULT: Final = 3
"""Form of the result files; those of an earlier form are computed again."""


def fingerprint(
    benchmark: Benchmark, records: Sequence[Any], model: FGCLIP2, model_hash: str, root: Path, settings: Settings
) -> str:
    """Of all that a result depends on: same fingerprint, same result.

    Predictions count by their content, wherever they are; the benchmark's files by size and time; its records by what
    they say, and the pictures that they name, there or not, by path, size and time.

    Args:
        benchmark: which.
        records: all that its reader yields.
        model: what is judged.
        model_hash: of its weights.
        root: data root.
        settings: how it is judged.

    Raises:
        Fgclip2Error: a prediction cannot be read.
    """
    files = [root / name for part in (*benchmark.parts, *benchmark.optional) for name in (part.path, *part.others)]
    facts = [
        model_hash,
        str(model.dtype),
        settings.protocol,
        settings.samples,
        settings.seed,
        settings.worst,
        benchmark.name,
        [[str(file), *_stamp(file)] for file in files if file.exists()],
        _content(records),
        [] if settings.predictions is None else _predicted(settings.predictions, benchmark.name),
        RESULT,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _content(records: Iterable[Any]) -> str:
    """Digest of the records and of their pictures' stamps; a picture is stamped once, however many records name it."""
    digest, named = hashlib.sha256(), dict[Path, None]()
    for record in records:
        if isinstance(record, Question) and isinstance(record.image, bytes):
            digest.update(hashlib.sha256(record.image).digest())
            record = dataclasses.replace(record, image=b"")
        digest.update(repr(record).encode())
        named |= dict.fromkeys(pictures(record))
    for path in named:
        digest.update(repr((path, *_stamp(path))).encode())
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; -1 twice for what is not there or out of reach."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a name that no file can have is a ValueError
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _predicted(folder: Path, name: str) -> list[list[str]]:
    """Name and digest of every file that was predicted for a benchmark."""
    found = [file for ending in (".json", ".boxes.json", ".jsonl") if (file := folder / f"{name}{ending}").is_file()]
    found += sorted(file for file in (folder / name).rglob("*") if file.is_file())
    digests = []
    for file in found:
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Fgclip2Error(f"the prediction {file} cannot be read ({error.strerror})") from error
        digests.append([file.relative_to(folder).as_posix(), digest])
    return digests

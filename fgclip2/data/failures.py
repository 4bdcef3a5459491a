"""Samples, and parts of samples, that could not be used: named in a file and counted; too many samples stop the run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fgclip2.data.records import Language
from fgclip2.errors import Fgclip2Error


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that was left out of its batch: its name, why, and the language it would have had."""

    name: str
    reason: str
    language: Language = "en"


class FailureLog:
    """Appends failures to a file as JSON lines and watches their rate.

    Kept by the training process, not by the workers, so that what was loaded ahead but never trained on is not counted.
    Several processes may append to one file; each watches its own rate.

    Args:
        path: the file, e.g. ``failures.jsonl``; made, with its folder, at the first failure.
        limit: largest share of failed samples, 0..1.
        after: samples that the rate is judged over at least; of a short run all that it will see.

    Attributes:
        seen: samples so far, failed ones included.
        failed: failed ones.
        parts: parts that were left out of the others, such as a region; each is named once.
    """

    def __init__(self, path: str | os.PathLike[str], limit: float = 0.01, after: int = 1000) -> None:
        if not 0 <= limit <= 1:
            raise Fgclip2Error(f"the limit of failed samples is {limit}; give a share from 0 to 1, e.g. 0.01")
        self.path, self.limit, self.after = Path(path), limit, after
        self.seen = self.failed = 0
        self._parts: set[tuple[str, str]] = set()

    @property
    def parts(self) -> int:
        """How many were left out."""
        return len(self._parts)

    def add(self, failures: Sequence[Failure], seen: int, left_out: Sequence[Failure] = ()) -> None:
        """Note one batch.

        Args:
            failures: its failed samples.
            seen: all its samples, failed ones included.
            left_out: parts that were left out of the others.

        Raises:
            Fgclip2Error: so many samples have failed that the limit cannot be kept over ``after`` samples any more.
        """
        self.seen += seen
        self.failed += len(failures)
        fresh = [part for part in left_out if (part.name, part.reason) not in self._parts]
        self._parts |= {(part.name, part.reason) for part in fresh}
        if failures or fresh:
            lines = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in (*failures, *fresh))
            self._append(lines.encode())
        if self.failed > self.limit * max(self.seen, self.after):
            last = f"; the last was {failures[-1].name}: {failures[-1].reason}" if failures else ""
            raise Fgclip2Error(
                f"{self.failed:,} of {self.seen:,} samples are unusable, over the limit of {self.limit:.2%}{last}. "
                f"All are named in {self.path}: mend the data, or raise the limit if you can do without them"
            )

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of several processes do not mix.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)

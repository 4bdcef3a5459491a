"""What is wrong with an annotation file, and what was put right in it, gathered by kind."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco.values import listed
from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)
_NAMED: Final = 3  # how many of each kind of problem a message names


class Problems:
    """What is wrong with a file, by kind; each kind's text says what is allowed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, list[str]] = {}

    def add(self, kind: str, which: str) -> None:
        """Note one case."""
        self.found.setdefault(kind, []).append(which)

    def raise_any(self) -> None:
        """Raise all of them in one line.

        Raises:
            Fgclip2Error: there is a problem.
        """
        if not self.found:
            return
        total = sum(map(len, self.found.values()))
        parts = [f"{len(which)} x {kind}: {listed(which, _NAMED)}" for kind, which in self.found.items()]
        noun = "problem" if total == 1 else "problems"
        raise Fgclip2Error(f"{self.file}: {total} {noun}; correct the file, then try again. {'; '.join(parts)}")


class Repairs:
    """What was left out of a file or read in another way than it is written, by kind."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, list[Any]] = {}

    def add(self, kind: str, which: Any) -> None:
        """Note one case: ``kind`` completes the sentence "N ..."."""
        self.found.setdefault(kind, []).append(which)

    def sentences(self) -> list[str]:
        """One for each kind, with its count and the first cases."""
        return [f"{len(which):,} {kind}: {listed(which)}" for kind, which in self.found.items()]

    def log(self) -> None:
        """Warn of each kind."""
        for sentence in self.sentences():
            _log.warning("%s: %s", self.file, sentence)

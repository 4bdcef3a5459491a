"""A folder of results that appears whole or not at all: pictures, and the JSON that speaks of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from fgclip2.errors import Fgclip2Error


class Results:
    """Result files, collected beside their destination and moved there by ``commit``; without it nothing is left.

    The listing comes last, so that its presence means that everything it names is there.

    Args:
        out: the folder.
        listing: name of the JSON file of all entries.
    """

    def __init__(self, out: Path, listing: str = "detections.json") -> None:
        self.listing = listing
        if out.exists() and not out.is_dir():
            raise Fgclip2Error(f"--out {str(out)!r} is a file; give a folder")
        self.out = out
        self.entries: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        self._taken: set[Path] = set()

    def __enter__(self) -> Results:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(dir=self.out.parent, prefix=f".{self.out.name}."))
        except OSError as error:
            raise Fgclip2Error(f"--out {str(self.out)!r} cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def place(self, name: Path, suffixes: tuple[str, ...], default: str) -> tuple[Path, str]:
        """A free place for a result: where to write it now, and how it will be called in ``out``, never above it."""
        name = Path(*(part for part in name.parts if part not in (name.anchor, "..")))
        if name.suffix.lower() not in suffixes:
            name = name.with_name(name.name + default)
        free, number = name, 1
        while Path(str(free).lower()) in self._taken:
            number += 1
            free = name.with_stem(f"{name.stem}-{number}")
        self._taken.add(Path(str(free).lower()))
        target = self._scratch / free
        target.parent.mkdir(parents=True, exist_ok=True)
        return target, free.as_posix()

    def commit(self) -> list[Path]:
        """Move everything to ``out`` and return what a person wants to open, the listing first."""
        listing = [json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in self.entries]
        (self._scratch / self.listing).write_text("[\n" + ",\n".join(listing) + "\n]\n", encoding="utf-8")
        if self.failures:
            lines = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in self.failures)
            (self._scratch / "failures.jsonl").write_text(lines, encoding="utf-8")
        self.out.mkdir(exist_ok=True)
        for earlier in ("failures.jsonl", "results.json"):
            (self.out / earlier).unlink(missing_ok=True)
        files = sorted(path for path in self._scratch.rglob("*") if path.is_file())
        files.sort(key=lambda path: path == self._scratch / self.listing)
        for file in files:
            target = self.out / file.relative_to(self._scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            file.replace(target)
        return [self.out / file.relative_to(self._scratch) for file in reversed(files)]

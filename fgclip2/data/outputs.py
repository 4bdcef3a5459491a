"""A folder of results that appears whole or not at all: pictures, and the JSON that speaks of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

_SETTINGS: Final = "settings.json"
_JOURNAL: Final = "entries.jsonl"


class Results:
    """Result files, collected beside their destination and moved there by ``commit``; without it nothing is left.

    With ``settings`` a run can be gone on with: what it has finished stays beside the destination when it stops,
    however it stops, and a later run with the same settings begins with that, or with what the destination has.

    The listing comes last, so that its presence means that everything it names is there; only settings.json, which
    says that it may be gone on with, comes after it.

    Args:
        out: the destination.
        settings: all that results depend on beside the pictures, as JSON values; None for a run that cannot be gone on
            with.
        listing: name of the JSON file of all entries.

    Attributes:
        entries: of the listing; add to them with ``add``.
        failures: pictures that could not be read.
        done: ``image`` of the entries that an earlier run made.

    Raises:
        Fgclip2Error: ``out`` is a file or cannot be written, or has results of other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any] | None = None, listing: str = "detections.json") -> None:
        self.listing = listing
        if out.exists() and not out.is_dir():
            raise Fgclip2Error(f"--out {str(out)!r} is a file; give a folder")
        self.out = out
        self.settings = None if settings is None else json.loads(json.dumps(settings))
        self.entries: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        self.done: set[str] = set()
        self._taken: set[Path] = set()

    def __enter__(self) -> Results:
        earlier = self._earlier() if self.settings is not None else []
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if self.settings is None:
                self._scratch = Path(tempfile.mkdtemp(dir=self.out.parent, prefix=f".{self.out.name}."))
                return self
            self._scratch.mkdir(exist_ok=True)
            write_atomically(self._scratch / _SETTINGS, json.dumps(self.settings, ensure_ascii=False).encode())
            # Anew, since a run that was killed may have left half a line at the end.
            write_atomically(self._scratch / _JOURNAL, "".join(map(_line, earlier)).encode())
        except OSError as error:
            raise Fgclip2Error(f"--out {str(self.out)!r} cannot be written: {error.strerror}") from error
        self.entries = earlier
        self.done = {entry["image"] for entry in earlier}
        self._taken = {Path(entry["picture"].lower()) for entry in earlier}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.settings is None or not self.entries:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _earlier(self) -> list[dict[str, Any]]:
        """Entries of the run that was stopped, else of the finished one, whose drawn pictures are there."""
        self._scratch = self.out.parent / f".{self.out.name}.partial"
        if (self._scratch / _SETTINGS).is_file():
            self._compare(self._scratch / _SETTINGS)
            journal = self._scratch / _JOURNAL
            lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
            found = [entry for line in lines if (entry := _parsed(line)) is not None]
        elif (self.out / self.listing).is_file():
            if not (self.out / _SETTINGS).is_file():
                raise Fgclip2Error(
                    f"{self.out} has results of a run without --resume, whose settings are not known; leave it out to "
                    "replace them, or give another --out"
                )
            self._compare(self.out / _SETTINGS)
            found = json.loads((self.out / self.listing).read_text(encoding="utf-8"))
        else:
            found = []
        folders = (self._scratch, self.out)
        return [entry for entry in found if any((folder / entry["picture"]).is_file() for folder in folders)]

    def _compare(self, file: Path) -> None:
        assert self.settings is not None
        earlier = _parsed(file.read_text(encoding="utf-8")) or {}
        other = sorted(
            key for key in self.settings.keys() | earlier.keys() if self.settings.get(key) != earlier.get(key)
        )
        if other:
            raise Fgclip2Error(
                f"{file.parent} has results of other settings ({', '.join(other)}); give the same ones or another "
                "--out, or leave out --resume to begin anew"
            )

    def add(self, entries: Sequence[dict[str, Any]]) -> None:
        """Entries whose drawn pictures are in place."""
        self.entries += entries
        if self.settings is not None:
            with (self._scratch / _JOURNAL).open("a", encoding="utf-8") as stream:
                stream.write("".join(map(_line, entries)))

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
        listing = [_line(entry).rstrip() for entry in self.entries]
        (self._scratch / self.listing).write_text("[\n" + ",\n".join(listing) + "\n]\n", encoding="utf-8")
        if self.failures:
            lines = "".join(map(_line, self.failures))
            (self._scratch / "failures.jsonl").write_text(lines, encoding="utf-8")
        self.out.mkdir(exist_ok=True)
        for earlier in ("failures.jsonl", "results.json", _SETTINGS):
            (self.out / earlier).unlink(missing_ok=True)
        files = sorted(path for path in self._scratch.rglob("*") if path.is_file())
        last = [self._scratch / name for name in (self.listing, _SETTINGS)]
        files = [file for file in files if file not in (*last, self._scratch / _JOURNAL)] + last
        moved = [file.relative_to(self._scratch) for file in files if file.is_file()]
        for name in moved:
            target = self.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with (self._scratch / name).open("rb") as stream:
                os.fsync(stream.fileno())
            (self._scratch / name).replace(target)
        return [self.out / name for name in reversed(moved) if name != Path(_SETTINGS)]


def identity(value: Any) -> Any:
    """A setting as JSON; files count with their size and time of change, folders with those of their files."""
    if isinstance(value, (tuple, list)):
        return [identity(item) for item in value]
    if isinstance(value, (str, Path)):
        path = Path(value)
        files = [path] if os.path.isfile(value) else []  # unlike Path's, silent on texts too long for a name
        if value and os.path.isdir(value):
            files = sorted(item for item in path.iterdir() if item.is_file())
        if files:
            return [str(path.resolve()), *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)]
    return str(value) if isinstance(value, Path) else value


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None

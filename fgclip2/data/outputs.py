"""A folder of results that appears whole or not at all: pictures, and the JSON that speaks of them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.files import set_aside, write_atomically

_log = logging.getLogger(__name__)

_SETTINGS: Final = "settings.json"
_JOURNAL: Final = "entries.jsonl"
_FAILURES: Final = "failures.jsonl"
_SOURCES: Final = "sources"  # in settings.json, beside the settings: what was looked at, see `source`
_ASIDE: Final = "aside"  # in the journal, beside an entry


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
        failures: pictures and videos that could not be read, or not to their end; add to them with ``fail``.
        done: `source` of the files whose entries an earlier run made. Of a file that has changed since, the entries
            are dropped, and it is not among these.
        asides: image of an entry -> JSON values that are not for the listing, but for a later run if this one is
            stopped. Put them here before ``add``; those of a run that was stopped are here.

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
        self.failures: list[dict[str, Any]] = []
        self.done: set[str] = set()
        self.asides: dict[str, Any] = {}
        self._continues = False  # what the destination has is the beginning of this run
        self._taken: set[Path] = set()
        self._sources: dict[str, str] = {}  # image of an entry -> what it was when it was looked at

    def __enter__(self) -> Results:
        earlier, failures = self._earlier() if self.settings is not None else ([], [])
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if self.settings is None:
                self._scratch = Path(tempfile.mkdtemp(dir=self.out.parent, prefix=f".{self.out.name}."))
                return self
            self._scratch.mkdir(exist_ok=True)
            write_atomically(self._scratch / _SETTINGS, json.dumps(self.settings, ensure_ascii=False).encode())
            # Anew, since a run that was killed may have left half a line at the end.
            lines = [self._noted(entry) for entry in earlier] + failures
            write_atomically(self._scratch / _JOURNAL, "".join(map(_line, lines)).encode())
        except OSError as error:
            raise Fgclip2Error(f"--out {str(self.out)!r} cannot be written: {error.strerror}") from error
        self.entries, self.failures = earlier, failures
        self.done = set(self._sources.values())
        self._taken = {Path(entry["picture"].lower()) for entry in earlier}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.settings is None or not self.entries:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _earlier(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Entries of the run that was stopped, else of the finished one, that still hold, and failures beside them.

        An entry holds when its drawn picture is there, and its file has not changed.
        """
        self._scratch = self.out.parent / f".{self.out.name}.partial"
        sources: dict[str, str] = {}
        failures: list[dict[str, Any]] = []
        if (self._scratch / _SETTINGS).is_file():
            self._compare(self._scratch / _SETTINGS)
            lines = _lines(self._scratch / _JOURNAL)
            found = [line for line in lines if "error" not in line]
            failures = [line for line in lines if "error" in line]
            sources = {entry["image"]: key for entry in found if (key := entry.pop(_SOURCES, None)) is not None}
            self.asides = {entry["image"]: entry.pop(_ASIDE) for entry in found if _ASIDE in entry}
        elif (self.out / self.listing).is_file():
            if not (self.out / _SETTINGS).is_file():
                raise Fgclip2Error(
                    f"{self.out} has results of a run without --resume, whose settings are not known; leave it out to "
                    "replace them, or give another --out"
                )
            sources = self._compare(self.out / _SETTINGS)
            self._continues = True
            found = json.loads((self.out / self.listing).read_text(encoding="utf-8"))
            failures = _lines(self.out / _FAILURES)
        else:
            found = []
        folders = (self._scratch, self.out)
        images = {entry["image"] for entry in found}
        self._sources = {
            image: sources.get(image, image)
            for image in images
            if not Path(image).exists() or source(image) == sources.get(image)
        }
        kept = [
            entry
            for entry in found
            if entry["image"] in self._sources and any((folder / entry["picture"]).is_file() for folder in folders)
        ]
        held = {entry["image"] for entry in kept}
        self._sources = {image: key for image, key in self._sources.items() if image in held}
        self.asides = {image: aside for image, aside in self.asides.items() if image in held}
        # What left no entry is tried again; a video with entries is not, so that it failed must not be forgotten.
        return kept, [failure for failure in failures if failure["image"] in held]

    def _compare(self, file: Path) -> dict[str, str]:
        """Check an earlier run's settings; returns what it has looked at."""
        assert self.settings is not None
        earlier = _parsed(file.read_text(encoding="utf-8")) or {}
        sources: dict[str, str] = earlier.pop(_SOURCES, {})
        other = sorted(
            key for key in self.settings.keys() | earlier.keys() if self.settings.get(key) != earlier.get(key)
        )
        if other:
            raise Fgclip2Error(
                f"{file.parent} has results of other settings ({', '.join(other)}); give the same ones or another "
                "--out, or leave out --resume to begin anew"
            )
        return sources

    def earlier(self, name: str) -> Path | None:
        """A file of the finished run that this one goes on with, until ``commit``; None when there is none."""
        file = self.out / name
        return file if self.done and (self.out / _SETTINGS).is_file() and file.is_file() else None

    def add(self, entries: Sequence[dict[str, Any]], key: str | None = None) -> None:
        """Entries whose drawn pictures are in place.

        Args:
            entries: each with ``image``, the file, and ``picture``, as ``place`` called it.
            key: the file's `source` before it was read; None takes ``image`` itself.
        """
        self.entries += entries
        self._sources |= {entry["image"]: entry["image"] if key is None else key for entry in entries}
        self._note([self._noted(entry) for entry in entries])

    def fail(self, image: Path, error: str) -> None:
        """A picture or video that could not be read, or not to its end."""
        self.failures.append({"image": str(image), "error": error})
        self._note(self.failures[-1:])

    def _noted(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An entry as the journal has it."""
        image = entry["image"]
        aside = {_ASIDE: self.asides[image]} if image in self.asides else {}
        return {**entry, _SOURCES: self._sources[image], **aside}

    def _note(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if self.settings is not None:
            with (self._scratch / _JOURNAL).open("a", encoding="utf-8") as stream:
                stream.write("".join(map(_line, lines)))

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
            (self._scratch / _FAILURES).write_text(lines, encoding="utf-8")
        if self.settings is not None:
            known = json.dumps({**self.settings, _SOURCES: self._sources}, ensure_ascii=False)
            write_atomically(self._scratch / _SETTINGS, known.encode())
        self.out.mkdir(exist_ok=True)
        if not self._continues:
            self._set_aside()
        for earlier in (_FAILURES, "results.json", _SETTINGS):
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

    def _set_aside(self) -> None:
        """Move an earlier run's listing, and the files that it names, into ``previous-N``.

        Left where they are, its drawn images would stand beside a listing that does not know them.
        """
        file = self.out / self.listing
        if not file.is_file():
            return
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            entries = []
        values = (value for entry in entries if isinstance(entry, dict) for value in entry.values())
        named = {value for value in values if isinstance(value, str) and value and not os.path.isabs(value)}
        names = sorted(name for name in named if ".." not in Path(name).parts and (self.out / name).is_file())
        beside = [name for name in (_FAILURES, "results.json", _SETTINGS) if (self.out / name).is_file()]
        place = set_aside(self.out, [self.listing])
        assert place is not None
        for name in (*names, *beside):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).replace(place / name)
        _log.warning("%s had results of an earlier run; they are in %s now", self.out, place)


def source(path: str | os.PathLike[str]) -> str:
    """A file however its path is spelled, with its size and time of change; the path as given when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return os.fspath(path)
    return f"{Path(path).resolve()}:{status.st_size}:{status.st_mtime_ns}"


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


def _lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    return [content for line in lines if (content := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None

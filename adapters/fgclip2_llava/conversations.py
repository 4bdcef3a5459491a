"""LLaVA's training data: pictures and what is said about them, from a JSON list or JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fgclip2.data.failures import Failure
from fgclip2.data.finehard import image_file
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import read_lines, read_list
from fgclip2.names import CJK

from .processing import IMAGE

_ROLES: Final = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
_SAMPLED: Final = 64  # pictures whose sizes are part of a fingerprint


@dataclass(frozen=True, slots=True)
class Example:
    """A picture and what is said about it; the placeholder is where the picture comes."""

    image: Path
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Conversations:
    """What a file holds.

    Attributes:
        examples: that a projector can be trained on.
        without: how many entries have no picture; they say nothing to a projector.
        failures: entries with a picture that cannot be used.
        odd: entries without a picture that could not be used either.
    """

    examples: list[Example]
    without: int
    failures: list[Failure]
    odd: list[Failure]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells it from another file: a hash of all that is said, of names, and of sizes of some pictures."""
        digest, last = hashlib.sha256(), len(self.examples) - 1
        sampled = {round(place * last / (_SAMPLED - 1)) for place in range(_SAMPLED)}
        for number, example in enumerate(self.examples):
            size = None
            if number in sampled:
                try:
                    size = os.path.getsize(example.image)
                except (OSError, ValueError):  # named when it is trained on
                    size = -1
            told = json.dumps((example.image.name, example.turns, size), ensure_ascii=False)
            digest.update(told.encode("utf-8", "surrogatepass"))
        return {"examples": len(self.examples), "content": digest.hexdigest()[:16]}


def read_conversations(file: Path, image_root: Path) -> Conversations:
    """Read ``[{"image": ..., "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}]``.

    JSON lines are read too, and ``messages`` of ``role`` (user, assistant) and ``content``. An entry that cannot be
    used is named, and the others are read.

    Args:
        file: a JSON list, or one entry a line.
        image_root: folder that ``image`` is relative to.

    Raises:
        Fgclip2Error: the file cannot be read, or no entry can be used.
    """
    found = Conversations([], 0, [], [])
    without = 0
    for name, item in _entries(file):
        if isinstance(item, str):
            found.failures.append(Failure(name, item))
            continue
        image = item.get("image")
        bare = image is None or image == "" or image == [] or image != image
        without += bare
        try:
            turns = _turns(item)
            if bare:
                continue
            found.examples.append(Example(image_file(image_root, _image(image)), _with_one_picture(turns)))
        except Fgclip2Error as error:
            said = json.dumps(item, ensure_ascii=False, default=str)
            lost = Failure(name, str(error), "zh" if CJK.search(said) else "en")
            (found.odd if bare else found.failures).append(lost)
    if not found.examples:
        first = (*found.failures, *found.odd)[:1]
        reason = "".join(f"; the first that cannot be used: {one.name}: {one.reason}" for one in first)
        raise Fgclip2Error(f"{file} has no usable entry with a picture; a projector is trained on pictures{reason}")
    return Conversations(found.examples, without, found.failures, found.odd)


def _entries(file: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Names of entries, and the entries, or why a line is none."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            lines = stream.read(64).lstrip().startswith("{")
    except OSError as error:
        raise Fgclip2Error(f"{file} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise Fgclip2Error(f"{file} is no UTF-8 text; save it as UTF-8") from error
    if not lines:
        for number, content in enumerate(read_list(file)):
            yield f"{file.name}, entry {number}", content
        return
    for number, line in read_lines(file):
        name = f"{file.name}, line {number}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield name, f"is no JSON ({error})"
            continue
        yield name, content if isinstance(content, dict) else f"is a JSON {type(content).__name__}, not an object"


def _image(value: Any) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            raise Fgclip2Error(f"has {len(value)} pictures; one an entry is supported")
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise Fgclip2Error(f"its image is {value!r:.60} instead of a file's name")
    return value


def _with_one_picture(turns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    count = sum(said.count(IMAGE) for said, _ in turns)
    if count != 1:
        raise Fgclip2Error(f"a picture needs {IMAGE} once in what the human says; it is there {count} times")
    return turns


def _turns(entry: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    listed = entry.get("conversations", entry.get("messages"))
    if listed is None:
        raise Fgclip2Error("it has no conversations")
    items: Sequence[Any] = listed if isinstance(listed, list) else ()
    said = [item if isinstance(item, dict) else {} for item in items]
    given = [item.get("from", item.get("role")) for item in said]
    roles = [_ROLES.get(role) if isinstance(role, str) else None for role in given]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        raise Fgclip2Error(f"conversations must alternate from human (user) to gpt (assistant); these are {given[:6]}")
    texts = []
    for value in (item.get("value", item.get("content")) for item in said):
        if not isinstance(value, str) or not value.strip():
            raise Fgclip2Error(f"{value!r:.40} where a text was wanted")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Fgclip2Error(f"half of a character was cut off in {value[:40]!a}") from error
        texts.append(value.strip())
    return tuple(zip(texts[::2], texts[1::2], strict=True))

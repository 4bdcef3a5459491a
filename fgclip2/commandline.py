"""Command lines: what `tyro` parses, without losing an option that is given twice."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import tyro

from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)
_MANY: Final = ("*", "+")  # argparse's counts of values that have no end
_MARKUP: Final = re.compile(r"^(.*\[/?bold\].*?)( ?│?)$", re.MULTILINE)
_SPELLING: Final = 0.85  # difflib's likeness of a name and its misspelling


def parse(
    form: Any, argv: Sequence[str] | None = None, *, prog: str | None = None, description: str | None = None
) -> Any:
    """``tyro.cli``; the values of an option of several values may stand after one flag or after several.

    ``--where "a" "b"`` and ``--where "a" --where "b"`` are the same; argparse would keep "b" alone. Of an option of one
    value the last counts, as everywhere, and stderr says so.

    Args:
        form: dataclass, or union of dataclasses for subcommands.
        argv: the words; ``None`` takes the program's.
        prog: name in the help.
        description: text of the help.

    Raises:
        Fgclip2Error: a word is no text.

    Example:
        >>> parse(SearchArguments, ["photos.idx", "dog", "--where", "label = cat", "--where", "stars >= 4"]).where
        ('label = cat', 'stars >= 4')
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = word.encode(errors="backslashreplace").decode()
            raise Fgclip2Error(
                f"{shown!r:.80} on the command line is no UTF-8 text; rename it, or give it anew"
            ) from error
    if _repeated(words):
        words = _joined(words, _argument_parser(form, prog))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            # Nobody writes "None" on a command line; without it the help is half as long.
            return tyro.cli(form, args=words, prog=prog, description=description, config=(tyro.conf.DisallowNone,))
    finally:
        sys.stderr.write(_MARKUP.sub(_unmarked, said.getvalue()))


def _unmarked(line: re.Match[str]) -> str:
    """A line of a box without tyro's markup, as wide as before."""
    text = re.sub(r"\[/?bold\]", "", line[1])
    return text + " " * (len(line[1]) - len(text)) + line[2]


def check_overrides(overrides: Sequence[str], settings: Any) -> None:
    """Check that overrides mean settings of a config; of one that is given twice the last counts, with a warning.

    Args:
        overrides: texts like ``train.iterations=100``.
        settings: nested mappings and sequences. A mapping with ``type`` or ``_target_`` is a call, and takes arguments
            that the config does not have, and so do mappings inside ``_target_``: whoever makes the call checks those.

    Raises:
        Fgclip2Error: the config has no setting of a name; near ones are named.
    """
    seen: dict[str, str] = {}
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key in seen:
            _log.warning("the setting %s is given twice (%r and %r); the last counts", key, seen[key], text)
        seen[key] = text
        if not _has(settings, key.split(".")):
            every = list(_dotted(settings))
            last = [one for one in every if one.rpartition(".")[2] == key.rpartition(".")[2]]
            near = difflib.get_close_matches(key, every, 1) or last
            hint = f"did you mean {near[0]}?" if near else f"its parts are {', '.join(map(str, settings))}"
            raise Fgclip2Error(f"no setting {key}; {hint}")


def _has(settings: Any, path: Sequence[str], *, inside: bool = False) -> bool:
    if not path:
        return True
    if isinstance(settings, Mapping):
        inside = inside or "_target_" in settings
        if path[0] in settings:
            return _has(settings[path[0]], path[1:], inside=inside)
        # A call may take more arguments than stand here, but hardly one that is spelled nearly as one of them.
        is_call = inside or "type" in settings
        own = [str(key) for key in settings if key not in ("type", "_target_")]
        return is_call and not difflib.get_close_matches(path[0], own, 1, _SPELLING)
    if isinstance(settings, Sequence) and not isinstance(settings, str):
        return (
            path[0].isdigit() and int(path[0]) < len(settings) and _has(settings[int(path[0])], path[1:], inside=inside)
        )
    return settings is None  # nothing stands there yet


def _dotted(settings: Any, prefix: str = "") -> Iterator[str]:
    """The names of all settings, parts before what is in them."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield f"{prefix}{key}"
            yield from _dotted(value, f"{prefix}{key}.")


def _flag(word: str) -> str | None:
    """The option that a word is, as tyro compares them; ``None`` for a value."""
    if not word.startswith("--") or word == "--":
        return None
    return word.partition("=")[0].replace("_", "-")


def _repeated(words: Sequence[str]) -> list[str]:
    flags = [flag for flag in map(_flag, words) if flag is not None]
    return [flag for flag in dict.fromkeys(flags) if flags.count(flag) > 1]


def _argument_parser(form: Any, prog: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        getter = getattr(tyro.extras, "get_parser", None)
        return None if getter is None else getter(form, prog=prog)


def _joined(words: Sequence[str], parser: Any) -> list[str]:
    """The words with the values of each repeated option behind its first flag."""
    actions: dict[str, Any] = {}
    choices: Any
    place = 0
    while parser is not None:
        actions |= {name: action for action in parser._actions for name in action.option_strings}
        choices = next((action.choices for action in parser._actions if hasattr(action, "_name_parser_map")), {})
        chosen = next((index for index in range(place, len(words)) if words[index] in choices), None)
        parser = None if chosen is None else choices[words[chosen]]
        place = place if chosen is None else chosen + 1
    current: list[str] = []
    groups = [current]
    of: dict[str, list[str]] = {}
    for word in words:
        flag = _flag(word)
        if flag is None:
            current.append(word)
            continue
        name, separator, value = word.partition("=")
        if flag not in of:
            current = of[flag] = [name]
            groups.append(current)
        elif flag in actions and actions[flag].nargs in _MANY:
            current = of[flag]
        else:
            print(f"note: {flag} is given more than once; the last counts", file=sys.stderr)
            groups.remove(of[flag])
            current = of[flag] = [name]
            groups.append(current)
        current += [value] * bool(separator)
    return [word for group in groups for word in group]

"""What `--help` and the README show can be pasted: every command parses, and the README's first ones run."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgclip2.commandline import parse
from fgclip2.errors import Fgclip2Error

ROOT = Path(__file__).parents[1]
PROGRAMS = [f"apps.{file.stem}" for file in sorted((ROOT / "apps").glob("*.py")) if "__main__" in file.read_text()]
PROGRAMS += ["demos.app", "fgclip2.cli"]
# `$FGCLIP2_MODEL` and the like would be a shell's business.
COMMAND = re.compile(r"^ *((?:fgclip2|python|torchrun) .*)$")


class Parsed(BaseException):
    """What a command line was understood as; no program catches it."""


def commands(text: str) -> list[list[str]]:
    """The commands of a text, each with its words; comments are left out."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = [match[1] for line in joined.splitlines() if (match := COMMAND.match(line)) and "`" not in line]
    return [shlex.split(command, comments=True) for command in found]


def shown(program: str) -> str:
    """The help of a program as a user sees it, without the table of options."""
    words = ["-m", "fgclip2"] if program == "fgclip2.cli" else [f"{program.replace('.', '/')}.py"]
    command = [sys.executable, *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("╭")[0]


def understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's program understands its words; only the parsing runs."""
    if words[0] == "torchrun":
        assert words[1] == "--nproc-per-node"
        assert words[2].isdigit()
        words = ["python", *words[3:]]
    if words[0] == "fgclip2":
        name, rest = "fgclip2.cli", words[1:]
    elif words[1] == "-m":
        name, rest = words[2], words[3:]
    else:
        assert (ROOT / words[1]).is_file(), words[1]
        name, rest = words[1].removesuffix(".py").replace("/", "."), words[2:]
    module = importlib.import_module(name)

    def stop(form: Any, argv: Any = None, **named: Any) -> Any:
        try:
            raise Parsed(parse(form, rest if argv is None else argv, **named))
        except Fgclip2Error as error:  # understood, but a file of the example is not here
            raise Parsed from error

    monkeypatch.setattr(module, "parse", stop)
    monkeypatch.setattr(sys, "argv", [name, *rest])
    with pytest.raises(Parsed):
        module.main()


@pytest.mark.parametrize("program", PROGRAMS)
def test_examples_of_the_help_are_understood(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands(shown(program))
    assert found or program == "apps.train_tiny"
    for words in found:
        assert "..." not in words
        understood(words, monkeypatch)


@pytest.mark.parametrize(
    "page", ["README.md", "README_zh.md", *sorted(f"docs/{f.name}" for f in ROOT.glob("docs/*.md"))]
)
def test_examples_of_the_pages_are_understood(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    for words in [words for block in blocks for words in commands(block)]:
        assert "..." not in words, words
        if words[1:3] != ["-m", "pip"] and not words[1].startswith("-m"):
            understood(words, monkeypatch)

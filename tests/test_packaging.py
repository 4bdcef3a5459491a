"""What a fresh clone relies on: package layout, pinned versions, and a Makefile that explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fgclip2

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DESIGN_FLOORS = {"torch": "2.9", "transformers": "5.3", "gradio": "6.7", "pillow": "12.2", "faiss-cpu": "1.15"}


def requirements() -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    parsed = [Requirement(text) for text in texts]
    return [requirement for requirement in parsed if requirement.name != "fgclip2"]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    settings = [f"{key}={value}" for key, value in variables.items()]
    command = ["make", "--no-print-directory", *arguments, *settings]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for requirement in requirements():
        assert str(pinned[canonicalize_name(requirement.name)]) in requirement.specifier, requirement


def test_floors_are_those_of_the_design() -> None:
    ranges = {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements()}
    for name, floor in DESIGN_FLOORS.items():
        assert str(ranges[name]) == f">={floor}"


def test_extras() -> None:
    assert {"mmdet", "detectron2", "search", "demo", "scenes", "dev", "all"} <= EXTRAS.keys()
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all"}


def test_no_package_index_is_written_down() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"index-url|find-links|https?://|file://|trusted-host", text), name


@pytest.mark.parametrize("top", ["fgclip2", "adapters"])
def test_every_folder_of_modules_is_a_package(top: str) -> None:
    folders = {path.parent for path in (ROOT / top).rglob("*.py")} - {ROOT / top / "assets"}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_packages_are_typed() -> None:
    for package in (ROOT / "fgclip2", *(path.parent for path in (ROOT / "adapters").glob("*/__init__.py"))):
        assert (package / "py.typed").is_file(), package


def test_version_is_that_of_the_package() -> None:
    assert "version" in PROJECT["dynamic"]
    assert Version(fgclip2.__version__) >= Version("0.1.0")


def test_continuous_integration_calls_make() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert re.findall(r"^make (\w+)", text, re.MULTILINE) == ["lint", "test"]


def test_help_is_the_default_and_names_every_target() -> None:
    shown = make()
    assert shown.returncode == 0, shown.stderr
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"^  make {target} +\w", shown.stdout, re.MULTILINE), target


def test_an_old_python_is_refused_with_advice(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    refused = make("setup", PYTHON=str(old), VENV=str(tmp_path / "venv"))
    assert refused.returncode == 2
    assert "is Python 3.9.2. Install python3.11, or name one: make setup PYTHON=" in refused.stderr
    assert not (tmp_path / "venv").exists()

"""Names of files as other tools spell them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from fgclip2.data.locate import locate, spellings

NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("train\\a.jpg", "train/a.jpg"),
        (".\\train\\猫.jpg", "train/猫.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("%E7%8C%AB.jpg", "猫.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("100%.jpg", "100%.jpg"),
        (NFC, NFD),
        (NFD, NFC),
        (quote(NFC), NFD),
        ('"a b.jpg"', "a b.jpg"),
        ("'a.jpg' ", "a.jpg"),
        ("\ufeffa.jpg", "a.jpg"),
        (" a.jpg ", " a.jpg "),
    ],
)
def test_spellings_of_a_name_are_found(tmp_path: Path, name: str, there: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / there).write_bytes(b"x")
    assert locate(tmp_path, name) == tmp_path / there


def test_the_literal_name_comes_first(tmp_path: Path) -> None:
    for name in ("a b.jpg", "a%20b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert locate(tmp_path, "a%20b.jpg") == tmp_path / "a%20b.jpg"


def test_addresses_of_files(tmp_path: Path) -> None:
    file = tmp_path / "猫 1.jpg"
    file.write_bytes(b"x")
    assert locate(Path("/nowhere"), file.as_uri()) == file
    assert locate(Path("/nowhere"), file.as_uri().replace("///", "//localhost/")) == file
    assert "C:/a b.jpg" in list(spellings("file:///C:/a%20b.jpg"))


@pytest.mark.parametrize("name", ["b.jpg", "", "a\0.jpg", "x" * 5000, "\ud800.jpg", "train"])
def test_what_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "train").mkdir()
    assert locate(tmp_path, name) is None

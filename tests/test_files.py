"""Results of earlier runs are moved, never deleted."""

from __future__ import annotations

from pathlib import Path

from fgclip2.files import set_aside


def test_every_earlier_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "训练"
    assert set_aside(folder, ("*.pth",)) is None  # nothing there, not even the folder
    folder.mkdir()
    (folder / "previous-4").mkdir()
    (folder / "previous-best").mkdir()  # the user's
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert set_aside(folder, ("*.pth",)) is None
    for run in ("first", "second"):
        for name in ("model_1.pth", "metrics.json"):
            (folder / name).write_text(run, encoding="utf-8")
        set_aside(folder, ("*.pth", "metrics.json"))
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "notes.txt": "mine",
        "previous-5/model_1.pth": "first",
        "previous-5/metrics.json": "first",
        "previous-6/model_1.pth": "second",
        "previous-6/metrics.json": "second",
    }

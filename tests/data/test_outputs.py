"""Folders of results: whole or not at all, and gone on with after a stop of any kind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fgclip2.data.outputs import Results, identity
from fgclip2.errors import Fgclip2Error

SETTINGS = {"classes": "狗, dog", "score_thr": 0.3}


def add(results: Results, name: str) -> None:
    target, called = results.place(Path(name), (".png",), ".png")
    target.write_text(f"drawn {name}")
    results.add([{"image": f"photos/{name}", "picture": called}])


def run(results: Results, names: list[str], stop: type[BaseException]) -> None:
    with results:
        for name in names:
            add(results, name)
        raise stop


def listed(out: Path) -> list[str]:
    return [entry["image"] for entry in json.loads((out / "detections.json").read_text(encoding="utf-8"))]


def test_without_settings_nothing_is_left_of_a_run_that_stops(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Results(tmp_path / "out"), ["a.png"], KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, Fgclip2Error])
def test_a_stopped_run_is_gone_on_with(tmp_path: Path, stop: type[BaseException]) -> None:
    out = tmp_path / "结果"
    with pytest.raises(stop):
        run(Results(out, SETTINGS), ["a.png", "里面/a.png"], stop)
    assert not out.exists()
    with Results(out, SETTINGS) as results:
        assert results.done == {"photos/a.png", "photos/里面/a.png"}
        add(results, "b.png")
        add(results, "A.png")  # a taken name on file systems that do not tell case apart
        results.commit()
    assert listed(out) == ["photos/a.png", "photos/里面/a.png", "photos/b.png", "photos/A.png"]
    assert (out / "里面/a.png").read_text() == "drawn 里面/a.png"
    assert (out / "A-2.png").read_text() == "drawn A.png"
    assert sorted(path.name for path in out.iterdir()) == [
        *("A-2.png", "a.png", "b.png", "detections.json", "settings.json", "里面")
    ]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_earlier_runs_images_do_not_stand_beside_a_new_listing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the user keeps in the folder stays; a third run does not touch the first one's."""
    out = tmp_path / "out"
    for number, names in enumerate((["a.png", "里/b.png"], ["c.png"], ["d.png"])):
        with Results(out) as results:
            for name in names:
                add(results, name)
            if number == 0:
                results.fail(Path("photos/x.png"), "damaged")
            results.commit()
        (out / "mine.txt").write_text("kept")
    assert listed(out) == ["photos/d.png"]
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == [
        *("d.png", "detections.json", "mine.txt", "previous-1/a.png", "previous-1/detections.json"),
        *("previous-1/failures.jsonl", "previous-1/里/b.png", "previous-2/c.png", "previous-2/detections.json"),
    ]
    assert listed(out / "previous-1") == ["photos/a.png", "photos/里/b.png"]
    assert "had results of an earlier run; they are in" in caplog.text


def test_a_finished_run_is_added_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.png", "b.png"):
        with Results(out, SETTINGS) as results:
            if f"photos/{name}" not in results.done:
                add(results, name)
            results.commit()
    assert listed(out) == ["photos/a.png", "photos/b.png"]
    (out / "a.png").unlink()  # then its entry speaks of nothing, and it is made again
    with Results(out, SETTINGS) as results:
        assert results.done == {"photos/b.png"}


def test_kill_leaves_what_can_be_read(tmp_path: Path) -> None:
    """Half a line at the end of the journal, and a drawn picture without its entry: both are made again."""
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    with pytest.raises(KeyboardInterrupt):
        run(Results(out, SETTINGS), ["a.png", "b.png"], KeyboardInterrupt)
    journal = partial / "entries.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    with Results(out, SETTINGS) as results:
        assert results.done == {"photos/a.png"}
        add(results, "b.png")
        results.commit()
    assert listed(out) == ["photos/a.png", "photos/b.png"]
    assert (out / "b.png").is_file()


def test_what_was_put_aside_survives_a_stop_and_is_not_listed(tmp_path: Path) -> None:
    def first() -> None:
        with Results(out, SETTINGS) as results:
            results.asides["photos/a.png"] = [1, "狗"]
            add(results, "a.png")
            add(results, "b.png")
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        first()
    for name in ("c.png", "d.png"):
        results = Results(out, SETTINGS)
        with pytest.raises(KeyboardInterrupt):
            run(results, [name], KeyboardInterrupt)
        assert results.asides == {"photos/a.png": [1, "狗"]}
        assert results.earlier("results.json") is None
    with Results(out, SETTINGS) as results:
        results.place(Path("results.json"), (".json",), ".json")[0].write_text("{}")
        results.commit()
    assert "aside" not in (out / "detections.json").read_text()
    with Results(out, SETTINGS) as results:
        assert results.asides == {}
        assert results.earlier("results.json") == out / "results.json"
    with Results(out) as results:
        assert results.earlier("results.json") is None


def test_other_settings_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Results(out, SETTINGS) as results:
        add(results, "a.png")
        results.commit()
    with (
        pytest.raises(Fgclip2Error, match=r"other settings \(score_thr, tile\)"),
        Results(out, {"classes": SETTINGS["classes"], "score_thr": 0.2, "tile": 64}),
    ):
        pass
    with Results(out) as results:  # begins anew
        add(results, "b.png")
        results.commit()
    assert listed(out) == ["photos/b.png"]
    with pytest.raises(Fgclip2Error, match="without --resume"), Results(out, SETTINGS):
        pass


def test_files_count_with_their_content(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("dog")
    before: list[Any] = [identity(str(file)), identity(tmp_path), identity((file, "cpu"))]
    os.utime(file, ns=(1, 1))
    assert all(
        one != other for one, other in zip(before, map(identity, (str(file), tmp_path, (file, "cpu"))), strict=True)
    )
    assert identity("猫, " * 2000) == "猫, " * 2000  # no file system has such a name
    assert (identity(None), identity(0.5), identity(Path("nowhere")), identity("")) == (None, 0.5, "nowhere", "")


def test_line_separators_inside_a_text_do_not_tear_a_line(tmp_path: Path) -> None:
    name = "猫\u2028狗\u0085\u2029.png"
    with pytest.raises(KeyboardInterrupt):
        run(Results(tmp_path / "out", SETTINGS), [name], KeyboardInterrupt)
    with Results(tmp_path / "out", SETTINGS) as results:
        assert results.done == {f"photos/{name}"}
        results.commit()
    assert listed(tmp_path / "out") == [f"photos/{name}"]

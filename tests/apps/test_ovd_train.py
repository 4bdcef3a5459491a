"""``ovd_train.py`` from the command line: what is checked before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from apps import ovd_train


def train(*arguments: Any) -> int:
    return ovd_train.main([str(argument) for argument in arguments])


def coco(folder: Path, box: tuple[int, ...] = (4, 4, 20, 20), picture: str = "a.png") -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48), "red").save(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": picture, "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": list(box)}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def user(root: Path, *more: str) -> list[str]:
    return ["--data-root", str(root), "--train-ann", "a.json", "--val-ann", "a.json", *more]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--train-ann", "a.json"], "--data-root"),
        (["--data-root", "x"], "--train-ann and --val-ann"),
        (["--names", "names.txt"], "--names belong to your data"),
        (["--epochs", "0"], "--epochs 0"),
        (["--val-scenes", "0"], "--val-scenes 0"),
        (["--categories", "0"], "--categories 0"),
        (["--categories", "5000"], "the embedded world has 864; ask for fewer"),
        (["--categories", "3", "--novel-fraction", "0.1"], "leave a base and a novel one"),
        (["--keep", "1"], "--keep 1.0"),
        (["--keep", "0.5"], "this config's tower is frozen"),
        (["--novel-fraction", "1"], "--novel-fraction 1.0"),
        (["--data-root", "x", "--train-ann", "a", "--val-ann", "b", "--novel-fraction", "0.5"], "embedded world"),
        (["--data-root", "x", "--train-ann", "a", "--val-ann", "b", "--val-scenes", "9"], "embedded world"),
        (["--config", "nowhere.py"], "nowhere.py"),
        (["--model", "no/such/model/at/all"], "no/such/model/at/all"),
        (["--data-root", "nowhere", "--train-ann", "a", "--val-ann", "b"], "nowhere"),
        (["--cfg-options", "nothing"], "key=value"),
        (["--cfg-options", "work_dir=x"], "--cfg-options work_dir"),
        (["--cfg-options", "test_evaluator.0.prefix=x"], "--cfg-options test_evaluator.prefix"),
        (["--cfg-options", "val_dataloader.dataset={'ann_file': 'x'}"], "val_dataloader.dataset.ann_file"),
        (["--model", "tiny", "--cfg-options", "model.backbone.model=tiny"], "--model and --cfg-options"),
        (["--launcher", "pytorch"], "start with torchrun"),
    ],
)
def test_bad_arguments(
    arguments: list[str], said: str, tmp_path: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in arguments else ["--model", str(tiny_dir)]
    work = tmp_path / "work"
    assert train(*arguments, *model, "--work-dir", work) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert not work.exists()


def test_bad_data(tmp_path: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    fixed = ["--model", tiny_dir, "--work-dir", work]
    twice = coco(tmp_path / "twice")
    content = json.loads((twice / "a.json").read_text(encoding="utf-8"))
    content["categories"] += [{"id": 3, "name": "traffic_light"}, {"id": 4, "name": "Traffic light"}]
    (twice / "a.json").write_text(json.dumps(content), encoding="utf-8")
    text = coco(tmp_path / "text")
    (text / "a.png").write_text("not a picture")
    cases = [
        (coco(tmp_path / "outside", box=(40, 4, 60, 20)), [], "outside its picture"),
        (coco(tmp_path / "missing", picture="b.png"), [], "missing image"),
        (coco(tmp_path / "fine"), ["--novel", "unicorn"], "no class unicorn"),
        (coco(tmp_path / "fine"), ["--novel", "dog"], "nothing to train on"),
        (text, [], "cannot be read"),
        (twice, [], "a.json: class names 2 and 3 are the same"),
    ]
    for root, more, said in cases:
        assert train(*fixed, *user(root, *more)) == 2
        printed = capsys.readouterr().err.strip()
        assert said in printed, printed
        assert len(printed.splitlines()) == 1
        assert not work.exists()


def test_starting_anew_keeps_every_checkpoint(tmp_path: Path) -> None:
    """Trained, stopped before an epoch ended, trained: no start takes a checkpoint away, nor a user's program."""
    config = "work_dir = 'x'\nmodel = {'type': 'FViT'}\n"
    (tmp_path / "own.py").write_text("import sys\n")
    for name in ("epoch_1.pth", "epoch_2.pth", "fvit.py"):
        (tmp_path / name).write_text("1" if name.endswith("pth") else config)
    ovd_train._set_aside(tmp_path)
    (tmp_path / "onestage.py").write_text(config)  # stopped before its first epoch ended
    (tmp_path / "own.py").write_text("import sys\n")
    ovd_train._set_aside(tmp_path)
    (tmp_path / "epoch_1.pth").write_text("3")
    (tmp_path / "fvit.py").write_text(config)
    ovd_train._set_aside(tmp_path)
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert left == {
        "previous-1/epoch_1.pth": "1",
        "previous-1/epoch_2.pth": "1",
        "previous-1/fvit.py": config,
        "previous-1/own.py": "import sys\n",
        "previous-2/epoch_1.pth": "3",
        "previous-2/fvit.py": config,
        "previous-2/own.py": "import sys\n",
    }


def test_torchrun_without_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes would each take themselves for the first, and write over each other."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert train("--work-dir", tmp_path / "work") == 2
    assert "2 processes; add --launcher pytorch" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--train-scenes", "12"], "other data: 10 scenes of 648 base and 216 novel categories, seed 0 ("),
        (["--train-scenes", "10", "--novel-fraction", "0.5"], "this run has 10 scenes of 432 base and 432 novel"),
        (
            ["--train-scenes", "10", "--seed", "4"],
            "this run has 10 scenes of 648 base and 216 novel categories, seed 4",
        ),
    ],
)
def test_other_scenes_are_not_gone_on_with(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written: neither the scenes of the earlier run go, nor does its checkpoint."""
    from fgclip2_mmdet.embedded import EmbeddedConfig, fingerprint

    facts = {"data": fingerprint(EmbeddedConfig.parted(None, None, train=10, val=3)), "seed": 0}
    torch.save({"state_dict": {}, "meta": {"fgclip2": facts}}, tmp_path / "epoch_1.pth")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "_SUCCESS").write_text("of the earlier run")
    assert train("--resume", "--work-dir", tmp_path, *more) == 2
    printed = capsys.readouterr().err
    assert said in printed, printed
    assert "epoch_1.pth was trained with other data" in printed
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["epoch_1.pth", "scenes"]
    assert (tmp_path / "scenes" / "_SUCCESS").read_text() == "of the earlier run"


def test_edited_annotations_are_not_gone_on_with(
    tmp_path: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fgclip2_mmdet.trained_on import check_resumable, trained_on
    from fgclip2_mmdet.user_data import read_user_data

    root, work = coco(tmp_path / "mine"), tmp_path / "work"
    work.mkdir()
    own = trained_on(read_user_data(root, "a.json", "a.json", ["cat"]), 0)
    assert check_resumable(work, own).startswith("nothing to resume in")
    torch.save({"state_dict": {}, "meta": {"fgclip2": own}}, work / "epoch_1.pth")
    (work / "epoch_2.pth").write_text("torn")
    assert check_resumable(work, own) == ""
    common = ["--model", tiny_dir, "--work-dir", work, "--resume"]
    assert train(*common, *user(root, "--novel", "cat", "--seed", "3")) == 2
    assert "epoch_1.pth was trained with other seed: 0; this run has 3" in capsys.readouterr().err
    coco(tmp_path / "mine", box=(4, 4, 21, 20))
    for more in (["--novel", "cat"], []):
        assert train(*common, *user(root, *more)) == 2
        printed = capsys.readouterr().err
        assert f"trained with other data: {own['data']}; this run has a.json with " in printed
    assert not (work / "annotations").exists()
    torch.save({"state_dict": {}, "meta": {}}, work / "epoch_1.pth")  # as earlier versions wrote them
    assert "does not say what it was trained on" in check_resumable(work, own)

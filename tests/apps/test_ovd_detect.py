"""``ovd_detect.py`` from the command line to its files, on a detector with random weights: form, not accuracy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from apps import ovd_detect
from fgclip2.data import finding
from fgclip2.data.media import VideoReader, VideoWriter

CONFIG = Path(__file__).resolve().parents[2] / "apps/configs/ovd/fvit_tiny_openmoji.py"
TRAINED = ["dog", "cat", "red car"]


def work_dir(folder: Path, model: Path, trained: list[str]) -> Path:
    """What a training run leaves: a config and a checkpoint."""
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import fgclip2_mmdet  # noqa: F401  (registers)
    from fgclip2_mmdet.runner import facts

    folder.mkdir()
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.model = str(model)
    cfg.model.backbone.dtype = "float32"  # bfloat16 would blur what is compared
    cfg.model.test_cfg.rpn.max_per_img = 20
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # random weights are sure of nothing
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "PatchResize":
            step["max_patches"] = 64
    cfg.model.vocabulary = {
        "train": trained,
        "test": {"en": trained, "zh": ["狗", "猫", "红色汽车"]},
        "novel": [False, True, False],
    }
    cfg.dump(folder / CONFIG.name)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    content = {"state_dict": detector.state_dict(), "meta": {"fgclip2": facts(detector)}}
    torch.save(content, folder / "epoch_2.pth")
    return folder


@pytest.fixture(scope="module")
def trained(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return work_dir(tmp_path_factory.mktemp("runs") / "ovd", tiny_dir, TRAINED)


def picture(path: Path, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def detect(*arguments: Any) -> int:
    return ovd_detect.main([str(argument) for argument in arguments])


def test_pictures_and_folders(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = picture(tmp_path / "a.jpg")
    picture(tmp_path / "photos" / "a.jpg", (64, 96), seed=1)
    picture(tmp_path / "photos" / "里面" / "b.webp", (80, 80), seed=2)
    (tmp_path / "photos" / "notes.txt").touch()
    out = tmp_path / "out" / "found"
    code = detect(
        single,
        tmp_path / "photos",
        "--classes",
        "狗, unicorn",
        "--checkpoint",
        trained,
        "--out",
        out,
        "--score-thr",
        0.01,
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    entries = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    assert [entry["size"] for entry in entries] == [[96, 64], [64, 96], [80, 80]]
    assert [entry["picture"] for entry in entries] == ["a.jpg", "a-2.jpg", "里面/b.webp.png"]
    for entry in entries:
        assert len(entry["boxes"]) == len(entry["labels"]) == len(entry["scores"])
        assert entry["scores"] == sorted(entry["scores"], reverse=True)
        assert all(0.01 <= score <= 1 for score in entry["scores"])
        assert set(entry["labels"]) <= {"狗", "unicorn"}
        for x1, y1, x2, y2 in entry["boxes"]:
            assert 0 <= x1 <= x2 <= entry["size"][0]
            assert 0 <= y1 <= y2 <= entry["size"][1]
        with Image.open(out / entry["picture"]) as drawn:
            assert list(drawn.size) == entry["size"]
    assert sum(len(entry["boxes"]) for entry in entries) > 0
    assert "狗" in (out / "detections.json").read_text(encoding="utf-8")  # written as it is, not as \\u escapes
    assert sorted(path.name for path in out.parent.iterdir()) == ["found"]  # the scratch folder is gone
    assert "1 other files in the folders were left alone" in printed.out
    assert str(out / "detections.json") in printed.out


def test_without_classes_it_looks_for_the_trained_ones(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    assert (
        detect(picture(tmp_path / "a.png"), "--checkpoint", trained / "epoch_2.pth", "--out", out, "--score-thr", 0)
        == 0
    )
    (entry,) = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    assert set(entry["labels"]) <= set(TRAINED)
    assert len(entry["labels"]) > 0


def test_a_bad_picture_in_a_folder_is_named_and_the_rest_done(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "found"
    good = picture(folder / "good.png")
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes(good.read_bytes()[:2000])
    arguments = (folder, "--classes", "dog", "--checkpoint", trained, "--out", out)
    assert detect(*arguments) == 0
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Path(failure["image"]).name for failure in failures] == ["cut.png", "text.jpg"]
    assert "damaged or cut short" in failures[0]["error"]
    assert [entry["image"] for entry in json.loads((out / "detections.json").read_text())] == [str(good)]
    assert "2 pictures could not be read" in capsys.readouterr().out
    for name in ("text.jpg", "cut.png"):
        (folder / name).unlink()
    assert detect(*arguments) == 0
    assert not (out / "failures.jsonl").exists()  # it would be read as this run's


def test_a_video(trained: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "片段.mp4", tmp_path / "found"
    with VideoWriter(clip, 10) as writer:
        for seed in range(5):
            writer.add(Image.open(picture(tmp_path / f"{seed}.png", seed=seed)))
    assert detect(clip, "--classes", "dog", "--checkpoint", trained, "--out", out, "--every", 2, "--batch-size", 2) == 0
    entries = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    assert [(entry["frame"], entry["time"]) for entry in entries] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    with VideoReader(out / "片段.mp4") as reader:
        assert (len(list(reader)), reader.rate) == (3, 5)


def test_large_pictures_in_tiles(trained: Path, tmp_path: Path) -> None:
    """A picture that fits into a tile comes out as without tiles; a larger one has boxes of its own size."""
    small = picture(tmp_path / "small.png")
    wide = picture(tmp_path / "wide.png", (400, 150), seed=1)
    names = ("--classes", "dog, 猫", "--checkpoint", trained, "--score-thr", 0.01)
    assert detect(small, *names, "--out", tmp_path / "plain") == 0
    assert detect(small, wide, *names, "--out", tmp_path / "tiled", "--tile", 128, "--overlap", 0.3) == 0
    (plain,) = json.loads((tmp_path / "plain" / "detections.json").read_text(encoding="utf-8"))
    tiled, large = json.loads((tmp_path / "tiled" / "detections.json").read_text(encoding="utf-8"))
    assert tiled == plain
    assert large["size"] == [400, 150]
    assert max(box[2] for box in large["boxes"]) > 300
    assert min(box[0] for box in large["boxes"]) < 100


def test_a_stopped_run_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results are those of a run that was never stopped, and what was done is not done again."""
    for seed in range(5):
        picture(tmp_path / "photos" / f"{seed}.png", seed=seed)
    names = ("--classes", "dog, 猫", "--checkpoint", trained, "--score-thr", 0.01, "--batch-size", 1)
    run = (tmp_path / "photos", *names, "--out", tmp_path / "found", "--resume")
    opened: list[str] = []
    whole = finding.open_image

    def stopped(path: Path) -> Image.Image:
        opened.append(path.name)
        if opened.count("3.png") == 1 and path.name == "3.png":
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(finding, "open_image", stopped)
    assert detect(*run) == 130
    assert not (tmp_path / "found").exists()
    assert detect(*run) == 0
    assert opened == ["0.png", "1.png", "2.png", "3.png", "3.png", "4.png"]
    assert "3 pictures and videos were done before" in capsys.readouterr().out
    assert detect(*run) == 0  # nothing is left to do
    assert len(opened) == 6
    assert detect(tmp_path / "photos", *names, "--out", tmp_path / "again") == 0
    entries, again = (
        json.loads((tmp_path / name / "detections.json").read_text(encoding="utf-8")) for name in ("found", "again")
    )
    assert entries == again
    for name in sorted(path.name for path in (tmp_path / "again").glob("*.png")):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert detect(*run, "--score-thr", 0.5) == 2
    assert "other settings (score_thr)" in capsys.readouterr().err


def test_a_baked_vocabulary(trained: Path, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As its names, and the text tower is not run for them; of another model it is refused with both names."""
    model = fgclip2.load(tiny_dir, device="cpu", dtype="float32")
    fgclip2.Vocabulary.build(model, {"dog": ["puppy"], "猫": []}).save(tmp_path / "names.safetensors")
    run = (picture(tmp_path / "a.png"), "--checkpoint", trained, "--no-contrast", "--score-thr", 0)
    (tmp_path / "names.json").write_text('[{"name": "dog", "synonyms": ["puppy"]}, "猫"]', encoding="utf-8")
    assert detect(*run, "--classes-file", tmp_path / "names.json", "--out", tmp_path / "named") == 0
    assert detect(*run, "--classes", tmp_path / "names.safetensors", "--out", tmp_path / "baked") == 0
    named, baked = ((tmp_path / name / "detections.json").read_text(encoding="utf-8") for name in ("named", "baked"))
    assert named == baked
    assert set(json.loads(baked)[0]["labels"]) == {"dog", "猫"}
    foreign = fgclip2.Vocabulary(("dog",), torch.ones(1, 64) / 8, "0" * 64, "another model")
    foreign.save(tmp_path / "foreign.safetensors")
    capsys.readouterr()
    assert detect(*run, "--classes", tmp_path / "foreign.safetensors", "--out", tmp_path / "x") == 2
    error = capsys.readouterr().err
    assert "'another model' (hash 000000000000)" in error
    assert model.hash[:12] in error
    assert detect(*run, "--classes", tmp_path / "none.safetensors", "--out", tmp_path / "x") == 2
    assert "does not exist" in capsys.readouterr().err


def _text_as_jpg(tmp: Path) -> list[Any]:
    (tmp / "text.jpg").write_text("no picture")
    return [tmp / "text.jpg"]


def _cut_jpg(tmp: Path) -> list[Any]:
    whole = picture(tmp / "whole.jpg").read_bytes()
    (tmp / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return [tmp / "cut.jpg"]


def _empty_folder(tmp: Path) -> list[Any]:
    (tmp / "empty").mkdir()
    return [tmp / "empty"]


def _only_bad(tmp: Path) -> list[Any]:
    (tmp / "bad").mkdir()
    (tmp / "bad" / "text.jpg").write_text("no picture")
    return [tmp / "bad"]


def _file_as_out(tmp: Path) -> list[Any]:
    (tmp / "file").touch()
    return [picture(tmp / "a.png"), "--out", tmp / "file"]


BAD: list[tuple[str, Callable[[Path], list[Any]], str]] = [
    ("text as jpg", _text_as_jpg, "not a picture this can read"),
    ("truncated", _cut_jpg, "damaged or cut short"),
    ("missing", lambda tmp: [tmp / "none.jpg"], "does not exist"),
    ("empty folder", _empty_folder, "holds no picture (it is empty)"),
    ("only bad", _only_bad, "not one picture could be read, nothing was written"),
    ("file as out", _file_as_out, "is a file; give a folder"),
    ("no class file", lambda tmp: [picture(tmp / "a.png"), "--classes-file", tmp / "none.txt"], "class file"),
    ("class twice", lambda tmp: [picture(tmp / "a.png"), "--classes", "dog,Dog"], "are the same"),
    ("no checkpoint", lambda tmp: [picture(tmp / "a.png"), "--checkpoint", tmp / "none"], "`make ovd` trains"),
    ("no epoch", lambda tmp: [picture(tmp / "a.png"), "--checkpoint", tmp], "has no finished checkpoint"),
    ("no model", lambda tmp: [picture(tmp / "a.png"), "--model", "no model"], "no model 'no model'"),
    ("score", lambda tmp: [picture(tmp / "a.png"), "--score-thr", 2], "give a number from 0 to 1"),
    ("device", lambda tmp: [picture(tmp / "a.png"), "--device", "abacus"], "cannot be used"),
    ("tile", lambda tmp: [picture(tmp / "a.png"), "--tile", 8], "tiles of 8 pixels"),
    ("overlap", lambda tmp: [picture(tmp / "a.png"), "--overlap", 0.5], "--overlap would do nothing"),
    ("no config", lambda tmp: [picture(tmp / "a.png"), "--config", tmp / "none.py"], "see apps/configs/ovd"),
]


@pytest.mark.parametrize(("arguments", "message"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: Callable[[Path], list[Any]],
    message: str,
) -> None:
    given = arguments(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    # What is given last counts, so the defaults stand first.
    defaults = {"--checkpoint": trained, "--out": tmp_path / "found"}
    extra = [item for key, value in defaults.items() if key not in given for item in (key, value)]
    assert detect(*given, *extra) == 2
    error = capsys.readouterr().err
    assert message in error
    assert re.fullmatch(r"error: [^\n]+\n", error.splitlines(keepends=True)[-1])
    assert sorted(tmp_path.rglob("*")) == before  # nothing was left behind


def test_a_checkpoint_of_another_config(
    trained: Path, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = work_dir(tmp_path / "other", tiny_dir, ["dog", "cat", "apple"])
    config = other / CONFIG.name
    assert (
        detect(picture(tmp_path / "a.png"), "--checkpoint", trained, "--config", config, "--out", tmp_path / "x") == 2
    )
    error = capsys.readouterr().err
    assert "belongs to another config" in error.splitlines()[-1]
    assert not (tmp_path / "x").exists()


def test_a_torn_checkpoint(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "epoch_1.pth"
    torn.write_bytes((trained / "epoch_2.pth").read_bytes()[:5000])
    config = trained / CONFIG.name
    assert detect(picture(tmp_path / "a.png"), "--checkpoint", torn, "--config", config, "--out", tmp_path / "x") == 2
    assert "not a readable detector checkpoint" in capsys.readouterr().err


def test_batches_do_not_change_what_is_found(trained: Path, tmp_path: Path) -> None:
    from fgclip2_mmdet.inference import OpenVocabInferencer

    inferencer = OpenVocabInferencer.from_checkpoint(trained, device="cpu")
    inferencer.set_classes(["狗", "unicorn"])
    sizes = [(96, 64), (64, 96), (80, 80)]
    images = [Image.open(picture(tmp_path / f"{n}.png", size, n)).convert("RGB") for n, size in enumerate(sizes)]
    together = inferencer(images, score_thr=0.0)
    for image, batched in zip(images, together, strict=True):
        (alone,) = inferencer([image], score_thr=0.0)
        assert alone.labels[:5] == batched.labels[:5]
        # RoIAlign at a picture's edge reads half a cell of the batch's padding, as in every mmdetection detector.
        np.testing.assert_allclose(alone.scores[:5], batched.scores[:5], atol=2e-3)
        np.testing.assert_allclose(alone.boxes[:5], batched.boxes[:5], atol=0.2)
    assert inferencer([]) == []


def test_contrast_lowers_scores_and_adds_no_labels(trained: Path, tmp_path: Path) -> None:
    from fgclip2_mmdet.inference import OpenVocabInferencer

    inferencer = OpenVocabInferencer.from_checkpoint(trained, device="cpu")
    images = [Image.open(picture(tmp_path / "a.png")).convert("RGB")]
    assert inferencer.set_classes(["Dog", "unicorn"]) == len(TRAINED) - 1  # a trained class does not face itself
    (against,) = inferencer(images, score_thr=0.0)
    assert inferencer.set_classes(["Dog", "unicorn"], contrast=False) == 0
    (alone,) = inferencer(images, score_thr=0.0)
    assert set(against.labels) | set(alone.labels) <= {"Dog", "unicorn"}
    assert against.scores.max() < alone.scores.max()


def test_which_classes_mean_the_same() -> None:
    from fgclip2.vocabulary import Vocabulary, same_classes

    def vocabulary(degrees: dict[str, float]) -> Vocabulary:
        angles = torch.deg2rad(torch.tensor(list(degrees.values())))
        return Vocabulary(tuple(degrees), torch.stack([angles.cos(), angles.sin()], dim=1), "hash")

    known = vocabulary({"dog": 0, "fox": 20, "car": 90, "bus": 100})
    assert same_classes(vocabulary({"狗": 5}), known, guess=True) == {0}
    assert (
        same_classes(vocabulary({"wolf": 5}), known, guess=True) == set()
    )  # a neighbour in the same script is another class
    assert same_classes(vocabulary({"狼": 11}), known, guess=True) == {1}  # nearest to "fox", which has no nearer one
    assert same_classes(vocabulary({"卡车": 78}), known, guess=True) == set()  # "car" is nearer to "bus"
    assert same_classes(vocabulary({"FOX ": 170, "狗": 5}), known, guess=True) == {0, 1}
    assert same_classes(vocabulary({"狗": 5, "犬": 3}), known, guess=True) == {0}
    assert same_classes(vocabulary({"狼": 11, "狗": 50}), known) == {0}  # tables alone


def test_a_trained_class_is_known_in_every_language(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the names of the run's config and by synonyms; those that mean a named one do not compete, and it is said."""
    from fgclip2_mmdet.inference import OpenVocabInferencer

    inferencer = OpenVocabInferencer.from_checkpoint(trained, device="cpu")
    for names, novel, left_out in (
        (["狗", "独角兽"], [False, True], ("dog",)),
        ({"canine": ["Dog"], "unicorn": []}, [False, True], ("dog",)),
        ({"喵": ["猫"]}, [False], ("cat",)),
        (["红色汽车"], [False], ("red car",)),
        (["汽车"], [True], ()),
    ):
        for contrast in (True, False):
            others = inferencer.set_classes(names, contrast=contrast)
            texts = inferencer.detector.text_head.test_texts["main"]
            assert texts.novel.tolist() == novel + [False] * others
            assert others == (len(TRAINED) - len(left_out) if contrast else 0)
            assert inferencer.left_out == (left_out if contrast else ())
    run = (picture(tmp_path / "a.png"), "--checkpoint", trained, "--out", tmp_path / "found")
    assert detect(*run, "--classes", "狗, cat") == 0
    assert "so not competing: dog\n" in capsys.readouterr().out


def test_few_names_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    ovd_detect._say_same(["dog", *map(str, range(10))], ["Dog", "猫"])
    assert capsys.readouterr().out.endswith("competing: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more\n")

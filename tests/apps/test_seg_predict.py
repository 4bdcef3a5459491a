"""``seg_predict.py`` from the command line to its files: form, and agreement of masks, areas and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from apps import seg_predict
from fgclip2.data.media import VideoReader, VideoWriter
from fgclip2.errors import Fgclip2Error
from fgclip2.segmentation import DenseSegmentor, SegmentationConfig
from fgclip2.visualize import draw_instances
from fgclip2.vocabulary import Vocabulary
from fgclip2_detectron2 import build_mask_rcnn
from fgclip2_detectron2.checkpoint import SegmentorCheckpointer, facts_of, load_model, load_segmentor
from fgclip2_detectron2.inference import SegmentorInferencer
from fgclip2_detectron2.instance_inference import InstanceInferencer
from fgclip2_detectron2.segmentor import build_segmentor
from fgclip2_detectron2.texts import PromptTexts

NAMES = ["天空", "tree", "红色汽车"]
DETECTOR = {"channels": 16, "strides": [8, 16], "anchor": 4, "proposals": [60, 30], "regions": 32, "hidden": 32,
            "mask_convs": 1, "score": 0.0}  # fmt: skip
HEAD = {"hidden": 8, "layers": 1, "window": 4, "heads": 2, "guidance": 8, "decoder": [6, 4], "decoder_guidance": [4, 2]}


def picture(path: Path, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)
    return path


def predict(*arguments: Any) -> int:
    return seg_predict.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with a head of random weights."""
    out = tmp_path_factory.mktemp("seg")
    torch.manual_seed(0)
    segmentor = build_segmentor(str(tiny_dir), backbone={"dtype": "float32"}, head=HEAD, threshold=0.0097)
    facts = facts_of(segmentor, max_patches=24, background=True, names={"en": ["dog", "cat"], "zh": ["狗", "猫"]})
    SegmentorCheckpointer(segmentor, out, facts).save("model_final")
    return out


def test_pictures_folders_and_videos(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = picture(tmp_path / "a.jpg")
    picture(tmp_path / "photos" / "里面" / "a.webp", (64, 96), seed=1)
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    with VideoWriter(tmp_path / "clip.mp4", 5) as writer:
        for seed in range(3):
            writer.add(Image.open(picture(tmp_path / "frames" / f"{seed}.png", (64, 48), seed)))
    out = tmp_path / "out"
    arguments = [single, tmp_path / "photos", tmp_path / "clip.mp4", "--classes", ",".join(NAMES), "--model", tiny_dir]
    code = predict(*arguments, "--max-patches", 24, "--every", 2, "--out", out)
    assert code == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "every pixel gets one of your 3 names" in shown
    assert "1 pictures could not be read" in shown
    entries = json.loads((out / "segments.json").read_text(encoding="utf-8"))
    assert [entry.get("frame") for entry in entries] == [None, None, 0, 2]
    assert len((out / "failures.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    for entry in entries:
        mask = np.asarray(Image.open(out / entry["mask"]))
        assert list(mask.shape[::-1]) == entry["size"]
        values, counts = np.unique(mask, return_counts=True)
        areas = {area["value"]: area["pixels"] for area in entry["segments"]}
        assert areas == {int(value): int(count) for value, count in zip(values, counts, strict=True) if value}
        assert all(NAMES[area["value"] - 1] == area["name"] for area in entry["segments"])
    assert (out / "里面" / "a.webp.png").is_file()
    assert Image.open(out / "a.jpg").height == 64
    assert Image.open(out / "a.jpg").width > 96  # the legend
    with VideoReader(out / "clip.mp4") as video:
        assert len(list(video)) == 2


def test_files_hold_what_the_segmentor_says(tiny_dir: Path, tmp_path: Path, tiny: Any) -> None:
    single, out = picture(tmp_path / "in" / "a.png"), tmp_path / "out"
    options = ["--max-patches", 24, "--background", "sofa", "--refine", "--tile", 48]
    code = predict(single, "--classes", ",".join(NAMES), "--model", tiny_dir, "--out", out, "--device", "cpu", *options)
    assert code == 0
    config = SegmentationConfig(24, tile=48, background=("sofa",), refine=True)
    import fgclip2

    expected = DenseSegmentor(fgclip2.load(tiny_dir, device="cpu"), NAMES, config)(single)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "masks/a.png")), expected.labels + 1)


def test_a_trained_head(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single, out = picture(tmp_path / "in" / "a.png"), tmp_path / "out"
    assert predict(single, "--checkpoint", trained, "--classes", ",".join(NAMES), "--out", out) == 0
    inferencer = SegmentorInferencer.from_checkpoint(trained, NAMES)
    found = inferencer(single)
    assert inferencer.max_patches == 24
    np.testing.assert_array_equal(np.asarray(Image.open(out / "masks/a.png")), found.labels + 1)
    np.testing.assert_array_equal(found.labels == -1, found.scores < 0.0097)
    pixels = torch.from_numpy(np.asarray(Image.open(single).resize((96, 64))).transpose(2, 0, 1).copy())
    maps = inferencer.segmentor.score_maps(pixels, "asked", (64, 96)).numpy()
    np.testing.assert_allclose(found.scores, maps.max(0), atol=1e-6)
    np.testing.assert_array_equal(np.where(found.scores < 0.0097, -1, maps.argmax(0)), found.labels)
    capsys.readouterr()
    assert predict(single, "--checkpoint", trained, "--out", out, "--threshold", 0) == 0
    assert "the 2 classes of the training" in capsys.readouterr().out
    assert np.asarray(Image.open(out / "masks/a.png")).min() == 1


@pytest.fixture(scope="module")
def detector(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with a Mask R-CNN of random weights."""
    out = tmp_path_factory.mktemp("instances")
    torch.manual_seed(0)
    model = build_mask_rcnn(str(tiny_dir), {"layers": 2, "dtype": "float32"}, DETECTOR)
    facts = facts_of(model, max_patches=24, background=True, names={"en": ["dog", "cat"], "zh": ["狗", "猫"]})
    SegmentorCheckpointer(model, out, facts).save("model_final")
    return out


def test_things_of_a_mask_rcnn(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON is what the model says and pycocotools can read; PNG and overlay agree with it; names are anyone's."""
    folder, out = tmp_path / "in", tmp_path / "out"
    single = picture(folder / "a.png")
    picture(folder / "里面" / "b.jpg", (64, 96), seed=1)
    out.mkdir()
    (out / "segments.json").write_text("[]")
    arguments = [folder, "--checkpoint", detector, "--out", out, "--device", "cpu"]
    assert predict(*arguments, "--classes", ",".join(NAMES), "--threshold", 0.05) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "things:   " in shown
    assert sorted(path.name for path in out.glob("*.json")) == ["instances.json"]
    entries = json.loads((out / "instances.json").read_text(encoding="utf-8"))
    assert [entry["image_id"] for entry in entries] == [1, 2]

    model, facts = load_model(detector, device="cpu")
    assert facts["instances"]
    inferencer = InstanceInferencer(model, NAMES, 24, 0.05)
    found = inferencer(single)
    things = entries[0]["instances"]
    assert 0 < len(things) == len(found)
    assert [thing["name"] for thing in things] == [NAMES[label] for label in found.labels.tolist()]
    assert [thing["score"] for thing in things] == pytest.approx(found.scores.tolist(), abs=1e-4)
    seen = np.zeros((64, 96), int)
    for thing, mask, (x1, y1, x2, y2) in reversed(list(zip(things, found.masks, found.boxes.tolist(), strict=True))):
        assert thing["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.02)
        assert thing["area"] == mask.sum()
        seen[mask] = thing["value"]
    np.testing.assert_array_equal(np.asarray(Image.open(out / entries[0]["mask"])), seen)
    drawn = np.asarray(Image.open(out / entries[0]["picture"]))
    assert drawn.shape[0] == 64
    assert drawn.shape[1] > 96  # the legend
    np.testing.assert_array_equal(drawn, np.asarray(draw_instances(single, found)))

    images = [{"id": e["image_id"], "width": e["size"][0], "height": e["size"][1]} for e in entries]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    truth = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    read = COCO(str(tmp_path / "truth.json")).loadRes(
        [dict(thing) for entry in entries for thing in entry["instances"]]  # it writes the box's area into them
    )
    for entry in entries:
        for thing in read.imgToAnns[entry["image_id"]]:
            assert read.annToMask(thing).shape == tuple(entry["size"][::-1])
            assert read.annToMask(thing).sum() == entry["instances"][thing["value"] - 1]["area"]
            assert read.cats[thing["category_id"]]["name"] == thing["name"]

    assert predict(*arguments, "--threshold", 0.99) == 0
    shown = capsys.readouterr().out
    assert "looking for the 2 classes of the training" in shown
    assert "found: nothing; try a lower --threshold" in shown
    assert np.asarray(Image.open(out / "masks/a.png")).max() == 0


def test_things_in_a_video(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 5) as writer:
        for seed in range(3):
            writer.add(Image.open(picture(tmp_path / "frames" / f"{seed}.png", (64, 48), seed)))
    arguments = [tmp_path / "clip.mp4", "--checkpoint", detector, "--classes", "狗, tree", "--max-patches", 12]
    assert predict(*arguments, "--threshold", 0, "--out", tmp_path / "out") == 0, capsys.readouterr().err
    assert "--max-patches 12 as you say; in the training it was 24" in capsys.readouterr().out
    entries = json.loads((tmp_path / "out/instances.json").read_text(encoding="utf-8"))
    assert [(entry["frame"], entry["image_id"]) for entry in entries] == [(0, 1), (1, 2), (2, 3)]
    assert {thing["name"] for entry in entries for thing in entry["instances"]} <= {"狗", "tree"}
    with VideoReader(tmp_path / "out/clip.mp4") as video:
        assert len(list(video)) == 3
    for wrong, said in ((["--threshold", 1], "threshold 1"), (["--max-patches", 99_999], "max_patches 99999")):
        assert predict(*arguments, "--out", tmp_path / "bad", *wrong) == 2
        assert said in capsys.readouterr().err


def test_synonyms_and_ready_vocabularies(
    tiny_dir: Path, trained: Path, tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A synonym takes part in its class, and a file of `fgclip2 vocabulary` gives what its names would have given."""
    single, out = picture(tmp_path / "in" / "a.png"), tmp_path / "out"
    classes = {"sky": ["天空", "blue"], "tree": [], "红色汽车": []}
    entries = [{"name": name, "synonyms": synonyms} for name, synonyms in classes.items()]
    (tmp_path / "names.json").write_text(json.dumps(entries), encoding="utf-8")
    vocabulary = Vocabulary.build(tiny, classes)
    vocabulary.save(tmp_path / "v.safetensors")
    plain = DenseSegmentor(tiny, list(classes), SegmentationConfig(24)).score_maps(single)
    meant = DenseSegmentor(tiny, vocabulary, SegmentationConfig(24)).score_maps(single)
    assert (plain[0] - meant[0]).abs().max() > 1e-3
    torch.testing.assert_close(plain[1:], meant[1:], atol=1e-5, rtol=1e-5)
    free = ["--model", tiny_dir, "--max-patches", 24, "--device", "cpu"]
    head = ["--checkpoint", trained, "--threshold", 0, "--device", "cpu"]
    for options in (free, head):
        masks = []
        for given in (["--classes-file", tmp_path / "names.json"], ["--classes", tmp_path / "v.safetensors"]):
            assert predict(single, *given, *options, "--out", out) == 0, capsys.readouterr().err
            masks.append(np.asarray(Image.open(out / "masks/a.png")))
            named = json.loads((out / "segments.json").read_text(encoding="utf-8"))[0]["segments"]
            assert {area["name"] for area in named} <= set(classes)
        np.testing.assert_array_equal(*masks)
    capsys.readouterr()
    assert predict(single, "--classes", tmp_path / "v.safetensors", "--model", "tiny", "--out", out) == 2
    assert "this vocabulary was made by model" in capsys.readouterr().err
    with pytest.raises(Fgclip2Error, match="takes 2 prompts a class"):
        PromptTexts(tiny, vocabulary, ["{}", "a {}"])


def test_candidates_only_leave_out(trained: Path) -> None:
    """With fewer classes computed than named, what is left out has no score, and one class is as good as alone."""
    segmentor, _ = load_segmentor(trained, device="cpu")
    segmentor.set_vocabularies({"x": [*NAMES, "dog", "沙发"]})
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert (segmentor.score_maps(image, "x", (64, 96)).amax(dim=(1, 2)) > 0).all()
    segmentor.max_classes = 2
    assert int((segmentor.score_maps(image, "x", (64, 96)).amax(dim=(1, 2)) > 0).sum()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png"], "nothing to look for"),
        (["--classes", "dog"], "nothing to look at"),
        (["a.png", "--classes", "dog", "--classes-file", "b.txt"], "both given"),
        (["a.png", "--classes", "b.txt"], "--classes-file"),
        (["a.png", "--classes", "nowhere.safetensors"], "does not exist"),
        (["a.png", "--classes", "dog, Dog"], "are the same"),
        (["a.png", "--classes", "dog", "--max-patches", "99999"], "max_patches 99999"),
        (["a.png", "--classes", "dog", "--max-patches", "0"], "max_patches 0"),
        (["a.png", "--classes", "dog", "--tile", "3"], "tile 3"),
        (["a.png", "--checkpoint", "x", "--refine"], "--refine would do nothing"),
        (["a.png", "--checkpoint", "nowhere"], "no checkpoint in"),
        (["a.png", "--classes", "dog", "--out", "."], "would write over"),
        (["missing.png", "--classes", "dog"], "does not exist"),
    ],
)
def test_what_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    assert predict(*arguments) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_foreign_checkpoints_teach(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = picture(tmp_path / "a.png")
    assert predict(single, "--checkpoint", trained, "--model", "tiny", "--out", tmp_path / "out") == 2
    assert "was trained on FG-CLIP 2" in capsys.readouterr().err
    torch.save({"model": {}}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes((trained / "model_final.pth").read_bytes()[:1000])
    for name, said in (("other.pth", "no checkpoint of seg_train.py"), ("broken.pth", "cannot be read")):
        assert predict(single, "--checkpoint", tmp_path / name, "--out", tmp_path / "out") == 2
        assert said in capsys.readouterr().err


def test_names_that_inputs_share_keep_their_results_apart(tiny_dir: Path, tmp_path: Path) -> None:
    """Pictures of one name from two folders, and videos that differ in folder or ending."""
    places = [tmp_path / folder / "a.png" for folder in ("red", "blue")]
    for seed, place in enumerate(places):
        picture(place, (48 + 16 * seed, 32), seed)
    clips = [tmp_path / "red/clip.mp4", tmp_path / "blue/clip.mp4", tmp_path / "blue/clip.mov"]
    for seed, clip in enumerate(clips):
        with VideoWriter(clip, 5) as writer:
            writer.add(Image.open(picture(tmp_path / "frames/0.png", (48 + 16 * seed, 32), seed)))
    out = tmp_path / "out"
    options = ["--classes", "dog, 猫", "--model", tiny_dir, "--max-patches", 12, "--out", out]
    assert predict(*places, *clips, *options) == 0
    entries = json.loads((out / "segments.json").read_text(encoding="utf-8"))
    assert [entry["image"] for entry in entries] == [str(path) for path in (*places, *clips)]
    assert [entry["mask"] for entry in entries] == [
        "masks/a.png", "masks/a-2.png", "masks/clip/000000.png", "masks/clip-2/000000.png",
        "masks/clip.mov/000000.png",
    ]  # fmt: skip
    for entry in entries:
        assert list(Image.open(out / entry["mask"]).size) == entry["size"]
    assert len({entry["picture"] for entry in entries}) == 5


def test_a_damaged_video_costs_only_what_is_damaged(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, out = picture(tmp_path / "a.png"), tmp_path / "bad.mp4", tmp_path / "out"
    rng = np.random.default_rng(0)
    with VideoWriter(bad, 10) as writer:
        for _ in range(60):
            writer.add(Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)))
    content = bytearray(bad.read_bytes())
    start, end = content.find(b"mdat") + 4, content.find(b"moov")
    start += (end - start) // 3
    content[start : end - 4] = bytes(end - 4 - start)
    bad.write_bytes(content)
    options = ["--classes", "dog, 猫", "--model", tiny_dir, "--max-patches", 12, "--out", out]
    assert predict(good, bad, *options) == 0, capsys.readouterr().err
    entries = json.loads((out / "segments.json").read_text(encoding="utf-8"))
    readable = len(entries) - 1
    assert [entry["image"] for entry in entries] == [str(good)] + [str(bad)] * readable
    assert 0 < readable < 60
    (failure,) = map(json.loads, (out / "failures.jsonl").read_text(encoding="utf-8").splitlines())
    assert failure["image"] == str(bad)
    assert f"{readable} frames could be read before that and are kept" in failure["error"]
    assert "1 videos not to their end, see" in capsys.readouterr().out

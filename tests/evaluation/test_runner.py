"""A run: what is encoded once, kept, resumed and counted; and figures that plain computations give as well."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2.cli import main
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import encoder as encoding
from fgclip2.evaluation.datasets import BENCHMARKS, select
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.runner import Report, run
from fgclip2.evaluation.scores import Settings
from fgclip2.evaluation.store import VectorStore, text_key
from tests.evaluation.colours import picture, write_json, write_labels, write_lines
from tests.evaluation.miniatures import MINIATURES

SHORT = Settings(samples=20)
TOGETHER = ("coco", "flickr30k", "lit_cn", "coco_box", "sugarcrepe", "fgovd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six benchmarks below one data root; the pictures of three of them are the same three squares."""
    for name in TOGETHER:
        MINIATURES[name].write(tmp_path / "data", tmp_path)
    return tmp_path / "data"


def evaluate(model: fgclip2.FGCLIP2, root: Path, out: Path, *names: str, **options: Any) -> Report:
    return run(select(names or TOGETHER), model, root, out, SHORT, **options)


def figures(report: Report) -> dict[str, dict[str, float]]:
    return {name: {key: item["value"] for key, item in result["metrics"].items()}
            for name, result in report.results.items()}  # fmt: skip


def test_everything_is_encoded_once_and_kept(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    first = evaluate(tiny, root, tmp_path / "one", cache=tmp_path / "cache")
    # Red, green, blue, and red with green: Flickr30k's, LIT-CN's and COCO's squares are equal files.
    contents = {file.read_bytes() for file in root.rglob("*.jpg")}
    assert first.encoded == len(contents) == 4
    kinds = {"coco": "short", "flickr30k": "short", "lit_cn": "long", "coco_box": "box", "sugarcrepe": "short"}
    texts: set[tuple[str, str]] = {("red", "box"), ("green", "box"), ("blue", "box")}
    for name, kind in kinds.items():
        for record in BENCHMARKS[name].read(root):
            texts |= {(text, kind) for text in getattr(record, "captions", getattr(record, "texts", ()))}
    texts |= {(text, "box") for record in BENCHMARKS["fgovd"].read(root) for text in record.texts}
    assert first.embedded == len(texts)
    again = evaluate(tiny, root, tmp_path / "two", cache=tmp_path / "cache")
    assert (again.encoded, again.embedded) == (0, 0)
    assert figures(again) == figures(first)
    other = Settings("released", samples=20)
    released = run(select(["coco"]), tiny, root, tmp_path / "one", other, cache=tmp_path / "cache")
    assert (released.encoded, released.embedded, released.reused) == (0, 0, ())


def test_results_are_found_again_unless_something_changed(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    first = evaluate(tiny, root, tmp_path, "coco", "sugarcrepe")
    assert first.reused == ()
    again = evaluate(tiny, root, tmp_path, "coco", "sugarcrepe")
    assert again.reused == ("coco", "sugarcrepe")
    assert again.results == first.results
    assert again.table == first.table
    file = root / "coco/annotations/captions_val2017.json"
    file.write_text(file.read_text().replace("A red square", "A red thing"))
    changed = evaluate(tiny, root, tmp_path, "coco", "sugarcrepe")
    assert changed.reused == ("sugarcrepe",)
    assert (changed.encoded, changed.embedded) == (0, 5)
    (tmp_path / "coco.json").write_text("{cut")
    assert evaluate(tiny, root, tmp_path, "coco").reused == ()


def test_predictions_count_by_content_wherever_they_are(tiny: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """One answer, or one pixel of one label map, changed in place with its time and size kept."""
    root, one, two, out = (tmp_path / name for name in ("data", "one", "two", "out"))
    for name in ("gqa", "a150"):
        MINIATURES[name].write(root, one)
    with (one / "gqa.jsonl").open("a", encoding="utf-8") as stream:  # all are answered, or nothing would be reused
        stream.write('{"question_id": "203", "text": "no"}\n')

    def again(folder: Path) -> tuple[str, ...]:
        settings = Settings(samples=20, predictions=folder)
        return run(select(["gqa", "a150"]), tiny, root, out, settings).reused

    def changed(file: Path, content: bytes) -> None:
        times = file.stat()
        assert len(content) == times.st_size
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert again(one) == ()
    assert again(one) == ("a150", "gqa")
    shutil.copytree(one, two)
    assert again(two) == ("a150", "gqa")
    changed(two / "gqa.jsonl", (two / "gqa.jsonl").read_bytes().replace(b"Red.", b"Blue"))
    assert again(two) == ("a150",)
    labels = np.asarray(Image.open(two / "a150/a.png")).copy()
    labels[0, 1] = 9
    write_labels(two / "a150/a.png", labels)
    assert again(two) == ("gqa",)
    assert again(two) == ("a150", "gqa")
    shutil.copy(two / "a150/a.png", two / "a150/b.png")  # a file more
    assert again(two) == ("gqa",)


def test_a_siglip2_checkpoint_is_judged(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a directory in SigLIP 2's NaFlex layout, against transformers' own model and plain numpy."""
    from transformers import Siglip2Config, Siglip2Model

    directory, root, out = tmp_path / "siglip2", tmp_path / "data", tmp_path / "out"
    MINIATURES["coco"].write(root, tmp_path)
    tower = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(1)
    config = Siglip2Config(text_config={**tower, "vocab_size": 512, "projection_size": 64}, vision_config=dict(tower))
    theirs = Siglip2Model(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    theirs.save_pretrained(directory)
    for file in tiny_dir.glob("tokenizer*.json"):
        shutil.copy(file, directory)
    common = ["--data-root", str(root), "--out", str(out), "--samples", "20", "--tasks", "coco"]
    arguments = ["eval", "--siglip2", str(directory), "--device", "cpu", "--dtype", "float32", *common]
    assert main(arguments) == 0
    result = json.loads((out / "coco.json").read_text(encoding="utf-8"))
    assert result["model"]["name"] == str(directory)
    records = list(BENCHMARKS["coco"].read(root))
    processor = fgclip2.Processor.from_pretrained(tiny_dir)
    with torch.no_grad():
        images = theirs.get_image_features(**processor.image([record.image for record in records])).pooler_output
        captions = [caption for record in records for caption in record.captions]
        texts = theirs.get_text_features(processor.text(captions, "short")).pooler_output
    images, texts = (torch.nn.functional.normalize(part, dim=-1) for part in (images, texts))
    scores, owner = (images @ texts.T).numpy(), np.repeat(np.arange(3), 5)
    own = owner[None] == np.arange(3)[:, None]  # the green picture and the blue one have equal captions: a tie is wrong
    right = np.where(own, scores, -1).max(1) > np.where(own, -1, scores).max(1), scores.argmax(0) == owner
    figures = {name: metric["value"] for name, metric in result["metrics"].items()}
    assert figures["i2t_r1"] == pytest.approx(100 * right[0].mean())
    assert figures["t2i_r1"] == pytest.approx(100 * right[1].mean())
    kept = VectorStore(next((out / "features").iterdir()), 64)
    found, there = kept.get([text_key(caption, "short") for caption in captions])
    assert bool(there.all())
    torch.testing.assert_close(found, texts, atol=1e-5, rtol=1e-4)  # the same sums in another order
    capsys.readouterr()
    assert main([*arguments, "--model", "tiny"]) == 2
    assert capsys.readouterr().err == "error: --model and --siglip2 are both given; choose one\n"
    assert main(["eval", "--siglip2", str(tiny_dir), *common]) == 2
    assert "from_siglip2() takes a SigLIP 2 checkpoint; this has model_type 'fgclip2'" in capsys.readouterr().err


def test_an_interrupted_run_goes_on(
    tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_PICTURES_A_CHUNK", 1)
    whole = evaluate(tiny, root, tmp_path / "whole")
    put, done = VectorStore.put, []

    def stop_after_three(self: VectorStore, keys: Any, vectors: Any) -> None:
        if len(done) == 3 + len({"short", "long", "box"}):
            raise KeyboardInterrupt
        done.append(len(keys))
        put(self, keys, vectors)

    monkeypatch.setattr(VectorStore, "put", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny, root, tmp_path / "cut")
    assert not (tmp_path / "cut" / "coco.json").exists()
    monkeypatch.setattr(VectorStore, "put", put)
    rest = evaluate(tiny, root, tmp_path / "cut")
    assert (rest.encoded, rest.embedded) == (whole.encoded - 3, 0)
    assert figures(rest) == figures(whole)


def test_two_processes_give_the_same_bits(
    tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_PICTURES_A_CHUNK", 2)
    monkeypatch.setattr(encoding, "_TEXTS_A_CHUNK", 4)
    wants = Wants(whole=dict.fromkeys((file, None) for file in sorted(root.rglob("*.jpg"))))
    wants.add_boxes(root / "coco/val2017/000000000007.jpg", [(0.0, 0.0, 20.0, 20.0)])
    wants.add_text([f"text {number}" for number in range(11)], "box")
    one = Encoder(tiny, VectorStore(tmp_path / "one", tiny.width))
    one.prepare(wants)
    encoders = []
    for rank in (0, 1):
        stub = SimpleNamespace(
            is_initialized=lambda: True,
            get_rank=lambda rank=rank: rank,
            get_world_size=lambda: 2,
            barrier=lambda: None,
            all_gather_object=lambda gathered, own: gathered.__setitem__(slice(None), [own, own]),
        )
        monkeypatch.setattr(encoding, "dist", stub)
        encoders.append(Encoder(tiny, VectorStore(tmp_path / f"rank{rank}", tiny.width)))
        encoders[-1].prepare(wants)
    assert [encoder.encoded for encoder in encoders] == [2, 2]
    assert [encoder.embedded for encoder in encoders] == [7, 4]
    joined = tmp_path / "joined"
    joined.mkdir()
    for rank in (0, 1):
        for file in (tmp_path / f"rank{rank}").iterdir():
            shutil.copy(file, joined)
    both = VectorStore(joined, tiny.width)
    keys = list(one.store._where)
    assert len(both) == len(keys)
    assert torch.equal(both.get(keys)[0], one.store.get(keys)[0])


def test_broken_pictures_stay_in_the_denominator(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    (root / "coco/val2017/000000000002.jpg").write_bytes(b"no picture")
    (root / "coco/val2017/000000000007.jpg").unlink()
    report = evaluate(tiny, root, tmp_path / "out", "coco", "coco_box")
    coco, boxes = report.results["coco"], report.results["coco_box"]
    assert coco["metrics"]["i2t_r1"]["count"] == 3
    assert coco["metrics"]["t2i_r1"]["count"] == 15
    assert coco["metrics"]["i2t_r10"]["value"] == pytest.approx(200 / 3)
    assert coco["metrics"]["t2i_r10"]["value"] == pytest.approx(200 / 3)
    assert coco["failed"] == 1
    (line,) = map(json.loads, (tmp_path / "out/coco.failures.jsonl").read_text().splitlines())
    assert line["name"].endswith("000000000002.jpg")
    assert "is not a picture this can read" in line["reason"]
    assert (boxes["failed"], boxes["metrics"]["top1"]["value"], boxes["metrics"]["top1"]["count"]) == (3, 0, 3)
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out/coco_box.failures.jsonl").open()]
    assert reasons == ["cannot be read (No such file or directory)"] * 3
    assert "| COCO val2017 | i2t_r1 |" in report.table
    picture(root / "coco/val2017/000000000002.jpg", "green")
    repaired = evaluate(tiny, root, tmp_path / "again", "coco")
    assert repaired.results["coco"]["failed"] == 0
    assert not (tmp_path / "again/coco.failures.jsonl").exists()


def test_boxes_that_leave_their_picture_are_cut_or_counted(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    path = root / "coco/val2017/000000000007.jpg"
    boxes = [(-5.0, 0.0, 32.0, 32.0), (0.0, 0.0, 32.0, 32.0), (10.0, 10.0, 10.0, 20.0), (float("nan"), 0.0, 1.0, 1.0)]
    wants = Wants()
    wants.add_boxes(path, boxes)
    encoder = Encoder(tiny, VectorStore(tmp_path, tiny.width))
    encoder.prepare(wants)
    features, usable = encoder.regions([(path, box) for box in boxes])
    assert usable.tolist() == [True, True, False, False]
    assert torch.equal(features[0], features[1])
    torch.testing.assert_close(features[1:2], tiny.region_features(path, [boxes[1]]), atol=1e-5, rtol=1e-4)
    assert "has no area" in encoder.reason(path, boxes[2])


def test_what_has_no_data_is_left_out_of_all_by_name(
    tiny_dir: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--model", str(tiny_dir), "--data-root", str(root), "--out", str(tmp_path / "out"), "--samples", "20"]
    assert main(["eval", "--tasks", "all", *common, "--protocol", "released"]) == 0
    captured = capsys.readouterr()
    assert f"## Not run: {len(BENCHMARKS) - len(TOGETHER)}" in captured.out
    assert "- DCI (`dci`): dci lacks in " in captured.out
    assert "6 results (0 from earlier runs)" in captured.err
    assert (tmp_path / "out/table.md").read_text(encoding="utf-8") in captured.out
    result = json.loads((tmp_path / "out/fgovd.json").read_text(encoding="utf-8"))
    assert result["protocol"] == {"name": "released", "bootstrap": 20, "seed": 0}
    assert result["facts"]["ties"] == "right"
    assert json.loads((tmp_path / "out/coco.json").read_text(encoding="utf-8"))["facts"]["ties"] == "last"
    assert result["model"]["hash"] == fgclip2.load(tiny_dir).hash
    assert result["versions"]["torch"]
    assert result["published"]["hard"] == {"base": 52.3, "large": 55.5, "so400m": 54.0}
    assert main(["eval", "--tasks", "coco,dci", *common]) == 2
    assert "error: dci lacks in " in capsys.readouterr().err
    assert main(["eval", *common[:2], "--data-root", str(tmp_path / "none")]) == 2
    assert "is no folder; give the one that holds coco/" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["eval", *common[:2], "--data-root", str(empty)]) == 2
    assert "none of the benchmarks can be run with the data in" in capsys.readouterr().err


def test_a_damaged_cache_is_named(tiny: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    store = VectorStore(tmp_path, 3)
    store.put([text_key("猫", "short")], torch.tensor([[1.0, 2, 3]]))
    vectors, found = store.get([text_key("猫", "short"), text_key("猫", "box")])
    assert vectors.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert found.tolist() == [True, False]
    with pytest.raises(Fgclip2Error, match="this model's have 4 numbers; delete the file"):
        VectorStore(tmp_path, 4)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(Fgclip2Error, match="cannot be read .*; delete the file"):
        VectorStore(tmp_path, 3)
    with pytest.raises(Fgclip2Error, match="1 texts were not prepared"):
        Encoder(tiny, VectorStore(tmp_path / "new", tiny.width)).texts(["狗"], "short")


# The embedded model on the embedded world, in both languages, against plain numpy.
COUNT = 12


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Scenes as COCO captions, COCO boxes, BoxClass-CN, DOCCI-CN, FG-OVD and label maps, with lossless pictures."""
    root = tmp_path_factory.mktemp("scenes")
    drawn = [World().scene(seed, SceneConfig(size=160, objects=(2, 4))) for seed in range(COUNT)]
    categories = {thing.category.id: thing.category for scene in drawn for thing in scene.objects}
    ids = {number: label for label, number in enumerate(sorted(categories), start=1)}
    images, captions, annotations, choices, lines = [], [], [], [], []
    for number, scene in enumerate(drawn, start=1):
        name = f"{number:012}.png"
        for folder in ("coco/val2017", "BoxClass-CN/images", "docci/images"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            scene.image.save(root / folder / name)
        images.append({"id": number, "file_name": name, "width": 160, "height": 160})
        captions += [{"image_id": number, "caption": caption} for caption in scene.short["en"]]
        lines.append(f"{name}\t{scene.long['zh']}")
        labels = np.full((160, 160), 255, np.uint8)
        for thing in scene.objects:
            x1, y1, x2, y2 = thing.box
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"image_id": number, "category_id": ids[thing.category.id], "bbox": box})
            choices.append({"img_path": f"val2017/{name}", "bbox": box, "pos_expression": [thing.phrases["en"]],
                            "neg_expression": thing.negatives["en"]})  # fmt: skip
            labels[thing.mask] = ids[thing.category.id] - 1
        write_labels(root / f"ADEChallengeData2016/annotations_detectron2/validation/{number}.png", labels)
        (root / "ADEChallengeData2016/images/validation").mkdir(parents=True, exist_ok=True)
        scene.image.save(root / f"ADEChallengeData2016/images/validation/{number}.jpg", quality=95)
    for file, language in (("coco/annotations/instances_val2017.json", "en"),
                           ("BoxClass-CN/valid_category_data_total_zh.json", "zh")):  # fmt: skip
        names = [
            {"id": label, "name": getattr(categories[number], f"name_{language}")} for number, label in ids.items()
        ]
        write_json(root / file, {"images": images, "annotations": annotations, "categories": names})
    write_json(root / "coco/annotations/captions_val2017.json", {"images": images, "annotations": captions})
    write_lines(root / "DOCCI-CN/image_caption_trans.txt", lines)
    for name in ("1_attributes", "2_attributes", "3_attributes", "shuffle_negatives"):
        write_lines(root / f"fgovd_json/{name}_llava.jsonl", [json.dumps(choice) for choice in choices])
    names = [categories[number].name_en for number in ids]
    write_json(root / "ade150.json", names + [f"unseen {number}" for number in range(len(names), 150)])
    return root, drawn


@pytest.fixture(scope="module")
def embedded() -> fgclip2.FGCLIP2:
    return fgclip2.load("tiny", device="cpu", dtype="float32")


def test_scenes_give_what_plain_computations_give(
    embedded: fgclip2.FGCLIP2, scenes: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    root, drawn = scenes
    names = ("coco", "docci_cn", "coco_box", "boxclass_cn", "fgovd", "a150")
    report = run(select(names), embedded, root, tmp_path, SHORT)
    found = figures(report)
    assert report.encoded == COUNT
    pictures = [scene.image for scene in drawn]
    image = embedded.image_features(pictures).numpy()

    def texts(listed: list[str], kind: Any) -> np.ndarray:
        return embedded.text_features(listed, kind=kind).as_subclass(torch.Tensor).numpy()

    short = [caption for scene in drawn for caption in scene.short["en"]]
    owner = np.repeat(np.arange(COUNT), [len(scene.short["en"]) for scene in drawn])
    scores = image @ texts(short, "short").T
    assert found["coco"]["t2i_r1"] == pytest.approx(100 * (scores.argmax(0) == owner).mean())
    assert found["coco"]["i2t_r1"] == pytest.approx(100 * (owner[scores.argmax(1)] == np.arange(COUNT)).mean())
    scores = image @ texts([scene.long["zh"] for scene in drawn], "long").T
    assert found["docci_cn"]["t2i_r1"] == pytest.approx(100 * (scores.argmax(0) == np.arange(COUNT)).mean())
    assert found["docci_cn"]["i2t_r1"] == pytest.approx(100 * (scores.argmax(1) == np.arange(COUNT)).mean())

    things = [thing for scene in drawn for thing in scene.objects]
    region = np.concatenate([embedded.region_features(s.image, [t.box for t in s.objects]).numpy() for s in drawn])
    ids = sorted({thing.category.id for thing in things})
    labels = np.array([ids.index(thing.category.id) for thing in things])
    by_id = {thing.category.id: thing.category for thing in things}
    for name, language in (("coco_box", "en"), ("boxclass_cn", "zh")):
        classes = texts([getattr(by_id[number], f"name_{language}") for number in ids], "box")
        right = (region @ classes.T).argmax(1) == labels
        assert found[name]["top1"] == pytest.approx(100 * right.mean())
        assert right.mean() > 0.3  # chance is below 0.05
    choices = texts([text for t in things for text in (t.phrases["en"], *t.negatives["en"])], "box")
    cosines = np.einsum("md,mkd->mk", region, choices.reshape(len(things), 11, -1))
    assert found["fgovd"]["hard"] == pytest.approx(100 * (cosines.argmax(1) == 0).mean())

    vocabulary = embedded.text_features(json.loads((root / "ade150.json").read_text(encoding="utf-8")), kind="box")
    table = np.zeros((3, 150), np.int64)
    for number in range(1, COUNT + 1):
        with Image.open(root / f"ADEChallengeData2016/images/validation/{number}.jpg") as opened:
            given = embedded.dense_features(opened.convert("RGB")).similarity_map(vocabulary).argmax(0).numpy()
        truth = np.asarray(Image.open(root / f"ADEChallengeData2016/annotations_detectron2/validation/{number}.png"))
        for label in np.unique(truth[truth < 150]):
            own = truth == label
            table[0, label] += (given[own] == label).sum()
            table[1, label] += own.sum()
        table[2] += np.bincount(given[truth < 150], minlength=150)[:150]
    occurs = table[1] > 0
    iou = table[0][occurs] / (table[1] + table[2] - table[0])[occurs]
    assert found["a150"]["miou"] == pytest.approx(100 * iou.mean(), abs=0.2)  # pixels on the line between two classes


def test_a_frozen_detectors_boxes_are_named_anew(
    embedded: fgclip2.FGCLIP2, scenes: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """True boxes under one wrong name: afterwards AP is that of naming them, and the file says so."""
    root, drawn = scenes
    content = json.loads((root / "coco/annotations/instances_val2017.json").read_text(encoding="utf-8"))
    everything = [category["id"] for category in content["categories"]]
    for image in content["images"]:
        image |= {
            "coco_url": f"http://images.cocodataset.org/val2017/{image['file_name']}",
            "neg_category_ids": everything,
            "not_exhaustive_category_ids": [],
        }
    for number, annotation in enumerate(content["annotations"]):
        annotation |= {"id": number, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    for category, frequency in zip(content["categories"], "rcf" * 99, strict=False):
        category["frequency"] = frequency
    write_json(root / "lvis/lvis_v1_minival_inserted_image_name.json", content)
    boxes = [
        {"image_id": item["image_id"], "category_id": everything[0], "bbox": item["bbox"], "score": 0.5}
        for item in content["annotations"]
    ]
    write_json(tmp_path / "lvis_minival.boxes.json", boxes)
    settings = Settings(predictions=tmp_path)
    report = run(select(["lvis_minival"]), embedded, root, tmp_path / "out", settings)
    metrics = figures(report)["lvis_minival"]
    assert metrics["detector_ap"] < 5
    assert metrics["ap"] > 40
    fused = json.loads((tmp_path / "lvis_minival.fused.json").read_text())
    assert len(fused) == len(boxes)
    names = [category["name"] for category in content["categories"]]
    texts = embedded.text_features(names, kind="box").as_subclass(torch.Tensor)
    for item in fused[:5]:
        x, y, width, height = item["bbox"]
        picture = drawn[item["image_id"] - 1].image
        cosines = texts @ embedded.region_features(picture, [[x, y, x + width, y + height]])[0]
        chance = float((100 * cosines).softmax(0).max())
        assert item["category_id"] == everything[int(cosines.argmax())]
        assert item["score"] == pytest.approx((0.5 * chance) ** 0.5, abs=1e-4)

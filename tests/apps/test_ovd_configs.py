"""Every config of ``apps/configs/ovd`` trains and evaluates on a miniature of its dataset, in its own layout."""

from __future__ import annotations

import gc
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from PIL import Image

import fgclip2
from apps import ovd_train
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.errors import Fgclip2Error
from fgclip2_mmdet.datasets import read_benchmark, read_voc
from fgclip2_mmdet.experiment import DetectionData
from fgclip2_mmdet.inference import OpenVocabInferencer
from fgclip2_mmdet.user_data import UserData

CONFIGS = Path(__file__).resolve().parents[2] / "apps/configs/ovd"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if not path.name.startswith("_"))
LVIS = {"aerosol_can": "c", "bow_(weapon)": "r", "bow_(decorative_ribbons)": "f", "zebra": "f", "manatee": "r"}
Scene = tuple[Image.Image, list[tuple[int, int, int, int]]]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Four pictures of different shapes with the boxes (x, y, width, height) of their objects."""
    world = World()
    made = []
    for seed, size in enumerate([(160, 128), (128, 160), (128, 128), (160, 128)]):
        scene = world.scene(seed, SceneConfig(size=size, objects=(4, 4), repeat=0.0, category_ids=tuple(range(40))))
        boxes = [(x1, y1, x2 - x1, y2 - y1) for thing in scene.objects for x1, y1, x2, y2 in [thing.box]]
        made.append((scene.image, boxes))
    return made


def split(scenes: list[Scene], folder: Path, names: list[str], ids: list[int]) -> dict[str, Any]:
    """COCO's dictionary of some scenes; the n-th object of a picture is of the n-th name, counted on by picture."""
    folder.mkdir(parents=True)
    images, annotations = [], []
    for position, number in enumerate(ids):
        picture, boxes = scenes[number]
        picture.save(folder / f"{number:012d}.jpg")
        images.append(
            {"id": number, "file_name": f"{number:012d}.jpg", "width": picture.width, "height": picture.height}
        )
        for index, box in enumerate(boxes):
            x, y, width, height = box
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 3 * ((index + 2 * position) % len(names)) + 1,
                    "bbox": list(box),
                    "area": width * height,
                    "segmentation": [corners],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3 * index + 1, "name": name} for index, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def ov_coco(root: Path, scenes: list[Scene]) -> None:
    about = Config.fromfile(CONFIGS / "_ov_coco.py").open_vocabulary
    base = [name for name in about.classes if name not in about.novel]
    # "zebra crossing" is one of the classes that the split leaves out
    names = [base[0], "zebra crossing", about.novel[0], *base[1:], *about.novel[1:]]
    for part, ids in (("train", [0, 1]), ("val", [2, 3])):
        content = split(scenes, root / f"data/coco/{part}2017", names, ids)
        write(root / f"data/coco/annotations/instances_{part}2017.json", content)


def ov_lvis(root: Path, scenes: list[Scene]) -> None:
    for part, ids in (("train", [0, 1]), ("val", [2, 3])):
        content = split(scenes, root / f"data/lvis_v1/{part}2017", list(LVIS), ids)
        for image in content["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/{part}2017/{image.pop('file_name')}"
            image |= {"neg_category_ids": [13], "not_exhaustive_category_ids": [1]}
        for category in content["categories"]:
            category |= {"frequency": LVIS[category["name"]], "synonyms": [category["name"]], "def": "a thing"}
        for annotation in content["annotations"]:
            del annotation["iscrowd"]
        write(root / f"data/lvis_v1/annotations/lvis_v1_{part}.json", content)


def voc(root: Path, scenes: list[Scene]) -> None:
    classes = [row[0] for row in Config.fromfile(CONFIGS / "_voc.py").classes]
    for year, part, ids in ((2007, "trainval", [0]), (2012, "trainval", [1]), (2007, "test", [2, 3])):
        folder = root / f"data/VOCdevkit/VOC{year}"
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number in ids:
            picture, boxes = scenes[number]
            picture.save(folder / f"JPEGImages/{number:06d}.jpg")
            objects = "".join(
                f"<object><name>{classes[(index + 5 * number) % 20]}</name><difficult>{int(index == 3)}</difficult>"
                f"<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>"
                "</object>"
                for index, (x, y, w, h) in enumerate(boxes)
            )
            size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
            (folder / f"Annotations/{number:06d}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        lines = [f"{number:06d}\n" for number in ids]
        (folder / f"ImageSets/Main/{part}.txt").write_text("".join(lines))


def users(root: Path, scenes: list[Scene]) -> None:
    for part, ids in (("train", [0, 1]), ("val", [2, 3])):
        write(root / f"mine/{part}.json", split(scenes, root / f"mine/{part}", ["dog", "猫", "red car", "伞"], ids))


LAYOUTS: dict[str, Callable[[Path, list[Scene]], None]] = {"ov_coco": ov_coco, "ov_lvis": ov_lvis, "voc": voc}


@pytest.fixture(scope="module")
def root(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for layout in (*LAYOUTS.values(), users):
        layout(folder, scenes)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """mmengine collects garbage for every data set, and walks all that the test session has imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(root)
    return root


def kind(name: str) -> str:
    found = [layout for layout in LAYOUTS if name.endswith(layout)]
    return found[0] if found else "embedded" if "openmoji" in name else "users"


def train(name: str, model: Path, work_dir: Path, *more: str, config: Path | None = None) -> int:
    """``ovd_train.py`` with one epoch of two pictures, fast."""
    given = {
        "embedded": ["--train-scenes", "2", "--val-scenes", "1"],
        "users": ["--data-root", "mine", "--train-ann", "train.json", "--val-ann", "val.json", "--novel", "猫"],
    }
    fast = ["model.backbone.dtype='float32'", "train_dataloader.batch_size=2"]
    fast += [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
    fast += ["train_dataloader.dataset.pipeline.2.max_patches=36"]
    fast += [f"{part}_dataloader.dataset.pipeline.1.max_patches=36" for part in ("val", "test")]
    if "fvit" in name:
        fast += ["model.train_cfg.rpn_proposal.max_per_img=20", "model.test_cfg.rpn.max_per_img=20"]
    if "finetune" in name:
        fast += ["model.backbone.trainable_blocks=2"]  # of the miniature's two
    arguments = ["--config", str(config or CONFIGS / f"{name}.py"), "--work-dir", str(work_dir), "--model", str(model)]
    arguments += ["--epochs", "1", "--pictures", "0", *given.get(kind(name), []), *more]
    return ovd_train.main([*arguments, "--cfg-options", *fast])


@pytest.mark.parametrize("name", NAMES)
def test_a_config_trains_and_evaluates(name: str, here: Path, tiny_dir: Path, tmp_path: Path) -> None:
    assert train(name, tiny_dir, tmp_path, "--amp") == 0
    report = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    classes = {"ov_coco": (48, 17), "ov_lvis": (3, 2), "voc": (16, 4), "users": (3, 1), "embedded": (648, 216)}
    assert tuple(report["classes"].values()) == classes[kind(name)]
    languages = {"users": {"names"}}.get(kind(name), {"en", "zh"})
    assert set(report["metrics"]) == {*languages, "shuffled"}
    for figures in report["metrics"].values():
        assert 0 <= figures["AP50_all"] <= 100
        assert figures["AP50_novel"] is None or 0 <= figures["AP50_novel"] <= 100
    assert report["pictures"]["train"] == 2
    weights = torch.load(tmp_path / "epoch_1.pth", weights_only=True)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert any("tower" in key for key in weights) == ("finetune" in name)
    assert OpenVocabInferencer.from_checkpoint(tmp_path, device="cpu").set_classes(["dog", "红色汽车"]) > 0


def test_what_a_trained_tower_forgets(
    here: Path, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the released tower and of the mixed one stand beside the trained one's; the mixed one is written."""
    assert train("fvit_finetune", tiny_dir, tmp_path, "--keep", "0.25") == 0
    printed = capsys.readouterr().out
    assert all(row in printed for row in ("released, under the trained heads", "0.25 released", "as trained"))
    report = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert set(report["towers"]) == {"1 released", "0.25 released"}
    assert set(report["towers"]["1 released"]) == set(report["metrics"])
    before = fgclip2.load(tiny_dir, device="cpu", dtype="float32").model.state_dict()
    trained, mixed = (torch.load(tmp_path / f"{n}.pth", weights_only=True)["state_dict"] for n in ("epoch_1", "mixed"))
    assert trained.keys() == mixed.keys()
    changed = 0
    for key, weight in trained.items():
        name = key.removeprefix("backbone.tower.")
        wanted = 0.75 * weight + 0.25 * before[name] if name != key else weight
        torch.testing.assert_close(mixed[key], wanted, msg=key)
        changed += name != key and not torch.equal(weight, before[name])
    assert changed > 10
    one, other = (
        OpenVocabInferencer.from_checkpoint(tmp_path / f"{n}.pth", device="cpu") for n in ("epoch_1", "mixed")
    )
    blocks = [item.detector.backbone.tower.vision_model.encoder.layers[-1].state_dict() for item in (one, other)]
    assert not all(torch.equal(a, b) for a, b in zip(*(block.values() for block in blocks), strict=True))


def test_a_distributed_run_of_one_process_learns_the_same(
    here: Path, tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("onestage", tiny_dir, tmp_path / "plain") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert train("onestage", tiny_dir, tmp_path / "joined", "--launcher", "pytorch") == 0
    plain, joined = (torch.load(tmp_path / run / "epoch_1.pth", weights_only=True) for run in ("plain", "joined"))
    assert plain["state_dict"].keys() == joined["state_dict"].keys()
    for name, tensor in plain["state_dict"].items():
        torch.testing.assert_close(joined["state_dict"][name], tensor, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_carries_its_command(name: str) -> None:
    text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
    (docstring,) = re.findall(r'^"""(.*?)"""', text, flags=re.DOTALL)
    assert f"--config apps/configs/ovd/{name}.py" in docstring or name == "fvit_tiny_openmoji"
    assert "python apps/ovd_train.py" in docstring
    weights = {"large": "qihoo360/fg-clip2-large", "tiny": "tiny"}
    size = next((size for size in weights if size in name), "base")
    assert Config.fromfile(CONFIGS / f"{name}.py").model.backbone.model == weights.get(size, "qihoo360/fg-clip2-base")


def test_the_split_of_coco(here: Path) -> None:
    data = read_benchmark(Config.fromfile(CONFIGS / "fvit_base_ov_coco.py"))
    assert isinstance(data, UserData)
    assert {"person", "bicycle", "toothbrush"} <= set(data.classes) - set(data.novel)
    assert {"airplane", "umbrella", "scissors"} <= set(data.novel) <= set(data.classes)
    assert "zebra crossing" not in {*data.train.names, *data.val.names}
    english, chinese = data.vocabularies["en"], data.vocabularies["zh"]
    assert english == data.classes
    assert len(set(chinese)) == len(chinese) == 65
    assert chinese[english.index("umbrella")] == "雨伞"


def test_lvis_is_evaluated_in_chinese_where_it_has_chinese_names(here: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIGS / "fvit_base_ov_lvis.py")
    data = read_benchmark(cfg)
    assert isinstance(data, DetectionData)
    assert data.vocabularies == {"en": list(LVIS), "zh": ["喷雾罐", "弓", "蝴蝶结", "斑马", "海牛"]}
    content = json.loads(Path(cfg.val_dataloader.dataset.ann_file).read_text(encoding="utf-8"))
    content["categories"][-1]["name"] = "yak"
    write(tmp_path / "val.json", content)
    cfg.val_dataloader.dataset.ann_file = str(tmp_path / "val.json")
    data = read_benchmark(cfg)
    assert isinstance(data, DetectionData)
    assert list(data.vocabularies) == ["en"]
    assert data.notes[-1] == "English names only: 1 classes are none of LVIS v1's, such as 'yak'"


def test_voc_as_annotations(here: Path, scenes: list[Scene]) -> None:
    classes = [row[0] for row in Config.fromfile(CONFIGS / "_voc.py").classes]
    data = read_voc(["data/VOCdevkit/VOC2007/ImageSets/Main/test.txt"], "data/VOCdevkit", classes)
    assert [image.file_name for image in data.images] == [f"VOC2007/JPEGImages/{n:06d}.jpg" for n in (2, 3)]
    assert all(data.path(image).is_file() for image in data.images)
    for image, number in zip(data.images, (2, 3), strict=True):
        found = data.by_image[image.id]
        assert [item.box for item in found] == [(x, y, x + w, y + h) for x, y, w, h in scenes[number][1]]
        assert [item.is_crowd for item in found] == [False, False, False, True]
        assert [classes[item.category_id - 1] for item in found] == [classes[(i + 5 * number) % 20] for i in range(4)]


def test_missing_and_foreign_files_are_told(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Fgclip2Error, match="no VOC annotation of these 1 classes"):
        read_voc(["data/VOCdevkit/VOC2007/ImageSets/Main/test.txt"], "data/VOCdevkit", ["unicorn"])
    cfg = Config.fromfile(CONFIGS / "onestage_base_ov_lvis.py")
    cfg.val_dataloader.dataset.ann_file = "mine/val.json"
    with pytest.raises(Fgclip2Error, match="which LVIS.s protocol needs"):
        read_benchmark(cfg)
    cfg.open_vocabulary.format = "objects365"
    with pytest.raises(Fgclip2Error, match="choose one of coco, lvis, voc"):
        read_benchmark(cfg)
    assert read_benchmark(Config.fromfile(CONFIGS / "fvit.py")) is None
    monkeypatch.chdir(tmp_path)
    for name in (name for name in NAMES if kind(name) in LAYOUTS):
        with pytest.raises(Fgclip2Error, match="does not exist"):
            read_benchmark(Config.fromfile(CONFIGS / f"{name}.py"))


def test_the_files_of_lvis_are_checked_before_the_start(here: Path, tmp_path: Path) -> None:
    """Each wrong in one way: a picture is named that is first wanted after the last epoch, and so on."""

    def changed(part: str, change: Callable[[dict[str, Any]], Any], name: str = "fvit_base_ov_lvis") -> Config:
        cfg = Config.fromfile(CONFIGS / f"{name}.py")
        loader = cfg[f"{part}_dataloader"].dataset
        content = json.loads(Path(loader.ann_file).read_text(encoding="utf-8"))
        change(content)
        write(tmp_path / f"{part}.json", content)
        loader.ann_file = str(tmp_path / f"{part}.json")
        return cfg

    def moved(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["coco_url"] = image["coco_url"].replace("2017/0", "2017/9")

    for part in ("train", "val"):
        with pytest.raises(Fgclip2Error, match=rf"{part}\.json: 2 pictures missing .*'{part}2017/9.*'{part}2017/9"):
            read_benchmark(changed(part, moved))
    without = changed("train", lambda content: content["categories"].pop(0))
    with pytest.raises(Fgclip2Error, match=r"train\.json lacks 1 of the 3 training classes .*such as aerosol_can"):
        read_benchmark(without)
    with pytest.raises(Fgclip2Error, match="nothing to train on"):
        read_benchmark(changed("train", lambda content: content["annotations"].clear()))

    def bare(content: dict[str, Any]) -> None:
        for item in content["annotations"]:
            del item["segmentation"]

    for part in ("train", "val"):
        cfg = changed(part, bare)
        assert isinstance(read_benchmark(cfg), DetectionData)
        cfg.model.roi_head.mask_head = {"type": "FCNMaskHead"}
        with pytest.raises(Fgclip2Error, match=rf"{part}\.json: \d objects without 'segmentation'.*mask_head"):
            read_benchmark(cfg)
    # Of chosen pictures only those need be there.
    cfg = changed("val", lambda content: content["images"][1].update(coco_url="x/val2017/none.jpg"))
    write(tmp_path / "minival.json", [2])
    with pytest.raises(Fgclip2Error, match="1 pictures missing"):
        read_benchmark(cfg)
    cfg.test_evaluator.image_ids = str(tmp_path / "minival.json")
    assert isinstance(read_benchmark(cfg), DetectionData)
    # A name of another layout gives way to the picture's address.
    read_benchmark(changed("val", lambda content: content["images"][0].update(file_name="COCO_val2014_2.jpg")))


def test_a_run_on_published_files_goes_on_by_the_config_that_it_left(
    here: Path, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That config names the files that the run wrote, and still knows the published ones."""
    work = tmp_path / "work"
    assert train("onestage_base_ov_coco", tiny_dir, work) == 0
    left, annotations = work / "onestage_base_ov_coco.py", work / "annotations" / "train.json"
    before = annotations.read_bytes()
    assert Config.fromfile(left).train_dataloader.dataset.ann_file == str(annotations)
    capsys.readouterr()
    for _ in range(2):
        assert train("onestage_base_ov_coco", tiny_dir, work, "--resume", config=left) == 0, capsys.readouterr().err
    assert annotations.read_bytes() == before
    content = json.loads(Path("data/coco/annotations/instances_train2017.json").read_text(encoding="utf-8"))
    content["annotations"][0]["bbox"][2] -= 1
    write(tmp_path / "edited.json", content)
    cfg = tmp_path / "edited.py"
    cfg.write_text(
        f"_base_ = [{str(CONFIGS / 'onestage_base_ov_coco.py')!r}]\n"
        f"train_dataloader = {{'dataset': {{'ann_file': {str(tmp_path / 'edited.json')!r}}}}}\n",
        encoding="utf-8",
    )
    assert train("onestage_base_ov_coco", tiny_dir, work, "--resume", config=cfg) == 2
    assert "was trained with other data: instances_train2017.json with 48" in capsys.readouterr().err
    assert annotations.read_bytes() == before


def test_files_of_the_test_loader_are_those_of_validation(
    here: Path, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        "--config",
        str(CONFIGS / "fvit_base_ov_coco.py"),
        "--model",
        str(tiny_dir),
        "--work-dir",
        str(tmp_path / "w"),
    ]
    for name, value in (("ann_file", "'x.json'"), ("data_prefix", "{'img': 'x'}")):
        option = f"test_dataloader.dataset.{name}={value}"
        assert ovd_train.main([*common, "--cfg-options", option]) == 2
        printed = capsys.readouterr().err
        assert f"--cfg-options test_dataloader.dataset.{name}" in printed
        assert "val_dataloader.dataset" in printed
        assert "test_evaluator.image_ids" in printed
    derived = tmp_path / "derived.py"
    derived.write_text(
        f"_base_ = [{str(CONFIGS / 'fvit_base_ov_coco.py')!r}]\n"
        "test_dataloader = {'dataset': {'ann_file': 'data/coco/annotations/other.json'}}\n",
        encoding="utf-8",
    )
    assert ovd_train.main(["--config", str(derived), *common[2:]]) == 2
    printed = capsys.readouterr().err
    assert "'data/coco/annotations/other.json' below 'data/coco/val2017'" in printed
    assert "instances_val2017.json' below" in printed
    assert not (tmp_path / "w").exists()


def test_figures_are_written_before_pictures_and_metrics_of_others_stay_apart(
    here: Path, tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stock metric in the config is no vocabulary, and what is stopped while it draws has its figures."""
    derived = tmp_path / "fvit_finetune.py"
    derived.write_text(
        f"_base_ = [{str(CONFIGS / 'fvit_finetune.py')!r}]\n"
        "test_evaluator = [{'type': 'OpenVocabCocoMetric'}, "
        "{'type': 'CocoMetric', 'ann_file': 'mine/val.json', 'metric': 'bbox'}]\n",
        encoding="utf-8",
    )

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fgclip2_mmdet.report.draw_predictions", stopped)
    assert train("fvit_finetune", tiny_dir, tmp_path / "work", "--keep", "0.25", config=derived) == 130
    report = json.loads((tmp_path / "work" / "metrics.json").read_text(encoding="utf-8"))
    assert set(report["metrics"]) == {"names", "shuffled"}
    assert set(report["towers"]["1 released"]) == {"names", "shuffled"}
    assert 0 <= report["further_metrics"]["coco/bbox_mAP"] <= 1
    assert set(report["seconds"]) == {"preparation", "training", "evaluation"}
    assert (tmp_path / "work" / "mixed.pth").is_file()
    printed = capsys.readouterr().out
    assert "coco/bbox_mAP: " in printed
    assert "released, under the trained heads" in printed


def test_own_classes_are_evaluated_in_both_languages(here: Path, tiny_dir: Path, tmp_path: Path) -> None:
    """Names of a file, in the order of the categories; a synonym is part of what is trained with."""
    called = {"dog": ["hound", "狗"], "cat": ["猫"], "red car": ["红色汽车"], "umbrella": ["伞"]}
    names = [{"name": name, "synonyms": synonyms} for name, synonyms in called.items()]
    write(tmp_path / "names.json", names)
    work = tmp_path / "work"
    assert train("onestage", tiny_dir, work, "--names", str(tmp_path / "names.json")) == 0
    report = json.loads((work / "metrics.json").read_text(encoding="utf-8"))
    assert set(report["metrics"]) == {"en", "zh", "shuffled"}
    cfg = Config.fromfile(work / "onestage.py")
    assert cfg.model.vocabulary.train == {"dog": ["hound"], "red car": [], "umbrella": []}
    inferencer = OpenVocabInferencer.from_checkpoint(work, device="cpu")
    assert inferencer.classes == ("dog", "red car", "umbrella")
    assert inferencer.detector.words["red car"] == {"red car", "红色汽车"}
    assert train("onestage", tiny_dir, work, "--resume", config=work / "onestage.py") == 2  # other names


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("batch_size=1",), "no setting batch_size; did you mean train_dataloader.batch_size?"),
        (("train_cfg.max_epoch=1",), "no setting train_cfg.max_epoch; did you mean train_cfg.max_epochs?"),
        (("train_cfg={'max_epoch': 1}",), "no setting train_cfg.max_epoch; did you mean train_cfg.max_epochs?"),
        (("train_dataloader.batchsize=1",), "did you mean train_dataloader.batch_size?"),
        (("env_cfg.dist={'timeout': 9}",), "no setting env_cfg.dist"),
    ],
)
def test_overrides_that_would_do_nothing_are_refused(options: tuple[str, ...], told: str) -> None:
    """``batch_size`` stands in the config, for its own files: mmengine's runner never looks at it."""
    from apps.ovd_train import Arguments, _read_config

    with pytest.raises(Fgclip2Error, match=re.escape(told)):
        _read_config(Arguments(cfg_options=options))


def test_settings_that_mmengine_takes_and_the_config_lacks_are_set() -> None:
    from apps.ovd_train import Arguments, _read_config

    options = ("env_cfg.dist_cfg={'timeout': 120}", "train_dataloader.pin_memory=True", "randomness.deterministic=True")
    options += ("optim_wrapper.accumulative_counts=4", "auto_scale_lr.enable=True", "env_cfg.resource_limit=9")
    cfg = _read_config(Arguments(cfg_options=options))
    assert cfg.env_cfg.dist_cfg.timeout == 120
    assert cfg.train_dataloader.pin_memory is True
    assert cfg.randomness.deterministic is True
    assert cfg.optim_wrapper.accumulative_counts == 4
    assert cfg.auto_scale_lr.enable is True
    assert cfg.env_cfg.resource_limit == 9

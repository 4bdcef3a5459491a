"""mmdetection's ``DetInferencer`` on a trained FG-CLIP 2 detector, and its twin whose names come from fusion."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

import fgclip2
from fgclip2 import Fgclip2Error
from fgclip2.fonts import find_cjk_font
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2_mmdet.fusion import FusionDetInferencer
from fgclip2_mmdet.inference import OpenVocabInferencer
from fgclip2_mmdet.proposals import MMDetProposals
from fgclip2_mmdet.runner import facts

TINY = Path(__file__).resolve().parents[2] / "apps/configs/ovd/fvit_tiny_openmoji.py"
SHIPPED = Path(mmdet.__file__).parent / ".mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py"
NAMES = ["猫", "a red car", "umbrella"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "街.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def run(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and checkpoint as ``ovd_train.py`` leaves them, with classes of the training in its metadata."""
    folder = tmp_path_factory.mktemp("run")
    cfg = Config.fromfile(TINY)
    cfg.model.backbone.update(model=str(tiny_dir), dtype="float32")
    cfg.model.vocabulary = {
        "train": ["dog", "cat"],
        "test": {"zh": ["狗", "猫", "红色汽车"]},
        "novel": [False, False, True],
    }
    cfg.test_dataloader.dataset.update(ann_file="nowhere.json", metainfo={"classes": ["dog", "cat", "red car"]})
    cfg.dump(folder / TINY.name)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    meta = {"fgclip2": facts(detector), "dataset_meta": {"classes": ["dog", "cat"]}}
    torch.save({"state_dict": detector.state_dict(), "meta": meta}, folder / "epoch_1.pth")
    return folder / TINY.name, folder / "epoch_1.pth"


def test_a_trained_detector_in_mmdetections_inferencer(run: tuple[Path, Path], picture: Path, tmp_path: Path) -> None:
    """The same boxes as ours gives; labels index the vocabulary in use, not the classes of the training."""
    config, weights = map(str, run)
    peer = DetInferencer(model=config, weights=weights, device="cpu", show_progress=False)
    assert list(peer.model.dataset_meta["classes"]) == ["狗", "猫", "红色汽车"]
    peer.model.set_vocabulary(NAMES)
    assert list(peer.visualizer.dataset_meta["classes"]) == NAMES
    with warnings.catch_warnings(record=True) as told:
        result = peer(str(picture), out_dir=str(tmp_path), no_save_pred=False, pred_score_thr=0.0)
    if find_cjk_font():
        assert not [item for item in told if "Glyph" in str(item.message)]  # 猫 is drawn, not an empty box
    (found,) = result["predictions"]
    ours = OpenVocabInferencer.from_checkpoint(weights, config=config, device="cpu")
    ours.set_classes(NAMES, contrast=False)
    (expected,) = ours([Image.open(picture).convert("RGB")], score_thr=0.0)
    assert len(found["scores"]) == len(expected) > 0
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5)
    np.testing.assert_allclose(found["bboxes"], expected.boxes, rtol=1e-5, atol=1e-3)
    assert [NAMES[label] for label in found["labels"]] == list(expected.labels)
    assert (tmp_path / "vis" / picture.name).is_file()
    assert json.loads((tmp_path / "preds" / f"{picture.stem}.json").read_text())["labels"] == found["labels"]
    pixels = np.asarray(Image.open(picture).convert("RGB"))[..., ::-1]
    (of_array, again) = peer([pixels, str(picture)], batch_size=2)["predictions"]
    np.testing.assert_allclose(of_array["scores"], found["scores"], rtol=1e-4)
    np.testing.assert_allclose(again["scores"], found["scores"], rtol=1e-4)


def test_setting_classes_sets_them(run: tuple[Path, Path], picture: Path) -> None:
    """A trained detector comes with vocabularies of its evaluation; what is set takes their place."""
    config, weights = map(str, run)
    detector = init_detector(config, weights, device="cpu")
    detector.add_vocabulary("more", ["tree"])
    detector.set_vocabulary(["lamp", "猫"])
    assert list(detector.text_head.test_texts) == ["main"]
    assert list(detector.dataset_meta["classes"]) == ["lamp", "猫"]
    found = inference_detector(detector, str(picture)).pred_instances
    expected = OpenVocabInferencer.from_checkpoint(weights, config=config, device="cpu")
    expected.set_classes(["lamp", "猫"], contrast=False)
    (own,) = expected([Image.open(picture).convert("RGB")], score_thr=0.0)
    np.testing.assert_allclose(found.scores, own.scores, rtol=1e-5)
    assert [["lamp", "猫"][label] for label in found.labels.tolist()] == list(own.labels)
    detector.add_vocabulary("more", ["tree"])
    sample = inference_detector(detector, str(picture))
    assert sample.pred_more.labels.max() == 0
    assert torch.equal(sample.pred_instances.labels, found.labels)


@pytest.mark.parametrize(
    ("texts", "custom_entities", "names"),
    [
        ("lamp . St. Bernard . 猫 .", True, ["lamp", "St. Bernard", "猫"]),
        ("lamp. red car. 猫.", True, ["lamp", "red car", "猫"]),
        ([["lamp", "1,000 people"]], False, ["lamp", "1,000 people"]),
        ("lamp", True, ["lamp"]),
    ],
)
def test_texts_of_a_call_are_the_classes_of_that_call(
    run: tuple[Path, Path], picture: Path, tmp_path: Path, texts: object, custom_entities: bool, names: list[str]
) -> None:
    config, weights = map(str, run)
    peer = DetInferencer(model=config, weights=weights, device="cpu", show_progress=False)
    before = peer(str(picture))["predictions"][0]
    called = {"texts": texts, "custom_entities": custom_entities, "return_datasamples": True, "out_dir": str(tmp_path)}
    (sample,) = peer(str(picture), pred_score_thr=0.0, **called)["predictions"]
    found = sample.pred_instances
    ours = OpenVocabInferencer.from_checkpoint(weights, config=config, device="cpu")
    ours.set_classes(names, contrast=False)
    (expected,) = ours([Image.open(picture).convert("RGB")], score_thr=0.0)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert [names[label] for label in found.labels.tolist()] == list(expected.labels) == found.label_names
    assert peer(str(picture))["predictions"][0] == before  # for that call alone
    other = inference_detector(peer.model, str(picture), text_prompt=" . ".join(names), custom_entities=True)
    np.testing.assert_allclose(other.pred_instances.scores, found.scores, rtol=1e-5)


def test_each_image_of_a_call_has_texts_of_its_own(run: tuple[Path, Path], picture: Path) -> None:
    config, weights = map(str, run)
    peer = DetInferencer(model=config, weights=weights, device="cpu", show_progress=False)
    called = {"texts": [["lamp"], ["lamp", "猫"]], "return_datasamples": True, "batch_size": 2}
    one, two = peer([str(picture)] * 2, **called)["predictions"]
    assert set(one.pred_instances.label_names) == {"lamp"}
    assert set(two.pred_instances.label_names) == {"lamp", "猫"}


def test_texts_that_would_do_nothing_are_refused(
    run: tuple[Path, Path], stock: tuple[Path, Path], tiny: fgclip2.FGCLIP2, picture: Path
) -> None:
    config, weights = map(str, run)
    peer = DetInferencer(model=config, weights=weights, device="cpu", show_progress=False)
    with pytest.raises(Fgclip2Error, match="captions are not parsed"):
        peer(str(picture), texts="two dogs under a tree")
    with pytest.raises(Fgclip2Error, match="tokens_positive would do nothing"):
        peer(str(picture), texts="dog", custom_entities=True, tokens_positive=[[0, 3]])
    with pytest.raises(Fgclip2Error, match="stuff_texts would do nothing"):
        peer(str(picture), texts="dog", custom_entities=True, stuff_texts="sky")
    with pytest.raises(Fgclip2Error, match="are the same"):
        peer(str(picture), texts="dog . Dog", custom_entities=True)
    fused = FusionDetInferencer(*stock, fgclip2=tiny, classes=NAMES, device="cpu", show_progress=False)
    for option in ({"texts": "dog"}, {"custom_entities": True}, {"tokens_positive": [[0, 1]]}, {"stuff_texts": "sky"}):
        with pytest.raises(Fgclip2Error, match=r"would do nothing.*set_classes"):
            fused(str(picture), **option)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small detector of mmdetection's, its random weights in a checkpoint that names two classes."""
    folder = tmp_path_factory.mktemp("stock")
    cfg = Config.fromfile(SHIPPED)
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 128)
    cfg.model.test_cfg.update(score_thr=0.0, max_per_img=30)
    cfg.dump(folder / "own.py")
    torch.manual_seed(0)
    detector = MMDetProposals(folder / "own.py", device="cpu").detector
    meta = {"dataset_meta": {"classes": ("bus", "猫")}}
    torch.save({"state_dict": detector.state_dict(), "meta": meta}, folder / "own.pth")
    return folder / "own.py", folder / "own.pth"


def test_fusion_is_called_as_mmdetections(
    stock: tuple[Path, Path], tiny: fgclip2.FGCLIP2, picture: Path, tmp_path: Path
) -> None:
    config = FusionConfig(temperature=20.0, nms_iou=0.7)
    fused = FusionDetInferencer(*stock, fgclip2=tiny, classes=NAMES, config=config, device="cpu", show_progress=False)
    assert fused.set_classes(NAMES) == 1  # "bus" competes, 猫 is asked for
    (found,) = fused(str(picture), out_dir=str(tmp_path))["predictions"]
    proposals = MMDetProposals(*stock, device="cpu", max_boxes=30)
    image = Image.open(picture).convert("RGB")
    ((boxes, scores),) = proposals([image])
    expected = FusionRescorer(tiny, NAMES, config, contrast=("bus", "猫"))(image, boxes, scores)
    assert len(found["scores"]) == len(expected) > 0
    np.testing.assert_allclose(sorted(found["scores"]), sorted(expected.scores.tolist()), rtol=1e-4)
    assert sorted(found["labels"]) == sorted(expected.labels.tolist())
    assert (tmp_path / "vis" / picture.name).is_file()
    assert list(fused.visualizer.dataset_meta["classes"]) == NAMES
    pixels = np.asarray(image)[..., ::-1]
    samples = fused([pixels, str(picture)], batch_size=2, return_datasamples=True)["predictions"]
    for sample in samples:
        np.testing.assert_allclose(sample.pred_instances.scores, found["scores"], rtol=1e-4)
    fused.config = FusionConfig(temperature=20.0, exponent=0.0)  # the detector's own scores
    (own,) = fused(str(picture))["predictions"]
    assert set(np.round(own["scores"], 4)) <= set(np.round(scores.tolist(), 4))
    fused.set_classes({"dog": ["狗"]}, contrast=())
    (found,) = fused(str(picture))["predictions"]
    assert set(found["labels"]) == {0}
    assert fused.classes == ("dog",)


def test_what_cannot_be_used(stock: tuple[Path, Path], tiny: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match=r"nowhere.py.*does not exist"):
        FusionDetInferencer(tmp_path / "nowhere.py", fgclip2=tiny, classes=NAMES)
    with pytest.raises(Fgclip2Error, match=r"nowhere.pth.*does not exist"):
        FusionDetInferencer(stock[0], tmp_path / "nowhere.pth", fgclip2=tiny, classes=NAMES, device="cpu")

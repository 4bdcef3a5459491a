"""The whole detector on miniature data: one training and one test step, other vocabularies, checkpoints, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import InstanceData
from PIL import Image

import fgclip2_mmdet
from benchmarks import fusion
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2_mmdet import FGCLIP2Runner, OpenVocabDataset, OpenVocabDetector
from fgclip2_mmdet.experiment import DetectionData, fill_config, fit_warm_up, set_epochs, summary
from fgclip2_mmdet.inference import OpenVocabInferencer
from fgclip2_mmdet.runner import checkpoints, load_weights, read_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / "apps/configs/ovd"
CONFIG = CONFIGS / "fvit_tiny_openmoji.py"
CLASSES = ["dog", "cat", "bus"]
CHINESE = ["狗", "猫", "公交车"]
NOVEL = ["cat"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    """Four noisy pictures with a plain rectangle for every object; categories in another order than the classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    ids = {"bus": 3, "dog": 7, "cat": 5}
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    for image in range(4):
        width, height = (96, 64) if image % 2 else (64, 96)
        pixels = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
        for index, name in enumerate(("dog", "bus") if image < 3 else ("cat", "dog")):
            box = [4 + 28 * index, 6 + 20 * index, 24, 30]
            pixels[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = (200, 60 * index, 90)
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": image, "category_id": ids[name], "bbox": box}
            )
        Image.fromarray(pixels).save(root / f"{image}.png")
        content["images"].append({"id": image, "file_name": f"{image}.png", "width": width, "height": height})
    file = root / "all.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return DetectionData(CLASSES, NOVEL, {"en": CLASSES, "zh": CHINESE}, file, file, root, root)


def config(data: DetectionData, model: Path, work_dir: Path, file: Path = CONFIG) -> Config:
    cfg = Config.fromfile(file)
    fill_config(cfg, data, str(model), work_dir, seed=0)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].num_workers = 0
        cfg[name].persistent_workers = False
        cfg[name].batch_size = 2
        cfg[name].dataset.pipeline[2 if name == "train_dataloader" else 1].max_patches = 24
    cfg.model.backbone.dtype = "float32"
    (cfg.model.test_cfg.get("rcnn") or cfg.model.test_cfg).score_thr = 0.0  # random weights are sure of nothing
    return cfg


def build(data: DetectionData, model: Path, file: Path = CONFIG) -> OpenVocabDetector:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    from mmdet.registry import MODELS

    return MODELS.build(config(data, model, Path("unused"), file).model)


@pytest.fixture(params=["fvit", "onestage"])
def detector(data: DetectionData, tiny_dir: Path, request: pytest.FixtureRequest) -> OpenVocabDetector:
    return build(data, tiny_dir, CONFIGS / f"{request.param}_tiny_openmoji.py").eval()


def batch(*sizes: tuple[int, int]) -> dict[str, Any]:
    inputs, samples = [], []
    for index, (height, width) in enumerate(sizes):
        generator = torch.Generator().manual_seed(index)
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator))
        sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width)})
        sample.set_metainfo({"scale_factor": (1.0, 1.0), "img_id": index})
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 40.0, 44.0]]), labels=torch.tensor([1]))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def test_labels_follow_the_classes_not_the_file(data: DetectionData) -> None:
    dataset = OpenVocabDataset(
        ann_file=str(data.train_annotations),
        data_prefix={"img": str(data.train_images)},
        metainfo={"classes": data.base},
        pipeline=[],
        filter_cfg={"filter_empty_gt": True},
    )
    assert [[item["bbox_label"] for item in dataset.get_data_info(i)["instances"]] for i in range(len(dataset))] == [
        [0, 1],  # dog, bus
        [0, 1],
        [0, 1],
        [0],  # the cat is novel
    ]


def test_loss_reaches_every_trained_weight(detector: OpenVocabDetector) -> None:
    detector.train()
    losses, _ = detector.parse_losses(
        detector(**detector.data_preprocessor(batch((64, 96), (64, 64)), True), mode="loss")
    )
    assert torch.isfinite(losses)
    losses.backward()
    without = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(parameter.grad is None for parameter in detector.backbone.tower.parameters())


def test_a_picture_without_objects_trains(detector: OpenVocabDetector) -> None:
    empty = batch((64, 64))
    empty["data_samples"][0].gt_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    losses, _ = detector.train().parse_losses(detector(**detector.data_preprocessor(empty, True), mode="loss"))
    assert torch.isfinite(losses)


@torch.no_grad()
def test_every_vocabulary_is_scored_in_one_pass(detector: OpenVocabDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    encode = detector.backbone.encode
    monkeypatch.setattr(detector.backbone, "encode", lambda *a: passes.append(1) or encode(*a))
    (sample,) = detector.test_step(batch((64, 96)))
    assert len(passes) == 1
    for found in (sample.pred_instances, sample.pred_zh, sample.pred_shuffled):
        assert found.bboxes.shape == (len(found.scores), 4)
        assert 0 < len(found) <= 100
        assert (found.scores.diff() <= 0).all()
        assert found.labels.max() < len(CLASSES)
        assert found.bboxes.min() >= 0
        assert found.bboxes[:, 2].max() <= 96
        assert found.bboxes[:, 3].max() <= 64


@torch.no_grad()
def test_detections_do_not_depend_on_the_batch(detector: OpenVocabDetector) -> None:
    sizes = [(64, 96), (96, 48), (50, 40)]
    together = detector.test_step(batch(*sizes))
    for index in range(len(sizes)):
        single = batch(*sizes)
        alone = detector.test_step({key: [value[index]] for key, value in single.items()})[0].pred_instances
        found = together[index].pred_instances
        torch.testing.assert_close(found.scores[:20], alone.scores[:20], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.bboxes[:20], alone.bboxes[:20], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_vocabulary_changes_without_training(detector: OpenVocabDetector) -> None:
    before = detector.test_step(batch((64, 96)))[0].pred_instances
    detector.clear_vocabularies()
    detector.set_vocabulary(["bus", "cat", "dog"], novel=NOVEL)
    after = detector.test_step(batch((64, 96)))[0].pred_instances
    torch.testing.assert_close(before.scores, after.scores)
    assert [CLASSES[i] for i in before.labels.tolist()] == [["bus", "cat", "dog"][i] for i in after.labels.tolist()]
    detector.set_vocabulary(["红色汽车", "a green tree", "dog", "umbrella", "猫"])
    found = detector.test_step(batch((64, 96)))[0].pred_instances
    assert found.labels.max() <= 4
    novel = detector.text_head.test_texts["main"].novel.tolist()
    assert novel == [True, True, False, True, True]  # everything that was not trained
    detector.clear_vocabularies()
    with pytest.raises(Fgclip2Error, match="set_vocabulary"):
        detector.test_step(batch((64, 96)))


@torch.no_grad()
def test_a_picture_without_proposals_gives_no_detections(detector: OpenVocabDetector) -> None:
    if hasattr(detector, "rpn_head"):
        detector.rpn_head.test_cfg.min_bbox_size = 10_000
    else:
        detector.bbox_head.test_cfg.regions.nms_pre = 0
    (sample,) = detector.test_step(batch((64, 64)))
    assert len(sample.pred_instances) == 0


def test_run_save_resume(data: DetectionData, tiny_dir: Path, tmp_path: Path) -> None:
    """An interrupted and resumed run ends with the weights of an uninterrupted one."""

    class Watch(Hook):
        """The losses of the last epoch, as they come out."""

        def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if runner.epoch == 1:
                losses.setdefault(Path(runner.work_dir).name, []).append(float(outputs["loss"].detach()))

    losses: dict[str, list[float]] = {}

    def run(folder: str, resume: bool = False, stop_at: int | None = None, epochs: int = 2) -> FGCLIP2Runner:
        cfg = config(data, tiny_dir, tmp_path / folder)
        set_epochs(cfg, epochs)
        cfg.resume = resume
        loader = Config.fromfile(CONFIG).train_dataloader  # its processes draw from, and add to, the random state
        cfg.train_dataloader.update(num_workers=1, persistent_workers=loader.persistent_workers)
        cfg.default_hooks.logger.interval = 1  # all that a logger leaves behind is there when a checkpoint is written
        runner = FGCLIP2Runner.from_cfg(cfg)
        runner.register_hook(Stop(stop_at))
        runner.register_hook(Watch())
        runner.train()
        return runner

    class Stop(Hook):
        def __init__(self, iteration: int | None) -> None:
            self.iteration = iteration

        def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
            if runner.iter == self.iteration:
                raise InterruptedError

    whole = run("whole")
    with pytest.raises(InterruptedError):
        run("parts", stop_at=3)  # two iterations an epoch: in the middle of the second
    assert [path.name for path in checkpoints(tmp_path / "parts")] == ["epoch_1.pth"]
    (tmp_path / "parts" / "epoch_2.pth").write_bytes(b"PK half written")
    with pytest.raises(Fgclip2Error, match="of a run of 2 epochs, whose learning rates end there; this one has 3"):
        run("parts", resume=True, epochs=3)
    resumed = run("parts", resume=True)
    assert resumed.epoch == 2
    assert losses["parts"][-2:] == losses["whole"]
    for (name, expected), got in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(got, expected, msg=lambda text, name=name: f"{name}: {text}")
    figures = summary(resumed.test())
    assert set(figures) == {"en", "zh", "shuffled"}
    assert all(0 <= value <= 100 for values in figures.values() for value in values.values())


def test_mmdetections_inferencer_takes_a_finished_run(data: DetectionData, tiny_dir: Path, tmp_path: Path) -> None:
    """By the config and the checkpoint that the run left; classes are all of the vocabulary, novel ones too."""
    from mmdet.apis import DetInferencer

    cfg = config(data, tiny_dir, tmp_path / "run")
    set_epochs(cfg, 1)
    runner = FGCLIP2Runner.from_cfg(cfg)
    runner.train()
    files = {"model": str(tmp_path / "run" / CONFIG.name), "weights": str(tmp_path / "run" / "epoch_1.pth")}
    peer = DetInferencer(**files, device="cpu", show_progress=False)
    (found,) = peer(str(data.val_images / "0.png"))["predictions"]
    assert list(peer.model.dataset_meta["classes"]) == CLASSES
    packed = {key: [value] for key, value in runner.val_dataloader.dataset[0].items()}
    with torch.no_grad():
        expected = runner.model.eval().test_step(packed)[0].pred_instances
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)
    np.testing.assert_allclose(found["bboxes"], expected.bboxes, atol=1e-2)
    assert found["labels"] == expected.labels.tolist()


def test_a_warm_up_longer_than_a_quarter_of_the_run_is_shortened_and_told() -> None:
    cfg = Config.fromfile(CONFIG)
    assert fit_warm_up(cfg, 400) == ""
    assert cfg.param_scheduler[0].end == 100
    assert fit_warm_up(cfg, 20) == "warm-up shortened from 100 to 5 iterations: the whole run has 20"
    assert cfg.param_scheduler[0].end == 5


def test_checkpoints_of_other_configs_are_refused(data: DetectionData, tiny_dir: Path, tmp_path: Path) -> None:
    model = build(data, tiny_dir)
    content = {"state_dict": model.state_dict(), "meta": {"fgclip2": fgclip2_mmdet.runner.facts(model)}}
    torch.save(content, tmp_path / "good.pth")
    load_weights(model, read_checkpoint(tmp_path / "good.pth"), "good.pth")

    other = {**content, "meta": {"fgclip2": {"classes": ["horse"]}}}
    with pytest.raises(Fgclip2Error, match="training classes"):
        load_weights(model, other, "other.pth")
    load_weights(model, other, "other.pth", compare_classes=False)
    state = dict(content["state_dict"])
    state["roi_head.bbox_head.hidden.bias"] = torch.zeros(3)
    with pytest.raises(Fgclip2Error, match=r"another config.*hidden\.bias"):
        load_weights(model, {"state_dict": state}, "other.pth")
    torch.save({"state_dict": {}, "evil": Path}, tmp_path / "evil.pth")
    (tmp_path / "torn.pth").write_bytes((tmp_path / "good.pth").read_bytes()[:1000])
    for name in ("evil.pth", "torn.pth", "missing.pth"):
        with pytest.raises(Fgclip2Error, match=name):
            read_checkpoint(tmp_path / name)


def test_frozen_tower_is_not_stored(data: DetectionData, tiny_dir: Path) -> None:
    names = build(data, tiny_dir).state_dict()
    assert not [name for name in names if ".tower." in name]
    assert not [name for name in names if "texts" in name]


class _Draws(torch.utils.data.Dataset[float]):
    """What augmentations draw: numbers of a loader process's own state."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return float(np.random.rand())


def test_loader_processes_draw_afresh_every_epoch_and_the_same_in_a_resumed_one() -> None:
    settings = Config.fromfile(CONFIG).train_dataloader
    loader = torch.utils.data.DataLoader(
        _Draws(),
        num_workers=1,
        persistent_workers=settings.persistent_workers,
        worker_init_fn=FUNCTIONS.get(settings.worker_init_fn.type),
    )

    def epoch(seed: int) -> list[float]:
        set_random_seed(seed)  # as EpochSeedHook does
        return [float(batch) for batch in loader]

    first, second = epoch(0), epoch(1)
    assert set(first).isdisjoint(second)
    assert epoch(1) == second


def test_the_comparison_of_fusion(data: DetectionData, tiny_dir: Path) -> None:
    """A closed detector gives base names only; fusion names its boxes, and the proposals, as the rescorer does."""
    cfg = config(data, tiny_dir, Path("unused"))
    pipeline = cfg.test_dataloader.dataset.pipeline
    names = {"en": CLASSES, "zh": CHINESE}
    inferencer = OpenVocabInferencer(build(data, tiny_dir), pipeline, torch.device("cpu"))
    ways = fusion.Ways(inferencer, names)
    pictures = [Image.open(data.val_images / f"{index}.png") for index in range(2)]
    found = ways(pictures)
    keys = {(item.way, item.language) for item in found[0]}
    assert len(keys) == len(found[0]) == 10
    assert (fusion.ALONE, "en") in keys
    for picture, every in zip(pictures, found, strict=True):
        by = {(item.way, item.language): item for item in every}
        alone = by[fusion.ALONE, "en"]
        assert {CLASSES[label] for label in alone.labels.tolist()} == {"dog", "bus"}
        for language, classes in names.items():
            rescorer = FusionRescorer(ways.model, classes, FusionConfig(nms_iou=0.5))
            expected = rescorer(picture, alone.boxes, alone.scores)
            fused = by[fusion.FUSED[0], language]
            torch.testing.assert_close(fused.scores, expected.scores)
            assert torch.equal(fused.labels, expected.labels)
            free = by[fusion.FUSED[1], language]
            assert len(free.boxes) > 0
            assert (free.boxes <= torch.tensor([*picture.size] * 2) + 1e-3).all()
    one_stage = build(data, tiny_dir, CONFIGS / "onestage_tiny_openmoji.py")
    other = OpenVocabInferencer(one_stage, pipeline, torch.device("cpu"))
    with pytest.raises(Fgclip2Error, match="needs a detector with proposals"):
        fusion.Ways(other, names)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_not_made(factor: float) -> None:
    """The hook stands before mmengine's update and names losses and images."""
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper

    from fgclip2_mmdet import FiniteUpdateHook

    class Line(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))
            self.factor = 1.0

        def forward(self, inputs: Any, data_samples: Any = None, mode: str = "loss") -> dict[str, Any]:
            return {"loss_bbox": (self.weight * self.factor).sum(), "loss_cls": self.weight.sum()}

    model = Line()
    runner = SimpleNamespace(
        model=model, optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)), iter=0
    )
    hook = FiniteUpdateHook()
    hook.before_train(runner)
    data = {"inputs": [], "data_samples": [SimpleNamespace(metainfo={"img_path": "图/a.jpg"})]}
    hook.before_train_iter(runner, 0, data)
    model.train_step(data, runner.optim_wrapper)
    torch.testing.assert_close(model.weight.data, torch.full((2,), 0.8))
    model.factor, runner.iter = factor, 1
    with pytest.raises(Fgclip2Error, match=r"step 2 is not finite \(loss (nan|inf), loss_bbox .*records 图/a.jpg\)"):
        model.train_step(data, runner.optim_wrapper)
    torch.testing.assert_close(model.weight.data, torch.full((2,), 0.8))

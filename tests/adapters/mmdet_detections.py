"""What a detector of random weights finds: ``python mmdet_detections.py MODEL OUTPUT compiled|standin``.

test_mmdet_compiled.py compares mmcv's compiled operations with their stand-in, which one process cannot both have.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def main(model: str, output: str, operations: str) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]
    if operations == "standin":
        sys.modules["mmcv._ext"] = None  # type: ignore[assignment]  # as if mmcv had been installed without it
    import fgclip2_mmdet  # noqa: F401  (registers the detectors)
    from fgclip2_mmdet import ops

    assert ops.is_standin() == (operations == "standin"), f"asked for {operations} operations"
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cfg = Config.fromfile(ROOT / "apps/configs/ovd/fvit_tiny_openmoji.py")
    cfg.model.backbone.update(model=model, dtype="float32")
    cfg.model.vocabulary = {
        "train": ["dog", "bus"],
        "test": {"en": ["dog", "cat", "bus"], "zh": ["狗", "猫", "公交车"]},
    }
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # random weights are sure of nothing
    detector = MODELS.build(cfg.model).eval()
    inputs, samples = [], []
    for height, width in ((64, 96), (96, 80)):
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width)})
        sample.set_metainfo({"scale_factor": (1.0, 1.0), "img_id": len(samples)})
        samples.append(sample)
    with torch.no_grad():
        found = detector.test_step({"inputs": inputs, "data_samples": samples})
    pictures = [
        {f"{name}.{key}": each[key] for name, each in instances.items() for key in ("bboxes", "scores", "labels")}
        for instances in ({"en": sample.pred_instances, "zh": sample.pred_zh} for sample in found)
    ]
    torch.save(pictures, output)


if __name__ == "__main__":
    main(*sys.argv[1:])

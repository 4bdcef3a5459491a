"""Ids that a library narrows: 17 digits from an annotation file to the figures, through data set and metric."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image

from fgclip2_mmdet import OpenVocabCocoMetric, OpenVocabDataset
from fgclip2_mmdet.user_data import read_user_data, write_user_data

FIRST = 12_345_678_901_234_567  # float64 holds 16 digits
KEYS = ("img_id", "ori_shape", "img_shape")


def test_long_ids_reach_the_figures(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for part in ("train", "val"):
        images = [{"id": FIRST + k, "file_name": f"{part}{k}.png", "width": 40, "height": 30} for k in range(3)]
        for image in images:
            Image.new("RGB", (40, 30)).save(tmp_path / "images" / str(image["file_name"]))
        objects = [
            {
                "id": FIRST + 10 + k,
                "image_id": FIRST + k,
                "category_id": FIRST + 100 + k % 2,
                "bbox": [1 + k, 2, 10, 12],
            }
            for k in range(3)
        ]
        categories = [{"id": FIRST + 100, "name": "dog"}, {"id": FIRST + 101, "name": "猫"}]
        content = {"images": images, "annotations": objects, "categories": categories}
        (tmp_path / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
    data = write_user_data(read_user_data(tmp_path, "train.json", "val.json", ""), tmp_path / "run")
    init_default_scope("mmdet")
    dataset = OpenVocabDataset(
        ann_file=str(data.val_annotations),
        data_prefix={"img": str(data.val_images)},
        metainfo={"classes": data.classes},
        test_mode=True,
        pipeline=[{"type": "fgclip2_mmdet.LoadImageFromFile"}, {"type": "PackDetInputs", "meta_keys": KEYS}],
    )
    metric = OpenVocabCocoMetric(str(data.val_annotations), prefix="names", outfile=str(tmp_path / "out.json"))
    metric.dataset_meta = dataset.metainfo
    for k in range(3):
        assert [item["bbox_label"] for item in dataset.get_data_info(k)["instances"]] == [k % 2]
        sample = dataset[k]["data_samples"]
        assert sample.img_id == FIRST + k
        boxes, scores = torch.tensor([[1.0 + k, 2, 11 + k, 14]]), torch.tensor([0.9])
        sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=torch.tensor([k % 2]))
        metric.process(None, [sample.to_dict()])
    figures = metric.evaluate(3)
    assert figures["names/AP50_all"] == figures["names/AP_all"] == 100.0
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [item["image_id"] for item in written] == [FIRST, FIRST + 1, FIRST + 2]
    assert [item["category_id"] for item in written] == [FIRST + 100, FIRST + 101, FIRST + 100]

"""COCO-style data for open-vocabulary training: chosen classes in a chosen order, every kind of picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, TRANSFORMS

from fgclip2.errors import Fgclip2Error
from fgclip2.processing import open_image

from .metric import class_ids


@DATASETS.register_module()
class OpenVocabDataset(CocoDataset):
    """COCO JSON whose labels index ``metainfo["classes"]``; annotations of other classes are left out.

    mmdetection numbers labels by the order of the file whatever the order of the classes; here the order of the classes
    rules, because it is the order of the text embeddings. ``filter_cfg=dict(filter_empty_gt=True)`` leaves out training
    pictures that have no annotation of these classes.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file."""
        content = json.loads(Path(self.ann_file).read_text(encoding="utf-8"))
        classes = self.metainfo.get("classes")
        if not classes:
            raise Fgclip2Error(f"{self.ann_file}: give metainfo=dict(classes=...), the names that labels refer to")
        self.cat_ids = class_ids(content, classes)
        self.cat2label = {category: label for label, category in enumerate(self.cat_ids)}
        self.cat_img_map: dict[int, list[int]] = defaultdict(list)
        annotations = defaultdict(list)
        for annotation in content["annotations"]:
            annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
            annotations[annotation["image_id"]].append(annotation)
            self.cat_img_map[annotation["category_id"]].append(annotation["image_id"])
        return [
            self.parse_data_info(
                {"raw_img_info": {**_named(image), "img_id": image["id"]}, "raw_ann_info": annotations[image["id"]]}
            )
            for image in content["images"]
        ]


def _named(image: dict[str, Any]) -> dict[str, Any]:
    """LVIS names a picture by where it once was, ``.../val2017/1.jpg``; its last two parts are the file's name."""
    return image if "file_name" in image else {**image, "file_name": "/".join(image["coco_url"].split("/")[-2:])}


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Read ``img_path`` with `fgclip2.processing.open_image`: upright, any colour mode, bombs refused.

    Sets ``img`` (H, W, 3) uint8 BGR, as mmdetection's own loader does.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the picture and its size."""
        picture = np.asarray(open_image(results["img_path"]))
        results["img"] = np.ascontiguousarray(picture[..., ::-1])
        results["img_shape"] = results["ori_shape"] = picture.shape[:2]
        return results

"""COCO-style data for open-vocabulary training: chosen classes in a chosen order, every kind of picture."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, TRANSFORMS

from fgclip2.data.coco import with_file_name
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import class_ids
from fgclip2.processing import open_image

from .annotations import read_annotations
from .registry import TRANSFORMS as OWN_TRANSFORMS


@DATASETS.register_module()
class OpenVocabDataset(CocoDataset):
    """COCO or LVIS JSON whose labels index ``metainfo["classes"]``; annotations of other classes are left out.

    mmdetection numbers labels by the order of the file whatever the order of the classes; here the order of the classes
    rules, because it is the order of the text embeddings. ``filter_cfg=dict(filter_empty_gt=True)`` leaves out training
    pictures that have no annotation of these classes. LVIS names pictures by where they once were: they are looked for
    as ``val2017/1.jpg`` and as ``1.jpg`` below ``data_prefix["img"]``.

    Args:
        *args: mmdetection's.
        image_ids: JSON with the pictures to take, such as LVIS's minival, see `read_image_ids`; ``None`` takes all.
        **kwargs: mmdetection's.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, image_ids: str | None = None, **kwargs: Any) -> None:
        self.image_ids = image_ids  # before the annotations are read
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file."""
        content = read_annotations(self.ann_file, self.image_ids)
        root = Path(self.data_prefix["img"])
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
                {
                    "raw_img_info": {**with_file_name(image, root), "img_id": image["id"]},
                    "raw_ann_info": annotations[image["id"]],
                }
            )
            for image in content["images"]
        ]


@OWN_TRANSFORMS.register_module(name="LoadImageFromFile")
@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Read ``img_path`` with `fgclip2.processing.open_image`: upright, any colour mode, bombs refused.

    Sets ``img`` (H, W, 3) uint8 BGR, as mmdetection's own loader does. Our configs call it
    ``fgclip2_mmdet.LoadImageFromFile``: by that ending mmdetection's ``DetInferencer`` finds the step that it replaces
    with its own loader, which takes arrays too.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the picture and its size."""
        picture = np.asarray(open_image(results["img_path"]))
        results["img"] = np.ascontiguousarray(picture[..., ::-1])
        results["img_shape"] = results["ori_shape"] = picture.shape[:2]
        return results

"""Instance segmentation of your own COCO JSON: Mask R-CNN whose classes are texts.

python apps/seg_train.py --config apps/configs/seg/instances.py \
    coco.train.annotations=instances_train2017.json coco.train.images=train2017 \
    coco.val.annotations=instances_val2017.json coco.val.images=val2017

Sizes are near those of detectron2's Mask R-CNN, with fewer regions and proposals for memory.
Not run here with the released weights or on the whole of COCO.
"""

from typing import Any

from detectron2.config import LazyCall

from fgclip2_detectron2.mask_rcnn import build_mask_rcnn

coco: Any = {
    "names_zh": "",  # val's classes in Chinese, .txt or .json in that file's order; those of COCO's own are known
    # Classes to keep out of training, separated by commas: coco.novel="dog, cat"; rare means LVIS's rare ones. What
    # val has and train has not is novel anyway, as in OV-COCO's files.
    "novel": "",
    "train": {"annotations": "", "images": ""},
    "val": {"annotations": "", "images": ""},
}

model: Any = LazyCall(build_mask_rcnn)(
    model="qihoo360/fg-clip2-base",
    backbone={"trainable_blocks": 0},
    detector={
        "channels": 256,
        "strides": [4, 8, 16, 32, 64],
        "proposals": [1000, 300],
        "regions": 256,
        "hidden": 1024,
        "mask_convs": 4,
    },
)

data: Any = {
    "train": "coco_train",
    "test": ["coco_val"],
    "max_patches": 1024,
    "test_max_patches": 1024,
    "batch_size": 4,
    "workers": 2,
    "crop": [0.5, 1.0],
    "flip": 0.5,
}

train: Any = {
    "iterations": 5000,
    "lr": 2e-4,
    "backbone_factor": 0.1,
    "weight_decay": 0.01,
    "warm_up": 200,
    "clip": 1.0,
    "seed": 0,
    "device": "auto",
    "checkpoint_every": 1000,
    "log_every": 20,
    "output_dir": "work_dirs/seg_instances",
}

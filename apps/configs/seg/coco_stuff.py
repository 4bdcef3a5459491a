"""CAT-Seg's experiment with FG-CLIP 2: trained on COCO-Stuff, evaluated on classes it was not trained on.

python apps/seg_train.py --config apps/configs/seg/coco_stuff.py --num-gpus 4

Numbers are those of the paper's segmentation experiment (arXiv 2510.10921) and of CAT-Seg. Not run here: it needs the
data sets, see `fgclip2_detectron2.datasets`, and GPUs. Sets that you do not have are left out by naming the others:
data.test="[ade150_val, pc59_val]".
"""

from typing import Any

from detectron2.config import LazyCall

from fgclip2_detectron2.segmentor import build_segmentor

model = LazyCall(build_segmentor)(
    model="qihoo360/fg-clip2-base",
    backbone={"trainable_blocks": "all", "attention_only": True},
    head={
        "hidden": 128,
        "layers": 2,
        "window": 12,
        "heads": 4,
        "guidance": 128,
        "mlp_ratio": 4,
        "decoder": [64, 32],
        "decoder_guidance": [32, 16],
    },
    templates=["{}", "a photo of a {}.", "a photo of {} in the scene."],
    train_classes=171,
    class_chunk=32,
)

data: Any = {
    "train": "coco_stuff_train",
    "test": ["ade847_val", "pc459_val", "ade150_val", "pc59_val", "voc20_val", "voc21_val"],
    "max_patches": 576,  # 384 x 384 pixels
    "test_max_patches": 1600,  # 640 x 640
    "batch_size": 8,
    "workers": 4,
    "crop": [0.25, 1.0],
    "flip": 0.5,
}

train: Any = {
    "iterations": 80_000,
    "lr": 2e-4,
    "backbone_factor": 0.01,
    "weight_decay": 1e-4,
    "warm_up": 1000,
    "clip": 0.1,
    "seed": 0,
    "device": "auto",
    "checkpoint_every": 5000,
    "log_every": 100,
    "output_dir": "work_dirs/seg_coco_stuff",
}

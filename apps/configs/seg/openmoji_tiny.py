"""The embedded demonstration: embedded model, generated scenes.

python apps/seg_train.py
"""

from detectron2.config import LazyCall

from fgclip2_detectron2.segmentor import build_segmentor

scenes = {"train": 20_000, "val": 100, "base": 648, "novel": 216, "size": 320, "seed": 0}

model = LazyCall(build_segmentor)(
    model="tiny",
    backbone={"trainable_blocks": 0},
    head={
        "hidden": 32,
        "layers": 1,
        "window": 8,
        "heads": 4,
        "guidance": 32,
        "mlp_ratio": 2,
        "decoder": [24],  # a second doubling, [24, 12], took three times as long a step
        "decoder_guidance": [16],
    },
    train_classes=24,
    max_classes=80,  # a picture shows 4 to 8; what is not among these is lost
    train_dtype="auto",
)

data = {
    "train": "openmoji_train",
    "test": ["openmoji_val"],
    "max_patches": 256,
    "test_max_patches": 256,
    "batch_size": 2,
    "workers": 1,
    "crop": [1.0, 1.0],
    "flip": 0.5,
}

train = {
    "iterations": 1300,
    "lr": 1.5e-3,
    "backbone_factor": 0.01,
    "weight_decay": 0.01,
    "warm_up": 50,
    "clip": 1.0,
    "seed": 0,
    "device": "auto",
    "checkpoint_every": 400,
    "log_every": 50,
    "output_dir": "work_dirs/seg",
}

training_free = {"max_patches": 256}

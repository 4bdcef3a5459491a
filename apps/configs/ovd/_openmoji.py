"""Part of other configs: the embedded world's scenes, three epochs of them."""

_base_ = ["./_data.py"]

max_patches = 256  # training sees the scenes of 320 x 320 px at 256 x 256, which is a third faster,
test_max_patches = (
    400  # and testing at their own size: 1 (EN) to 4 (ZH) points of AP50 on novel classes, 15 seconds more
)
batch_size = 8
epochs = 3

train_pipeline = [
    {"type": "fgclip2_mmdet.LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PatchResize", "max_patches": max_patches},
    {"type": "PackDetInputs"},
]
test_pipeline = [
    {"type": "fgclip2_mmdet.LoadImageFromFile"},
    {"type": "PatchResize", "max_patches": test_max_patches},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
]
train_dataloader = {
    "batch_size": batch_size,
    "num_workers": 1,
    "batch_sampler": None,
    "dataset": {"pipeline": train_pipeline},
}
val_dataloader = {"batch_size": batch_size, "num_workers": 1, "dataset": {"pipeline": test_pipeline}}
test_dataloader = val_dataloader

param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 100},
    {
        "type": "CosineAnnealingLR",
        "by_epoch": True,
        "T_max": epochs,
        "eta_min_ratio": 0.01,
        "convert_to_iter_based": True,
    },
]
train_cfg = {"max_epochs": epochs, "val_interval": epochs + 1}

"""Part of other configs: photographs, and how long to look at them. Files and classes are filled in elsewhere."""

max_patches = 1024
batch_size = 8
epochs = 12

load = [{"type": "fgclip2_mmdet.LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
resize = {"type": "PatchResize", "max_patches": max_patches}
train_pipeline = [*load, resize, {"type": "RandomFlip", "prob": 0.5}, {"type": "PackDetInputs"}]
test_pipeline = [
    {"type": "fgclip2_mmdet.LoadImageFromFile"},
    resize,
    {
        "type": "PackDetInputs",
        "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    },
]

train_dataloader = {
    "batch_size": batch_size,
    "num_workers": 2,
    # New workers take their seeds from the epoch's, so that a resumed run flips the same pictures.
    "persistent_workers": False,
    "worker_init_fn": {"type": "keep_epoch_seeds"},
    "sampler": {"type": "DefaultSampler", "shuffle": True},
    "batch_sampler": {"type": "AspectRatioBatchSampler"},
    "dataset": {
        "type": "OpenVocabDataset",
        "filter_cfg": {"filter_empty_gt": True},
        "pipeline": train_pipeline,
    },
}
val_dataloader = {
    "batch_size": batch_size,
    "num_workers": 2,
    "persistent_workers": False,
    "drop_last": False,
    "sampler": {"type": "DefaultSampler", "shuffle": False},
    "dataset": {"type": "OpenVocabDataset", "test_mode": True, "pipeline": test_pipeline},
}
test_dataloader = val_dataloader
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 200},
    {
        "type": "CosineAnnealingLR",
        "by_epoch": True,
        "T_max": epochs,
        "eta_min_ratio": 0.01,
        "convert_to_iter_based": True,
    },
]
train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_interval": epochs + 1}
val_evaluator = {"type": "OpenVocabCocoMetric"}
test_evaluator = val_evaluator

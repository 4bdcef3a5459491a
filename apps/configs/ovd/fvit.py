"""Two-stage open-vocabulary detector (F-ViT's design) on any FG-CLIP 2, for your own COCO JSON.

    python apps/ovd_train.py --config apps/configs/ovd/fvit.py --model qihoo360/fg-clip2-base \
        --data-root DIR --train-ann train.json --val-ann val.json --novel "cat,umbrella"

`ovd_train.py` fills in what depends on the data: classes, files, image folders, and the vocabulary.
The base model on one 24 GB GPU: batch 16 at 1,024 patches. No figures are claimed for it here.
"""

custom_imports = {"imports": ["fgclip2_mmdet"], "allow_failed_imports": False}
default_scope = "mmdet"

max_patches = 1024
batch_size = 8
epochs = 12
channels = 256
strides = [4, 8, 16, 32]

model = {
    "type": "FGCLIP2Detector",
    "data_preprocessor": {"type": "FGCLIP2DataPreprocessor"},
    "backbone": {"type": "FGCLIP2Backbone", "model": "tiny", "out_channels": channels, "strides": strides},
    "rpn_head": {
        "type": "FGCLIP2RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {"type": "AnchorGenerator", "scales": [6], "ratios": [0.5, 1.0, 2.0], "strides": strides},
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    },
    "roi_head": {
        "type": "OpenVocabRoIHead",
        # PAPER figures of F-ViT: 0.1 for base, 0.8 for novel classes, temperature 75
        "ensemble": {"alpha": 0.1, "beta": 0.8, "temperature": 75.0},
        "bbox_roi_extractor": {
            "type": "SingleRoIExtractor",
            "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2, "use_torchvision": True},
            "out_channels": channels,
            "featmap_strides": strides[:3],
        },
        "bbox_head": {
            "type": "OpenVocabBBoxHead",
            "in_channels": channels,
            "roi_feat_size": 7,
            "hidden": 1024,
            "conv_channels": channels,
            "bbox_coder": {
                "type": "DeltaXYWHBBoxCoder",
                "target_means": [0.0] * 4,
                "target_stds": [0.1, 0.1, 0.2, 0.2],
            },
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.7,
                "neg_iou_thr": 0.3,
                "min_pos_iou": 0.3,
                "match_low_quality": True,
                "ignore_iof_thr": -1,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": 256,
                "pos_fraction": 0.5,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": False,
            },
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "rpn_proposal": {
            "nms_pre": 1000,
            "max_per_img": 500,
            "nms": {"type": "nms", "iou_threshold": 0.7},
            "min_bbox_size": 0,
        },
        "rcnn": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.5,
                "neg_iou_thr": 0.5,
                "min_pos_iou": 0.5,
                "match_low_quality": False,
                "ignore_iof_thr": -1,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": 256,
                "pos_fraction": 0.25,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": True,
            },
            "pos_weight": -1,
            "debug": False,
        },
    },
    "test_cfg": {
        "rpn": {"nms_pre": 1000, "max_per_img": 300, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0},
        "rcnn": {
            "score_thr": 0.0005,
            "nms": {"type": "nms", "iou_threshold": 0.5},
            "nms_pre": 1000,
            "max_per_img": 100,
        },
    },
}

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

optim_wrapper = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.05},
    "clip_grad": {"max_norm": 10, "norm_type": 2},
    "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
}
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
val_cfg = {"type": "ValLoop"}
test_cfg = {"type": "TestLoop"}

default_hooks = {
    "timer": {"type": "IterTimerHook"},
    "logger": {"type": "LoggerHook", "interval": 20},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 2},
    "sampler_seed": {"type": "DistSamplerSeedHook"},
}
custom_hooks = [{"type": "EpochSeedHook"}]
env_cfg = {"cudnn_benchmark": False, "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}}
vis_backends = [{"type": "LocalVisBackend"}]
visualizer = {"type": "DetLocalVisualizer", "vis_backends": vis_backends, "name": "visualizer"}
log_processor = {"type": "LogProcessor", "window_size": 20, "by_epoch": True}
log_level = "ERROR"
load_from = None
resume = False

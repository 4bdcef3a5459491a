"""Part of other configs: the one-stage detector (ATSS with text classification)."""

channels = 256
strides = [8, 16, 32, 64]

model = {
    "type": "FGCLIP2OneStageDetector",
    "data_preprocessor": {"type": "FGCLIP2DataPreprocessor"},
    "backbone": {
        "type": "FGCLIP2Backbone",
        "model": "qihoo360/fg-clip2-base",
        "out_channels": channels,
        "strides": strides,
    },
    "bbox_head": {
        "type": "OpenVocabATSSHead",
        # F-ViT's weights for base and novel classes; here the quality of a box counts too
        "ensemble": {"alpha": 0.1, "beta": 0.8, "temperature": 75.0, "objectness": 1.0},
        "in_channels": channels,
        "feat_channels": channels,
        "stacked_convs": 4,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "ratios": [1.0],
            "octave_base_scale": 5,
            "scales_per_octave": 1,
            "strides": strides,
        },
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_means": [0.0] * 4,
            "target_stds": [0.1, 0.1, 0.2, 0.2],
        },
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
    },
    "train_cfg": {
        "assigner": {"type": "ATSSAssigner", "topk": 9},
        "allowed_border": -1,
        "pos_weight": -1,
        "debug": False,
    },
    "test_cfg": {
        "regions": {"nms_pre": 1000, "nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 300},
        "score_thr": 0.0005,
        "nms": {"type": "nms", "iou_threshold": 0.5},
        "nms_pre": 1000,
        "max_per_img": 100,
    },
}

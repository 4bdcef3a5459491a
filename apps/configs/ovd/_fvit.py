"""Part of other configs: the two-stage detector (F-ViT's design)."""

channels = 256
strides = [4, 8, 16, 32]

model = {
    "type": "FGCLIP2Detector",
    "data_preprocessor": {"type": "FGCLIP2DataPreprocessor"},
    "backbone": {
        "type": "FGCLIP2Backbone",
        "model": "qihoo360/fg-clip2-base",
        "out_channels": channels,
        "strides": strides,
    },
    "rpn_head": {
        "type": "FGCLIP2RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {"type": "AnchorGenerator", "scales": [6], "ratios": [0.5, 1.0, 2.0], "strides": strides},
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "reg_decoded_bbox": True,
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 5.0},
    },
    "roi_head": {
        "type": "OpenVocabRoIHead",
        # PAPER figures of F-ViT: 0.1 for base, 0.8 for novel classes, temperature 75; here the quality of a box counts
        "ensemble": {"alpha": 0.1, "beta": 0.8, "temperature": 75.0, "objectness": 1.0},
        "rounds": 2,
        "bbox_roi_extractor": {
            "type": "FGCLIP2RoIExtractor",
            "roi_layer": {"output_size": 7},
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
            "reg_decoded_bbox": True,
            "loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0},  # a mean over all regions, most of them background
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

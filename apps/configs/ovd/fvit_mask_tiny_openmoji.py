"""The embedded demonstration with masks: embedded model, generated scenes, whose masks are exact.

python apps/ovd_train.py --config apps/configs/ovd/fvit_mask_tiny_openmoji.py --work-dir work_dirs/ovd_mask
"""

_base_ = ["./fvit_tiny_openmoji.py"]

model = {
    "roi_head": {
        "mask_roi_extractor": {
            "type": "FGCLIP2RoIExtractor",
            "roi_layer": {"output_size": 14},
            "out_channels": 128,
            "featmap_strides": [8, 16],
            "finest_scale": 40,
        },
        "mask_head": {
            "type": "FCNMaskHead",
            "class_agnostic": True,
            "num_convs": 2,
            "in_channels": 128,
            "conv_out_channels": 64,
        },
    },
    "train_cfg": {"rcnn": {"mask_size": 28}},
    "test_cfg": {"rcnn": {"mask_thr_binary": 0.5}},
}

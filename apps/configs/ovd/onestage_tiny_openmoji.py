"""The embedded demonstration with the one-stage detector: embedded model, generated scenes, minutes on two cores.

python apps/ovd_train.py --config apps/configs/ovd/onestage_tiny_openmoji.py
"""

_base_ = ["./_onestage.py", "./_openmoji.py", "./_runtime.py"]

channels = 128
strides = [8, 16, 32]

model = {
    "backbone": {"model": "tiny", "out_channels": channels, "strides": strides},
    "bbox_head": {
        "ensemble": {"beta": 0.4},  # as in fvit_tiny_openmoji.py
        "in_channels": channels,
        "feat_channels": channels,
        "stacked_convs": 2,
        # objects are 45 to 130 pixels wide
        "anchor_generator": {"octave_base_scale": 4, "strides": strides},
    },
    "test_cfg": {"regions": {"nms_pre": 300, "max_per_img": 100}, "nms": {"iou_threshold": 0.5}},
}
optim_wrapper = {"optimizer": {"lr": 1e-3}}

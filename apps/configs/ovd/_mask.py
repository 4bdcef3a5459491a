"""Part of other configs, in place of _fvit.py: the two-stage detector, whose boxes get masks too, whatever their class.

What a mask covers is learned from the polygons or run lengths of the annotations, which are then loaded and evaluated.
"""

_base_ = ["./_fvit.py"]

model = {
    "roi_head": {
        "mask_roi_extractor": {
            "type": "FGCLIP2RoIExtractor",
            "roi_layer": {"output_size": 14},
            "out_channels": 256,
            "featmap_strides": [4, 8, 16],
        },
        "mask_head": {
            "type": "FCNMaskHead",
            "class_agnostic": True,
            "num_convs": 4,
            "in_channels": 256,
            "conv_out_channels": 256,
        },
    },
    "train_cfg": {"rcnn": {"mask_size": 28}},
    "test_cfg": {"rcnn": {"mask_thr_binary": 0.5}},
}

"""Two-stage open-vocabulary detector (F-ViT's design) with masks on any FG-CLIP 2, for your own COCO JSON.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_mask.py \
        --data-root DIR --train-ann train.json --val-ann val.json --novel "cat,umbrella" --amp

Every object that is trained or evaluated on needs a mask: polygons or run lengths. Otherwise as fvit.py; for published
data sets that have masks take `_base_ = ["./_mask.py", "./_ov_coco.py", "./_runtime.py"]`.
"""

_base_ = ["./_mask.py", "./_data.py", "./_runtime.py"]

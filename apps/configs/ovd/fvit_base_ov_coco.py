"""OV-COCO: 48 base and 17 novel classes. Two-stage detector (F-ViT's design) on the base FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_base_ov_coco.py \
        --work-dir work_dirs/fvit_base_ov_coco --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_base_ov_coco.py \
        --work-dir work_dirs/fvit_base_ov_coco --amp --launcher pytorch

Files: see _ov_coco.py.
"""

_base_ = ["./_fvit.py", "./_ov_coco.py", "./_runtime.py"]

"""OV-COCO: 48 base and 17 novel classes. Two-stage detector (F-ViT's design) on the large FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_large_ov_coco.py \
        --work-dir work_dirs/fvit_large_ov_coco --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_large_ov_coco.py \
        --work-dir work_dirs/fvit_large_ov_coco --amp --launcher pytorch

Files: see _ov_coco.py.
"""

_base_ = ["./fvit_base_ov_coco.py"]

model = {"backbone": {"model": "qihoo360/fg-clip2-large"}}
train_dataloader = {"batch_size": 4}

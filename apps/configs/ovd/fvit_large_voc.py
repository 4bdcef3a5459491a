"""Pascal VOC: 16 base and 4 novel classes. Two-stage detector (F-ViT's design) on the large FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_large_voc.py \
        --work-dir work_dirs/fvit_large_voc --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_large_voc.py \
        --work-dir work_dirs/fvit_large_voc --amp --launcher pytorch

Files: see _voc.py.
"""

_base_ = ["./fvit_base_voc.py"]

model = {"backbone": {"model": "qihoo360/fg-clip2-large"}}
train_dataloader = {"batch_size": 4}

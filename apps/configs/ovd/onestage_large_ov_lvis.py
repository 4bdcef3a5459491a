"""OV-LVIS: 866 base and 337 rare classes. One-stage detector (ATSS with text classification) on the large FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/onestage_large_ov_lvis.py \
        --work-dir work_dirs/onestage_large_ov_lvis --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/onestage_large_ov_lvis.py \
        --work-dir work_dirs/onestage_large_ov_lvis --amp --launcher pytorch

Files: see _ov_lvis.py.
"""

_base_ = ["./onestage_base_ov_lvis.py"]

model = {"backbone": {"model": "qihoo360/fg-clip2-large"}}
train_dataloader = {"batch_size": 4}

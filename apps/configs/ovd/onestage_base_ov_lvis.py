"""OV-LVIS: 866 base and 337 rare classes. One-stage detector (ATSS with text classification) on the base FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/onestage_base_ov_lvis.py \
        --work-dir work_dirs/onestage_base_ov_lvis --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/onestage_base_ov_lvis.py \
        --work-dir work_dirs/onestage_base_ov_lvis --amp --launcher pytorch

Files: see _ov_lvis.py.
"""

_base_ = ["./_onestage.py", "./_ov_lvis.py", "./_runtime.py"]

# LVIS counts 300 detections a picture
model = {"test_cfg": {"score_thr": 0.0001, "nms_pre": 3000, "max_per_img": 300}}

"""OV-LVIS: 866 base and 337 rare classes. Two-stage detector (F-ViT's design) on the base FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_base_ov_lvis.py \
        --work-dir work_dirs/fvit_base_ov_lvis --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_base_ov_lvis.py \
        --work-dir work_dirs/fvit_base_ov_lvis --amp --launcher pytorch

Files: see _ov_lvis.py.
"""

_base_ = ["./_fvit.py", "./_ov_lvis.py", "./_runtime.py"]

model = {
    "test_cfg": {"rcnn": {"score_thr": 0.0001, "nms_pre": 3000, "max_per_img": 300}}
}  # LVIS counts 300 detections a picture

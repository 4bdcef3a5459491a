"""Pascal VOC: 16 base and 4 novel classes. Two-stage detector (F-ViT's design) on the base FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_base_voc.py \
        --work-dir work_dirs/fvit_base_voc --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_base_voc.py \
        --work-dir work_dirs/fvit_base_voc --amp --launcher pytorch

Files: see _voc.py.
"""

_base_ = ["./_fvit.py", "./_voc.py", "./_runtime.py"]

"""Pascal VOC: 16 base and 4 novel classes. One-stage detector (ATSS with text classification) on the base FG-CLIP 2.

    python apps/ovd_train.py --config apps/configs/ovd/onestage_base_voc.py \
        --work-dir work_dirs/onestage_base_voc --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/onestage_base_voc.py \
        --work-dir work_dirs/onestage_base_voc --amp --launcher pytorch

Files: see _voc.py.
"""

_base_ = ["./_onestage.py", "./_voc.py", "./_runtime.py"]

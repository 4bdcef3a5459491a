"""One-stage open-vocabulary detector (ATSS with text classification) on any FG-CLIP 2, for your own COCO JSON.

    python apps/ovd_train.py --config apps/configs/ovd/onestage.py \
        --data-root DIR --train-ann train.json --val-ann val.json --novel "cat,umbrella" --amp

`ovd_train.py` fills in what depends on the data: classes, files, image folders, and the vocabulary. On N GPUs:
`torchrun --nproc-per-node N apps/ovd_train.py --launcher pytorch`, then as above. The base model takes pictures of
1,024 patches, 8 a GPU. No figures are claimed for it here.
"""

_base_ = ["./_onestage.py", "./_data.py", "./_runtime.py"]

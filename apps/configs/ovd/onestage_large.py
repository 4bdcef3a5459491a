"""One-stage open-vocabulary detector (ATSS with text classification) on the large FG-CLIP 2, for your own COCO JSON.

    python apps/ovd_train.py --config apps/configs/ovd/onestage_large.py \
        --data-root DIR --train-ann train.json --val-ann val.json --novel "cat,umbrella" --amp

On N GPUs: `torchrun --nproc-per-node N apps/ovd_train.py --launcher pytorch`, then as above.
"""

_base_ = ["./onestage.py"]

model = {"backbone": {"model": "qihoo360/fg-clip2-large"}}
train_dataloader = {"batch_size": 4}

"""Two-stage open-vocabulary detector (F-ViT's design) whose tower learns too, for your own COCO JSON.

    python apps/ovd_train.py --config apps/configs/ovd/fvit_finetune.py \
        --data-root DIR --train-ann train.json --val-ann val.json --novel "cat,umbrella" --amp

The last four blocks of the tower are trained, ten times slower than the heads and with gradient checkpointing. That
helps where pictures are unlike photographs, and may cost classes without labels some of what the tower knows of them.
`--keep 0.5` mixes half of the released weights back in, and is evaluated beside the trained tower, as is the released
one: all under the heads that were trained on the trained tower, which fit that one best. How far a detector on the
frozen tower comes, a run with fvit.py tells.
"""

_base_ = ["./fvit.py"]

model = {"backbone": {"trainable_blocks": 4, "with_cp": True}}
optim_wrapper = {"paramwise_cfg": {"custom_keys": {"backbone.tower": {"lr_mult": 0.1}}}}

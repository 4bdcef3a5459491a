"""Part of other configs: OV-LVIS, rare classes without training labels. Names and frequencies come from the files,
the Chinese names of LVIS v1's categories, which are evaluated beside the English ones, from fgclip2_mmdet.lvis_names.

Files of LVIS v1 as they come: data/lvis_v1/annotations/lvis_v1_{train,val}.json, and COCO's pictures:
data/lvis_v1/{train,val}2017/*.jpg (links to COCO's folders will do)
"""

_base_ = ["./_data.py"]

root = "data/lvis_v1/"
open_vocabulary = {"format": "lvis"}

train_dataloader = {
    "dataset": {"ann_file": root + "annotations/lvis_v1_train.json", "data_prefix": {"img": root}},
}
val_dataloader = {
    "dataset": {"ann_file": root + "annotations/lvis_v1_val.json", "data_prefix": {"img": root}},
}
test_dataloader = val_dataloader
val_evaluator = {"type": "OpenVocabLvisMetric"}
test_evaluator = val_evaluator

"""Your own pictures and masks.

python apps/seg_train.py --config apps/configs/seg/folder.py model.model=qihoo360/fg-clip2-base \
    folders.names=classes.txt folders.train.images=train/images folders.train.masks=train/masks \
    folders.val.images=val/images folders.val.masks=val/masks
"""

from .coco_stuff import data, model, train

folders = {
    # .txt with one class a line in label order, or .json; or the labelmap.txt of colour masks, as CVAT exports it
    "names": "",
    "names_zh": "",  # the same classes in Chinese, to evaluate with too
    "novel": "",  # classes to keep out of training, separated by commas: folders.novel="dog, cat"
    "first": 0,  # mask value of the first class, where values are in a row
    "values": None,  # mask value of each class, in the order of the names: folders.values="[7, 8, 11]"
    "ignored": None,  # mask values that count nowhere: folders.ignored="[0, 4]"; None: 255 where it is no class
    "background": None,  # mask value of what is none of the classes; pixels then may stay unnamed
    "train": {"images": "", "masks": ""},
    "val": {"images": "", "masks": ""},
}

data.train = "folder_train"
data.test = ["folder_val"]
model.train_classes = 64
train.iterations = 5000
train.warm_up = 200
train.checkpoint_every = 1000
train.output_dir = "work_dirs/seg_folder"

"""Part of other configs: Pascal VOC, 16 base and 4 novel classes (the split of Demirel et al. 2018).

Files as they come: data/VOCdevkit/VOC{2007,2012}/ with ImageSets/Main/*.txt, Annotations/*.xml, JPEGImages/*.jpg.
Trained on trainval of both years, evaluated on the test set of 2007, with COCO's AP. Difficult objects do not count.
"""

_base_ = ["./_data.py"]

root = "data/VOCdevkit/"
classes = [  # in the files, in English, in Chinese
    ("aeroplane", "airplane", "飞机"),
    ("bicycle", "bicycle", "自行车"),
    ("bird", "bird", "鸟"),
    ("boat", "boat", "船"),
    ("bottle", "bottle", "瓶子"),
    ("bus", "bus", "公交车"),
    ("car", "car", "汽车"),
    ("cat", "cat", "猫"),
    ("chair", "chair", "椅子"),
    ("cow", "cow", "牛"),
    ("diningtable", "dining table", "餐桌"),
    ("dog", "dog", "狗"),
    ("horse", "horse", "马"),
    ("motorbike", "motorcycle", "摩托车"),
    ("person", "person", "人"),
    ("pottedplant", "potted plant", "盆栽植物"),
    ("sheep", "sheep", "绵羊"),
    ("sofa", "sofa", "沙发"),
    ("train", "train", "火车"),
    ("tvmonitor", "tv monitor", "电视显示器"),
]
open_vocabulary = {
    "format": "voc",
    "classes": [row[0] for row in classes],
    "novel": ["car", "dog", "sofa", "train"],
    "vocabularies": {"en": [row[1] for row in classes], "zh": [row[2] for row in classes]},
}

train_dataloader = {
    "dataset": {
        "ann_file": [root + f"VOC{year}/ImageSets/Main/trainval.txt" for year in (2007, 2012)],
        "data_prefix": {"img": root},
    },
}
val_dataloader = {
    "dataset": {"ann_file": [root + "VOC2007/ImageSets/Main/test.txt"], "data_prefix": {"img": root}},
}
test_dataloader = val_dataloader

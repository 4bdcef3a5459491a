"""Instance segmentation with the embedded model, on generated scenes.

python apps/seg_train.py --config apps/configs/seg/instances_tiny.py
"""

from .instances import data, model, train

scenes = {"train": 20_000, "val": 200, "base": 450, "novel": 150, "size": 320, "seed": 0}

model.model = "tiny"
model.detector.channels = 64
model.detector.strides = [8, 16, 32]
model.detector.proposals = [300, 100]
model.detector.regions = 64
model.detector.hidden = 256
model.detector.mask_convs = 2

data.train = "openmoji_instances_train"
data.test = ["openmoji_instances_val"]
data.max_patches = data.test_max_patches = 400
data.workers = 1
data.crop = [1.0, 1.0]

train.iterations = 1000
train.lr = 1e-3
train.warm_up = 50
train.checkpoint_every = 250
train.output_dir = "work_dirs/seg_instances_tiny"

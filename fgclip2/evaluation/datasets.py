"""The benchmarks: what each is called, which files it needs, and who reads them.

All paths are relative to one data root, with the names that the files have where they are published. Sets that share
pictures (COCO, Flickr30k, DCI, PASCAL) share folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.benchmark import TASKS, Benchmark, Part, Reader, Task
from fgclip2.evaluation.readers import boxes, captions, choices, folders, questions
from fgclip2.evaluation.readers.files import first_existing, read_names

__all__ = ["BENCHMARKS", "TASKS", "Benchmark", "Part", "Task", "select"]

_COCO_SITE: Final = "https://cocodataset.org/#download"
_COCO_VAL: Final = Part("coco/val2017", f"COCO 2017 val pictures, {_COCO_SITE}")
_COCO_TRAIN: Final = Part("coco/train2017", f"COCO 2017 train pictures (LVIS val uses some), {_COCO_SITE}")
_COCO_2014: Final = (
    Part("coco/train2014", f"COCO 2014 train pictures, {_COCO_SITE}"),
    Part("coco/val2014", f"COCO 2014 val pictures, {_COCO_SITE}"),
)
_LVIS_SITE: Final = "https://www.lvisdataset.org/dataset"
_HUB: Final = "https://huggingface.co/datasets"
_FLICKR: Final = Part(
    "flickr30k/flickr30k-images", "Flickr30k pictures, https://shannon.cs.illinois.edu/DenotationGraph"
)
_DCI_PHOTOS: Final = "pictures of DCI (SA-1B, a part), https://github.com/facebookresearch/DCI"
_PREPARED: Final = "prepared as CAT-Seg's datasets/README.md says, https://github.com/cvlab-kaist/CAT-Seg"
_LLAVA: Final = "https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md"
_IMAGENET_NAMES: Final = Part(
    "imagenet_classnames.txt",
    "the 1,000 class names in class order, one a line: IMAGENET_CLASSNAMES of open_clip or of CLIP's notebook",
    ("imagenet_classnames.json",),
)


def _imagenet_names(root: Path) -> tuple[str, ...]:
    names = (_IMAGENET_NAMES.path, *_IMAGENET_NAMES.others)
    return read_names(first_existing(*(root / name for name in names)), folders.CLASSES)


def _segmentation(name: str, title: str, count: int, paths: tuple[str, str], names: str, read: Reader) -> Benchmark:
    parts = (
        Part(paths[0], f"pictures, {_PREPARED}"),
        Part(paths[1], f"label maps, {_PREPARED}"),
        Part(names, f"class names as a JSON list, {names} of CAT-Seg's datasets folder"),
    )
    return Benchmark(
        name, title, "segmentation", "en", parts, read, lambda root: read_names(root / names, count), count
    )


_ADE: Final = "ADE20K_2021_17_01"
_VOC: Final = "VOCdevkit"

_ALL: Final = (
    Benchmark(
        "fgovd",
        "FG-OVD",
        "fine_grained",
        "en",
        (
            *(
                Part(name, "FG-OVD as JSON lines, of the FG-CLIP release", tuple(others))
                for name, *others in (choices.fgovd_files("fgovd_json", split) for split in choices.FGOVD_SPLITS)
            ),
            Part("coco/val2017", f"COCO 2017 pictures that img_path names, {_COCO_SITE}", ("coco/train2017",)),
        ),
        choices.fgovd,
    ),
    Benchmark(
        "coco_box",
        "COCO-80 boxes",
        "box_classification",
        "en",
        (Part(boxes.COCO, f"COCO 2017 annotations, {_COCO_SITE}"), _COCO_VAL),
        boxes.coco,
        lambda root: boxes.class_names(root / boxes.COCO),
        80,
    ),
    Benchmark(
        "lvis_box",
        "LVIS-1203 boxes",
        "box_classification",
        "en",
        (Part(boxes.LVIS, f"LVIS v1 val annotations, {_LVIS_SITE}"), _COCO_VAL, _COCO_TRAIN),
        boxes.lvis,
        lambda root: boxes.class_names(root / boxes.LVIS),
        1203,
    ),
    Benchmark(
        "boxclass_cn",
        "BoxClass-CN-566",
        "box_classification",
        "zh",
        (
            Part(boxes.BOXCLASS_CN[0], f"{_HUB}/qihoo360/BoxClass-CN", boxes.BOXCLASS_CN[1:]),
            Part("BoxClass-CN/images", f"{_HUB}/qihoo360/BoxClass-CN"),
        ),
        boxes.boxclass_cn,
        lambda root: boxes.class_names(boxes.boxclass_cn_file(root)),
        566,
    ),
    Benchmark(
        "lvis_minival",
        "LVIS minival",
        "detection",
        "en",
        (
            Part(
                boxes.MINIVAL,
                f"{_HUB}/GLIPModel/GLIP, lvis_v1_minival_inserted_image_name.json",
            ),
            _COCO_VAL,
        ),
        boxes.lvis_minival,
    ),
    Benchmark(
        "lvis_val",
        "LVIS val",
        "detection",
        "en",
        (Part(boxes.LVIS, f"LVIS v1 val annotations, {_LVIS_SITE}"), _COCO_VAL, _COCO_TRAIN),
        boxes.lvis_val,
    ),
    Benchmark(
        "sharegpt4v",
        "ShareGPT4V-1k",
        "long_retrieval",
        "en",
        (
            Part("ShareGPT4V/share-captioner_coco_lcs_sam_1246k_1107.json", f"{_HUB}/Lin-Chen/ShareGPT4V"),
            Part(
                "ShareGPT4V/data/sam/images", "SA-1B pictures, https://ai.meta.com/datasets/segment-anything-downloads"
            ),
        ),
        captions.sharegpt4v,
    ),
    Benchmark(
        "dci",
        "DCI",
        "long_retrieval",
        "en",
        (
            Part("densely_captioned_images/splits.json", "DCI, https://github.com/facebookresearch/DCI"),
            Part("densely_captioned_images/annotations", "DCI, https://github.com/facebookresearch/DCI"),
            Part("densely_captioned_images/photos", _DCI_PHOTOS),
        ),
        captions.dci,
    ),
    Benchmark(
        "coco",
        "COCO val2017",
        "short_retrieval",
        "en",
        (Part("coco/annotations/captions_val2017.json", f"COCO 2017 annotations, {_COCO_SITE}"), _COCO_VAL),
        captions.coco,
    ),
    Benchmark(
        "flickr30k",
        "Flickr30k",
        "short_retrieval",
        "en",
        (
            Part("flickr30k/flickr30k_test.json", "Karpathy's test split as BLIP publishes it", captions.KARPATHY),
            _FLICKR,
        ),
        captions.flickr30k,
    ),
    Benchmark(
        "lit_cn",
        "LIT-CN",
        "long_retrieval",
        "zh",
        (Part("LIT-CN/image_caption_long_cn.txt", f"{_HUB}/qihoo360/LIT-CN, its pictures beside it"),),
        captions.lit_cn,
    ),
    Benchmark(
        "dci_cn",
        "DCI-CN",
        "long_retrieval",
        "zh",
        (
            Part("DCI-CN/image_caption_trans.txt", f"{_HUB}/qihoo360/DCI-CN"),
            Part("densely_captioned_images/photos", _DCI_PHOTOS, ("DCI-CN/photos", "DCI-CN/images")),
        ),
        captions.dci_cn,
    ),
    Benchmark(
        "docci_cn",
        "DOCCI-CN",
        "long_retrieval",
        "zh",
        (
            Part("DOCCI-CN/image_caption_trans.txt", f"{_HUB}/qihoo360/DOCCI-CN"),
            Part("docci/images", "DOCCI pictures, https://google.github.io/docci", ("DOCCI-CN/images",)),
        ),
        captions.docci_cn,
    ),
    Benchmark(
        "flickr30k_cna",
        "Flickr30k-CNA",
        "short_retrieval",
        "zh",
        (Part("flickr30k_cna/flickr30k_cna_test.txt", "Zero's benchmarks, https://zero.so.com"), _FLICKR),
        captions.flickr30k_cna,
    ),
    Benchmark(
        "coco_cn",
        "COCO-CN",
        "short_retrieval",
        "zh",
        (
            Part(
                "coco-cn/imageid.manually-translated-caption.txt",
                "COCO-CN, https://github.com/li-xirong/coco-cn",
                ("coco-cn/pair.txt",),
            ),
            *_COCO_2014,
        ),
        captions.coco_cn,
    ),
    Benchmark(
        "imagenet",
        "ImageNet-1k",
        "classification",
        "en",
        (Part("IN1K_val/val", "ImageNet validation, a folder a WordNet id, https://image-net.org"), _IMAGENET_NAMES),
        folders.imagenet,
        _imagenet_names,
        folders.CLASSES,
    ),
    Benchmark(
        "imagenet_v2",
        "ImageNet-v2",
        "classification",
        "en",
        (Part("imagenetv2-matched-frequency-format-val", f"{_HUB}/vaishaal/ImageNetV2"), _IMAGENET_NAMES),
        folders.imagenet_v2,
        _imagenet_names,
        folders.CLASSES,
    ),
    _segmentation(
        "a847",
        "A-847",
        847,
        (f"{_ADE}/images_detectron2/validation", f"{_ADE}/annotations_detectron2/validation"),
        "ade847.json",
        folders.a847,
    ),
    _segmentation(
        "pc459",
        "PC-459",
        459,
        (f"{_VOC}/VOC2010/JPEGImages", f"{_VOC}/VOC2010/annotations_detectron2/pc459_val"),
        "pc459.json",
        folders.pc459,
    ),
    _segmentation(
        "a150",
        "A-150",
        150,
        ("ADEChallengeData2016/images/validation", "ADEChallengeData2016/annotations_detectron2/validation"),
        "ade150.json",
        folders.a150,
    ),
    _segmentation(
        "pc59",
        "PC-59",
        59,
        (f"{_VOC}/VOC2010/JPEGImages", f"{_VOC}/VOC2010/annotations_detectron2/pc59_val"),
        "pc59.json",
        folders.pc59,
    ),
    _segmentation(
        "voc20",
        "VOC-20",
        20,
        (f"{_VOC}/VOC2012/JPEGImages", f"{_VOC}/VOC2012/annotations_detectron2/val"),
        "voc20.json",
        folders.voc20,
    ),
    _segmentation(
        "voc21",
        "VOC-21",
        21,
        (f"{_VOC}/VOC2012/JPEGImages", f"{_VOC}/VOC2012/annotations_detectron2_bg/val"),
        "voc20b.json",
        folders.voc21,
    ),
    Benchmark(
        "gqa",
        "GQA",
        "answers",
        "en",
        (
            Part("gqa/testdev_balanced_questions.json", "https://cs.stanford.edu/people/dorarad/gqa/download.html"),
            Part("gqa/images", "https://cs.stanford.edu/people/dorarad/gqa/download.html"),
        ),
        questions.gqa,
    ),
    Benchmark(
        "mmmu", "MMMU", "answers", "en", (Part("MMMU", f"{_HUB}/MMMU/MMMU, a folder a subject"),), questions.mmmu
    ),
    Benchmark(
        "textvqa",
        "TextVQA",
        "answers",
        "en",
        (
            Part("textvqa/TextVQA_0.5.1_val.json", "https://textvqa.org/dataset"),
            Part("textvqa/train_images", "https://textvqa.org/dataset, train and val pictures"),
        ),
        questions.textvqa,
        optional=(Part(questions.TEXTVQA_PROMPTS, f"LLaVA-1.5's prompts with OCR tokens, eval.zip of {_LLAVA}"),),
    ),
    Benchmark(
        "refcoco",
        "RefCOCO",
        "answers",
        "en",
        (
            *(
                Part(f"refcoco/refcoco_{split}.jsonl", "Qwen-VL's evaluation data, as InternVL documents it")
                for split in questions.REFCOCO_SPLITS
            ),
            _COCO_2014[0],
        ),
        questions.refcoco,
    ),
    Benchmark(
        "mmbench",
        "MMBench EN",
        "answers",
        "en",
        (Part("mmbench/mmbench_dev_20230712.tsv", _LLAVA),),
        questions.mmbench,
    ),
    Benchmark(
        "mmbench_cn",
        "MMBench CN",
        "answers",
        "zh",
        (Part("mmbench/mmbench_dev_cn_20231003.tsv", _LLAVA),),
        questions.mmbench_cn,
    ),
    Benchmark(
        "sugarcrepe",
        "SugarCrepe",
        "fine_grained",
        "en",
        (
            *(
                Part(f"sugar-crepe/data/{kind}.json", "https://github.com/RAIVNLab/sugar-crepe")
                for kind in choices.SUGARCREPE_KINDS
            ),
            _COCO_VAL,
        ),
        choices.sugarcrepe,
        in_paper=False,
    ),
    Benchmark(
        "fgovd_cn",
        "FG-OVD in Chinese",
        "fine_grained",
        "zh",
        (
            *(
                Part(name, "of FG-OVD, by apps/build_benchmark.py --fgovd", tuple(others))
                for name, *others in (choices.fgovd_files("fgovd_cn_json", split) for split in choices.FGOVD_SPLITS)
            ),
            Part("coco/val2017", f"COCO 2017 pictures that img_path names, {_COCO_SITE}", ("coco/train2017",)),
        ),
        choices.fgovd_cn,
        in_paper=False,
    ),
)

BENCHMARKS: Final = {benchmark.name: benchmark for benchmark in _ALL}
"""By name: the paper's 29 and what the toolkit adds."""


def select(names: Sequence[str]) -> tuple[Benchmark, ...]:
    """Benchmarks by their names, by their tasks' names, or ``all``; in the order of ``BENCHMARKS``.

    Raises:
        Fgclip2Error: an unknown name, or none.
    """
    known = {*BENCHMARKS, *TASKS, "all"}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"no benchmark or task {unknown[0]!r}" if unknown else "no benchmark was named"
        raise Fgclip2Error(f"{what}; choose all, a task ({', '.join(TASKS)}), or of {', '.join(BENCHMARKS)}")
    wanted = set(names)
    return tuple(item for item in _ALL if wanted & {"all", item.name, item.task})

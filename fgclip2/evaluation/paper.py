"""Published figures of FG-CLIP 2 (arXiv 2510.10921, ICML 2026 version), in percent."""

from __future__ import annotations

from typing import Final, NamedTuple


class Published(NamedTuple):
    """A figure of each size; None where the paper has one size only."""

    base: float | None
    large: float | None = None
    so400m: float | None = None


SIZES: Final = {768: "base", 1024: "large", 1152: "so400m"}
"""Width of the features -> size of the released model."""


def _retrieval(*pairs: tuple[float, float]) -> dict[str, Published]:
    return {
        name: Published(*figures) for name, figures in zip(("i2t_r1", "t2i_r1"), zip(*pairs, strict=True), strict=True)
    }


PUBLISHED: Final[dict[str, dict[str, Published]]] = {
    "fgovd": {
        "hard": Published(52.3, 55.5, 54.0),
        "medium": Published(76.3, 77.5, 77.4),
        "easy": Published(80.3, 83.1, 79.8),
        "trivial": Published(92.0, 92.5, 93.5),
    },
    "coco_box": {"top1": Published(74.9, 74.0, 77.4)},
    "lvis_box": {"top1": Published(47.3, 41.9, 43.9)},
    "boxclass_cn": {"top1": Published(60.7, 68.6, 66.5)},
    "lvis_minival": {"ap": Published(51.6, 52.6, 53.1), "ap_rare": Published(47.5, 48.6, 50.8)},
    "lvis_val": {"ap": Published(44.0, 45.5, 45.9), "ap_rare": Published(37.4, 41.0, 42.1)},
    "sharegpt4v": _retrieval((95.8, 95.4), (96.9, 96.6), (97.5, 96.7)),
    "dci": _retrieval((64.5, 64.9), (70.0, 71.6), (70.6, 72.1)),
    "coco": _retrieval((72.1, 54.5), (75.1, 58.6), (74.6, 56.7)),
    "flickr30k": _retrieval((94.1, 81.9), (96.6, 84.8), (95.9, 85.0)),
    "lit_cn": _retrieval((82.4, 81.1), (86.3, 85.9), (87.6, 86.3)),
    "dci_cn": _retrieval((53.9, 55.7), (60.4, 62.2), (62.7, 65.1)),
    "docci_cn": _retrieval((71.2, 75.4), (77.6, 81.9), (79.7, 84.0)),
    "flickr30k_cna": _retrieval((85.4, 69.9), (90.3, 75.0), (91.5, 77.2)),
    "coco_cn": _retrieval((77.2, 62.9), (82.8, 66.5), (83.2, 68.1)),
    "imagenet": {"top1": Published(79.5, 83.0, 84.1)},
    "imagenet_v2": {"top1": Published(72.2, 77.4, 77.8)},
    "a847": {"miou": Published(16.6, 18.8, 20.0)},
    "pc459": {"miou": Published(24.0, 26.6, 27.5)},
    "a150": {"miou": Published(38.5, 41.2, 42.2)},
    "pc59": {"miou": Published(61.2, 62.4, 63.3)},
    "voc20": {"miou": Published(97.1, 97.6, 97.8)},
    "voc21": {"miou": Published(81.1, 81.8, 83.2)},
    "gqa": {"accuracy": Published(64.0)},
    "mmmu": {"accuracy": Published(38.1)},
    "textvqa": {"accuracy": Published(62.0)},
    "refcoco": {"val": Published(84.9), "testA": Published(89.8), "testB": Published(79.5)},
    "mmbench": {"dev": Published(67.6), "test": Published(66.5)},
    "mmbench_cn": {"dev": Published(60.5), "test": Published(61.4)},
}
"""Benchmark -> metric -> figures. The last six were measured on one size, which stands under base. Which of MMBench's
two figures is which is inferred; answers to its test split are judged by its server only."""

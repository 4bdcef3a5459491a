"""Class names of the segmentation benchmarks, English and Chinese, in label order.

English names are the official ones (of ADE20K's synonyms one each), so that figures can be compared. Those of all
of ADE20K and PASCAL Context are in ``class_names_ade847`` and ``class_names_pc459``.
"""

from __future__ import annotations

from typing import Final

from fgclip2.glossary import class_names

# In the order of COCO's ids: 80 things of 1..90, then all stuff, 92..182.
COCO_STUFF: Final = class_names("coco_stuff")

COCO_STUFF_IDS: Final = tuple(
    number for number in range(1, 183) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
)
"""COCO's id of each COCO-Stuff class; the masks hold these less one."""

ADE_150: Final = class_names("ade150")

PC_59: Final = class_names("pc59")

VOC_20: Final = class_names("voc20")

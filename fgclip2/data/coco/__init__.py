"""COCO and LVIS files: read once for all programs, checked, and put right where exporters differ."""

from fgclip2.data.coco.boxes import ROUNDING
from fgclip2.data.coco.images import check_distinct, find_image, image_folder, with_file_name
from fgclip2.data.coco.loading import load_coco
from fgclip2.data.coco.reading import read_annotation_file, whole
from fgclip2.data.coco.values import CocoAnnotation, CocoCategory, CocoDataset, CocoImage

__all__ = [
    "ROUNDING",
    "CocoAnnotation",
    "CocoCategory",
    "CocoDataset",
    "CocoImage",
    "check_distinct",
    "find_image",
    "image_folder",
    "load_coco",
    "read_annotation_file",
    "whole",
    "with_file_name",
]

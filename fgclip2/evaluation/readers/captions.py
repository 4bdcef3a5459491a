"""Long and short retrieval, English and Chinese: pictures with their captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import (
    entry,
    first_existing,
    integer,
    objects,
    read_json,
    read_lines,
    read_list,
    read_object,
    starts_with,
    text,
)
from fgclip2.evaluation.records import Captioned

KARPATHY: Final = ("flickr30k/dataset_flickr30k.json", "flickr30k/dataset.json")
"""Where Karpathy's own file of Flickr30k may lie, in place of BLIP's."""
_FIVE: Final = 5  # captions a picture: COCO has a few with six or seven, of which the field takes the first five
_COCO_CN: Final = re.compile(r"COCO_(train|val)2014_(\d{12})#zhm#\d+\s+(.*)")


def coco(root: Path) -> Iterator[Captioned]:
    """COCO captions val2017: 5,000 pictures in the order of their ids, five captions each."""
    file = root / "coco/annotations/captions_val2017.json"
    content = read_object(file, "images", "annotations")
    captions: dict[int, list[str]] = {}
    for item in objects(content, "annotations", file):
        item = entry(item, str(file), "image_id", "caption")
        number = integer(item["image_id"], f"{file}, image_id")
        captions.setdefault(number, []).append(text(item["caption"], f"{file}, picture {number}"))
    images = {integer(image["id"], f"{file}, images"): image["file_name"] for image in (
        entry(image, str(file), "id", "file_name") for image in objects(content, "images", file))}  # fmt: skip
    lacking = next((number for number in captions if number not in images), None)
    if lacking is not None:
        raise Fgclip2Error(f"{file}: a caption of picture {lacking!r}, which the file does not list; fetch it again")
    for number in sorted(captions):
        name = text(images[number], f"{file}, picture {number}")
        yield Captioned(root / "coco/val2017" / name, tuple(captions[number][:_FIVE]))


def flickr30k(root: Path) -> Iterator[Captioned]:
    """Flickr30k, Karpathy's test split: 1,000 pictures, five captions each; BLIP's list, or Karpathy's own file."""
    file = first_existing(*(root / name for name in ("flickr30k/flickr30k_test.json", *KARPATHY)))
    if starts_with(file, "{"):
        yield from _karpathy(file, root / "flickr30k/flickr30k-images")
        return
    for number, item in enumerate(read_list(file, "image", "caption")):
        where = f"{file}, entry {number}"
        listed = item["caption"] if isinstance(item["caption"], list) else [item["caption"]]
        captions = tuple(text(caption, where) for caption in listed)
        yield Captioned(root / "flickr30k" / text(item["image"], where), captions)


def _karpathy(file: Path, folder: Path) -> Iterator[Captioned]:
    """The test pictures of Karpathy's splits: ``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}``."""
    for number, item in enumerate(objects(read_object(file, "images"), "images", file)):
        where = f"{file}, picture {number}"
        item = entry(item, where, "filename", "split", "sentences")
        if item["split"] != "test":
            continue
        said = [entry(sentence, where, "raw")["raw"] for sentence in objects(item, "sentences", file)]
        captions = tuple(text(sentence, where) for sentence in said[:_FIVE])
        yield Captioned(folder / text(item["filename"], where), captions)


def sharegpt4v(root: Path) -> Iterator[Captioned]:
    """ShareGPT4V-1k: the first thousand entries of the 1.2 M; the file's start is read, not the whole."""
    file = root / "ShareGPT4V/share-captioner_coco_lcs_sam_1246k_1107.json"
    for number, item in enumerate(islice(read_list(file, "image", "conversations"), 1000)):
        turns = item["conversations"]
        if not isinstance(turns, list) or len(turns) < 2:
            raise Fgclip2Error(f"{file}, entry {number}: conversations has no answer, which is the caption")
        caption = text(entry(turns[1], f"{file}, entry {number}", "value")["value"], f"{file}, entry {number}")
        yield Captioned(root / "ShareGPT4V/data" / text(item["image"], f"{file}, entry {number}"), (caption,))


def dci(root: Path) -> Iterator[Captioned]:
    """DCI: all splits, 7,805 pictures; short caption, line break, extra caption."""
    folder = root / "densely_captioned_images"
    splits = read_json(folder / "splits.json")
    if not isinstance(splits, dict):
        raise Fgclip2Error(f"{folder / 'splits.json'} holds no splits; fetch it again")
    for name in (name for split in splits.values() for name in split):
        file = folder / "annotations" / name
        item = read_object(file, "image", "short_caption", "extra_caption")
        caption = text(f"{item['short_caption']}\n{item['extra_caption']}", str(file))
        yield Captioned(folder / "photos" / text(item["image"], str(file)), (caption,))


def lit_cn(root: Path) -> Iterator[Captioned]:
    """LIT-CN: 33,010 pairs."""
    folder = root / "LIT-CN"
    yield from tabbed(folder / "image_caption_long_cn.txt", [folder, folder / "images", root])


def dci_cn(root: Path) -> Iterator[Captioned]:
    """DCI-CN: the pictures of DCI, in DCI's folder or in its own."""
    folder = root / "DCI-CN"
    folders = [folder, root / "densely_captioned_images/photos", folder / "photos", folder / "images", root]
    yield from tabbed(folder / "image_caption_trans.txt", folders)


def docci_cn(root: Path) -> Iterator[Captioned]:
    """DOCCI-CN: the pictures of DOCCI, in DOCCI's folder or in its own."""
    folder = root / "DOCCI-CN"
    yield from tabbed(folder / "image_caption_trans.txt", [folder, root / "docci/images", folder / "images", root])


def flickr30k_cna(root: Path) -> Iterator[Captioned]:
    """Flickr30k-CNA: the test pictures of Flickr30k, captions translated by people."""
    file = root / "flickr30k_cna/flickr30k_cna_test.txt"
    pairs = ((f"{name.split('#')[0]}.jpg", caption) for name, caption in read_pairs(file))
    yield from _grouped(pairs, [root / "flickr30k/flickr30k-images"])


def coco_cn(root: Path) -> Iterator[Captioned]:
    """COCO-CN: 1,000 test pictures with five translated captions each; lines of other kinds are no captions of it."""
    folder = root / "coco-cn"
    file = first_existing(folder / "imageid.manually-translated-caption.txt", folder / "pair.txt")
    captions: dict[str, list[str]] = {}
    for number, line in read_lines(file):
        match = _COCO_CN.match(line)
        if match:
            split, image, caption = match.groups()
            name = f"{split}2014/COCO_{split}2014_{image}.jpg"
            captions.setdefault(name, []).append(text(caption, f"{file}, line {number}"))
    if not captions:
        raise Fgclip2Error(f"{file} has no line like 'COCO_val2014_000000000042#zhm#0 caption'; is it the right file?")
    for name, listed in captions.items():
        yield Captioned(root / "coco" / name, tuple(listed[:_FIVE]))


def tabbed(file: Path, folders: Sequence[Path]) -> Iterator[Captioned]:
    """Lines ``path<TAB>caption``; a picture is looked for in these folders, by its path in all and then by its name."""
    yield from _grouped(read_pairs(file), folders)


def read_pairs(file: Path) -> Iterator[tuple[str, str]]:
    """Names and captions of lines ``name<TAB>caption``.

    Raises:
        Fgclip2Error: the file is missing, or a line has no tab, name or caption.
    """
    for number, line in read_lines(file):
        name, tab, caption = line.partition("\t")
        if number == 1 and line.lstrip()[:1] in ("{", "["):
            start = line.lstrip()[:40]
            raise Fgclip2Error(
                f"{file} is JSON ({start!r}), such as COCO's captions or Karpathy's splits; wanted are lines "
                "of a picture's name, a tab and a caption"
            )
        if not tab:
            raise Fgclip2Error(f"{file}, line {number}: no tab between picture and caption ({line[:40]!r})")
        yield text(name, f"{file}, line {number}"), text(caption, f"{file}, line {number}")


def _grouped(pairs: Iterator[tuple[str, str]], folders: Sequence[Path]) -> Iterator[Captioned]:
    captions: dict[str, list[str]] = {}
    for name, caption in pairs:
        captions.setdefault(name, []).append(caption)
    for name, listed in captions.items():
        candidates = [folder / path for path in (name, Path(name).name) for folder in folders]
        yield Captioned(first_existing(*candidates), tuple(listed))

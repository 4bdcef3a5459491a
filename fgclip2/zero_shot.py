"""Boxes of transformers' zero-shot detectors, for fusion: MM-Grounding-DINO and LLMDet (the paper's), OWLv2, ..."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.names import spoken
from fgclip2.predictor import find_device
from fgclip2.vocabulary import CJK, check_names

if TYPE_CHECKING:
    from PIL import Image

_STOPS: Final = re.compile(r"[.?。？．]")
"""Ends of names in Grounding DINO's texts, and what tokenizers make them of."""


class ZeroShotProposals:
    """A zero-shot detector asked for things in its own language, English; what it calls them is not looked at.

    Grounding DINO's kind takes full stops and question marks for ends of names, so it is asked for "st bernard" where
    the name is "St. Bernard". Detectors that read all names in one prompt hold few (256 tokens in Grounding DINO), so
    names are asked for in several prompts; boxes that more than one of them finds are kept once.

    Args:
        detector: directory or hub id.
        names: what to ask for.
        device: ``auto`` takes CUDA when there is one; or what torch calls it.
        threshold: lowest score, 0..1.
        max_boxes: a picture, the best.
        names_per_prompt: names asked for together, at most.
        nms_iou: with several prompts, boxes that overlap a better one by more than this are the same.

    Raises:
        Fgclip2Error: no such detector, no names, a name longer than the detector reads, or numbers out of range.
    """

    def __init__(
        self,
        detector: str | os.PathLike[str],
        names: Sequence[str],
        device: str = "auto",
        threshold: float = 0.05,
        max_boxes: int = 300,
        names_per_prompt: int = 40,
        nms_iou: float = 0.7,
    ) -> None:
        if not (0 <= threshold < 1 and 0 < nms_iou <= 1 and min(max_boxes, names_per_prompt) >= 1):
            raise Fgclip2Error(
                f"threshold {threshold}, nms_iou {nms_iou}: give 0 to 1; max_boxes {max_boxes}, names_per_prompt "
                f"{names_per_prompt}: give 1 or more"
            )
        asked = check_names(names)
        chinese = [name for name in asked if CJK.search(name)]
        if chinese:
            raise Fgclip2Error(
                f"zero-shot detectors are asked in English, and {chinese[0]!r} is Chinese; ask for English names "
                "(--ask-for), what the boxes are called after that may be in any language"
            )
        self.processor, model = _load(os.fspath(detector))
        # Grounding DINO reads one text of all names, cut without a word where it is too long.
        self.prompts = _prompts(asked, names_per_prompt, self.processor.tokenizer, model.config)
        self.device = find_device(device)
        self.model = model.to(self.device).eval()
        self.threshold, self.max_boxes, self.nms_iou = threshold, max_boxes, nms_iou

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        """Boxes (M, 4) x1, y1, x2, y2 in pixels and scores (M,) 0..1 of every picture, best first."""
        # Together only what needs no padding, which detectors of this kind are not blind to.
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            members[image.size].append(index)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for indices in members.values():
            found |= zip(indices, self._find([images[index] for index in indices]), strict=True)
        return [found[index] for index in range(len(images))]

    def _find(self, images: list[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        sizes = [(image.height, image.width) for image in images]
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in images]
        for prompt in self.prompts:
            inputs = self.processor(images=images, text=[prompt] * len(images), return_tensors="pt", padding=True)
            outputs = self.model(**inputs.to(self.device))
            results = self.processor.post_process_grounded_object_detection(
                outputs, threshold=self.threshold, target_sizes=sizes
            )
            for own, result in zip(found, results, strict=True):
                own.append((result["boxes"].float().cpu(), result["scores"].float().cpu()))
        return [self._joined(parts) for parts in found]

    def _joined(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        from torchvision.ops import nms

        boxes, scores = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        kept = nms(boxes, scores, self.nms_iou) if len(parts) > 1 else scores.argsort(descending=True, stable=True)
        kept = kept[: self.max_boxes]
        return boxes[kept], scores[kept]


def _prompts(names: Sequence[str], most: int, tokenizer: Any, config: Any) -> list[list[str]]:
    """Names in groups of at most ``most``, and of no more tokens than the model reads where it reads them as one.

    Raises:
        Fgclip2Error: names with nothing to ask for, or longer than the model reads.
    """
    limit = getattr(config, "max_text_len", None)
    worded = list(dict.fromkeys(spoken(name).strip() for name in names))  # "traffic_light" is read as blanks
    asked = worded if limit is None else _without_stops(worded)
    lengths = [len(tokenizer(name if limit is None else f"{name}.")["input_ids"]) for name in asked]
    read = getattr(getattr(config, "text_config", None), "max_position_embeddings", None)
    longest = min((number for number in (limit, read) if number is not None), default=None)
    long = [(name, length) for name, length in zip(asked, lengths, strict=True) if longest and length > longest]
    if long:
        name, length = long[0]
        raise Fgclip2Error(
            f"{len(long)} of {len(asked)} names are longer than the detector reads, such as {name!r:.60} ({length} "
            f"tokens, at most {longest}); ask for something shorter (--ask-for)"
        )
    prompts: list[list[str]] = []
    used = 0
    for name, tokens in zip(asked, lengths, strict=True):  # with begin and end, so rather too many
        full = limit is not None and used + tokens > limit
        if not prompts or len(prompts[-1]) == most or full:
            prompts.append([])
            used = 0
        prompts[-1].append(name)
        used += tokens
    return prompts


def _without_stops(names: Sequence[str]) -> list[str]:
    """Names as Grounding DINO reads them, each once: it ends a name at a full stop or question mark.

    A name that keeps its stop would even make transformers' processor tokenize the first two names as a pair.
    """
    plain = [" ".join(_STOPS.sub(" ", name).lower().split()) for name in names]
    empty = [name for name, left in zip(names, plain, strict=True) if not left]
    if empty:
        raise Fgclip2Error(f"the name {empty[0]!r} has no word to ask a detector for; leave it out")
    return list(dict.fromkeys(plain))


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name), AutoModelForZeroShotObjectDetection.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise Fgclip2Error(
            f"{name!r} is no zero-shot detector that transformers can load ({reason}); give a directory or hub id such "
            "as one of MM-Grounding-DINO, LLMDet or OWLv2"
        ) from error

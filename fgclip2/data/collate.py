"""Samples to the tensors of one training step: patches of one length, every distinct text once, indices for the rest.

This runs in the loader's workers. Pictures stay bytes until ``TrainBatch.to`` puts them on the device as the numbers
the model takes, so that only a quarter of the memory is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fgclip2.data.failures import Failure
from fgclip2.data.records import Language
from fgclip2.data.samples import Sample, SampleRegion, TextShares, TrainingDataset
from fgclip2.errors import Fgclip2Error
from fgclip2.processing import Processor

__all__ = ["Collator", "TextShares", "TrainBatch", "TrainingDataset"]


@dataclass(frozen=True)
class TrainBatch:
    """One rank's part of one step: B pictures, T short and S long distinct texts, M regions.

    Attributes:
        patches: ``(B, N, 768)``: uint8 as collated; after ``to``, float32 in -1..1, and 0 where padded.
        mask: bool ``(B, N)``, True for real patches; None when nothing is padded.
        grids: int64 ``(B, 2)``: rows and columns of patches; stays on the CPU, where its values are read.
        texts: int64 ``(T, L)``: token ids of the distinct short and region texts.
        long_texts: int64 ``(S, L_long)``: those of the distinct long captions.
        short_of: int64 ``(P,)``: pictures with a short caption.
        short: int64 ``(P,)``: those captions, rows of ``texts``.
        long_of: int64 ``(n,)``: pictures with a long caption.
        long: int64 ``(n,)``: those captions, rows of ``long_texts``.
        boxes: float32 ``(M, 5)``: picture, then x1, y1, x2, y2 in 0..1.
        labels: int64 ``(M,)``: class of each region, -1 unknown.
        text_of: int64 ``(R,)``: regions with a text.
        region_text: int64 ``(R,)``: those texts, rows of ``texts``.
        bare: bool ``(R,)``: that text is the bare class name.
        hard_of: int64 ``(H,)``: regions with hard negatives or contrasts, as often as they have such sets of texts.
        hard_text: int64 ``(H, 1 + K)``: their texts, rows of ``texts``, the true one first; 0 beyond ``hard_mask``.
        hard_mask: bool ``(H, 1 + K)``: which of those exist.
        hard_picture: int64 ``(Q,)``: pictures with hard captions or contrasts, likewise.
        hard_caption: int64 ``(Q, 1 + J)``: their captions, rows of ``texts``, the true one first; 0 beyond
            ``hard_caption_mask``.
        hard_caption_mask: bool ``(Q, 1 + J)``: which of those exist.
        also_true: bool ``(R, R)``: the text j may describe region ``text_of[i]`` too; False on the diagonal.
        language: of all texts; ``"en"`` when the batch is empty.
        failures: samples left out.
        cut: distinct texts that were too long and lost their ends.
        names: of the B records.
        left_out: parts of these that are left out, such as a region.
    """

    patches: Tensor
    mask: Tensor | None
    grids: Tensor
    texts: Tensor
    long_texts: Tensor
    short_of: Tensor
    short: Tensor
    long_of: Tensor
    long: Tensor
    boxes: Tensor
    labels: Tensor
    text_of: Tensor
    region_text: Tensor
    bare: Tensor
    hard_of: Tensor
    hard_text: Tensor
    hard_mask: Tensor
    hard_picture: Tensor
    hard_caption: Tensor
    hard_caption_mask: Tensor
    also_true: Tensor
    language: Language
    failures: tuple[Failure, ...]
    cut: int
    names: tuple[str, ...] = ()
    left_out: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.grids)

    @property
    def seen(self) -> int:
        """Number of samples asked for: pictures and failures."""
        return len(self) + len(self.failures)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TrainBatch:
        """The batch on a device, its patches as the model takes them; bit-equal to the image processor's."""
        moved = replace(self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking)), grids=self.grids)
        if moved.patches.dtype != torch.uint8:
            return moved
        values = moved.patches.div(127.5).sub_(1)  # (x / 255 - 0.5) / 0.5 in fewer passes, rounded the same
        if moved.mask is not None:
            values.masked_fill_(~moved.mask[..., None], 0)
        return replace(moved, patches=values)

    def pin_memory(self) -> TrainBatch:
        """The batch in page-locked memory; ``DataLoader(pin_memory=True)`` calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrainBatch:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed: dict[str, Any] = {name: change(v) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


class Collator:
    """Samples of one language to a ``TrainBatch``; ``collate_fn`` of a ``DataLoader``.

    Pictures are resized to the bucket of the largest, or to ``max_patches`` patches when given, and padded to the
    largest grid only. An array whose sides are multiples of the patch size is taken as it is, unless ``max_patches`` is
    given: composed scenes need no resizing.

    The bucket is that of the pictures *of one rank*. For the same numbers on any number of ranks give ``max_patches``.

    Args:
        processor: of the model that is trained.
        max_patches: patches a picture, 1 to 16,384; None as above.
    """

    def __init__(self, processor: Processor, max_patches: int | None = None) -> None:
        self.processor, self.max_patches = processor, max_patches

    def __call__(self, samples: Sequence[Sample | Failure]) -> TrainBatch:
        """Collate; samples that failed are left out and listed.

        Raises:
            Fgclip2Error: the samples are of both languages.
        """
        failures = tuple(sample for sample in samples if isinstance(sample, Failure))
        kept = [sample for sample in samples if isinstance(sample, Sample)]
        languages = {sample.language for sample in samples}
        if len(languages) > 1:
            raise Fgclip2Error("a batch holds both English and Chinese samples; draw batches with LanguageBatchSampler")
        patches, mask, grids = self._patches([sample.image for sample in kept])
        texts, long_texts = _Distinct(), _Distinct()
        regions = [(row, region) for row, sample in enumerate(kept) for region in sample.regions]
        said = [(row, texts.add(region.text)) for row, (_, region) in enumerate(regions) if region.text is not None]
        described = [regions[row][1] for row, _ in said]
        hard = [(row, list(map(texts.add, each))) for row, (_, region) in enumerate(regions) for each in region.hard]
        hard_captions = [(row, list(map(texts.add, each))) for row, sample in enumerate(kept) for each in sample.hard]
        short = [(row, texts.add(sample.short)) for row, sample in enumerate(kept) if sample.short is not None]
        long = [(row, long_texts.add(sample.long)) for row, sample in enumerate(kept) if sample.long is not None]
        hard_text, hard_mask = _ragged([row for _, row in hard])
        hard_caption, hard_caption_mask = _ragged([row for _, row in hard_captions])
        ids, cut = self.processor.text.encode(texts, "short")
        long_ids, long_cut = self.processor.text.encode(long_texts, "long")
        return TrainBatch(
            patches=patches,
            mask=mask,
            grids=grids,
            texts=ids,
            long_texts=long_ids,
            cut=len(cut) + len(long_cut),
            short_of=_integers([row for row, _ in short]),
            short=_integers([text for _, text in short]),
            long_of=_integers([row for row, _ in long]),
            long=_integers([text for _, text in long]),
            boxes=_boxes(regions),
            labels=_integers([region.label for _, region in regions]),
            text_of=_integers([row for row, _ in said]),
            region_text=_integers([text for _, text in said]),
            bare=torch.tensor([region.bare for region in described], dtype=torch.bool),
            hard_of=_integers([row for row, _ in hard]),
            hard_text=hard_text,
            hard_mask=hard_mask,
            hard_picture=_integers([row for row, _ in hard_captions]),
            hard_caption=hard_caption,
            hard_caption_mask=hard_caption_mask,
            also_true=_also_true(described, [text for _, text in said]),
            language=languages.pop() if languages else "en",
            failures=failures,
            names=tuple(sample.name for sample in kept),
            left_out=tuple(
                Failure(sample.name, reason, sample.language) for sample in kept for reason in sample.left_out
            ),
        )

    def _patches(self, images: Sequence[Image.Image | np.ndarray]) -> tuple[Tensor, Tensor | None, Tensor]:
        """uint8 ``(B, N, 3 * patch * patch)``, mask or None, grids."""
        size = self.processor.image.patch_size
        grids = [self._own_grid(image) for image in images]
        opened = {
            k: Image.fromarray(image) if isinstance(image, np.ndarray) else image
            for k, (image, grid) in enumerate(zip(images, grids, strict=True))
            if grid is None
        }
        cut: dict[int, np.ndarray] = {}
        if opened:
            budget = self.processor.image.budget(list(opened.values()), self.max_patches)
            for k, picture in opened.items():
                cut[k], grids[k] = self.processor.image.patches(picture, budget)
        shapes = _integers([grid for grid in grids if grid is not None]).reshape(-1, 2)
        counts = shapes.prod(1)
        length = int(counts.max()) if len(counts) else 1
        padded = bool((counts < length).any())
        values = (np.zeros if padded else np.empty)((len(images), length, 3 * size * size), np.uint8)
        for k, ((rows, columns), image) in enumerate(zip(shapes.tolist(), images, strict=True)):
            target = values[k, : rows * columns]
            if k in cut:
                target[:] = cut[k]
                continue
            # The lines of a patch are moved whole, as items of 48 bytes: four times as fast as byte by byte.
            line = np.dtype(f"V{3 * size}")
            lines = np.ascontiguousarray(image).reshape(-1).view(line).reshape(rows, size, columns)
            target.view(line).reshape(rows, columns, size)[:] = lines.transpose(0, 2, 1)
        mask = counts[:, None] > torch.arange(length) if padded else None
        return torch.from_numpy(values), mask, shapes

    def _own_grid(self, image: Image.Image | np.ndarray) -> tuple[int, int] | None:
        """Rows and columns of a picture that needs no resizing."""
        if self.max_patches is not None or not isinstance(image, np.ndarray):
            return None
        size = self.processor.image.patch_size
        (rows, below), (columns, beside) = divmod(image.shape[0], size), divmod(image.shape[1], size)
        return None if below or beside else (rows, columns)


class _Distinct(dict[str, int]):
    """Texts, lower-cased as the model reads them, and their rows."""

    def add(self, text: str) -> int:
        return self.setdefault(text.lower(), len(self))


def _integers(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _ragged(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """int64 ``(n, w)`` with 0 beyond each row's end, and bool ``(n, w)``, False there; w is at least 2."""
    width = max(map(len, rows), default=2)
    values = _integers([row + [0] * (width - len(row)) for row in rows]).reshape(-1, width)
    return values, _integers([len(row) for row in rows])[:, None] > torch.arange(width)


def _boxes(regions: Sequence[tuple[int, SampleRegion]]) -> Tensor:
    boxes = torch.tensor([[row, *region.box] for row, region in regions], dtype=torch.float32).reshape(-1, 5)
    boxes[:, 1:].clamp_(0, 1)  # records allow for rounding
    return boxes


def _also_true(regions: Sequence[SampleRegion], text: Sequence[int]) -> Tensor:
    """Bool ``(M, M)``: the text of j is the text of i, or the facts of i admit it."""
    rows = np.array(text, np.int64)
    result = rows[:, None] == rows[None]
    np.fill_diagonal(result, False)
    groups: dict[int, list[int]] = {}
    for k, region in enumerate(regions):
        if region.facts is not None:
            groups.setdefault(region.facts.key, []).append(k)
    for group in groups.values():
        for i, j in permutations(group, 2):
            mine, other = regions[i].facts, regions[j].facts
            if mine is not None and mine.admits(other, regions[j].bare):
                result[i, j] = True
    return torch.from_numpy(result)

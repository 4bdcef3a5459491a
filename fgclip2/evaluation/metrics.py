"""The protocols as functions of features and scores: what is right, per query; and intervals for means of that.

Everything returns one outcome a query, never a mean, so that nothing leaves the denominator, and results can be broken
down and resampled. A query whose picture or box could not be used is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.errors import Fgclip2Error

Ties = Literal["wrong", "right", "last"]
"""Who comes first of a right candidate and a wrong one that scores the same: the wrong one, the right one, or whichever
stands later in the list, as ``argsort()[-k:]`` takes them."""

Interval: TypeAlias = tuple[float, float]
_NEVER: Final = torch.iinfo(torch.int64).max
"""Rank of what cannot be found."""


def retrieval_ranks(
    image: Tensor,
    text: Tensor,
    owner: Tensor,
    usable: Tensor | None = None,
    ties: Ties = "wrong",
    chunk_size: int = 1024,
) -> tuple[Tensor, Tensor]:
    """How many wrong candidates come before the first right one, in both directions.

    Args:
        image: (N, D), unit length.
        text: (T, D), unit length, ``short`` or ``long``.
        owner: (T,) int64, which picture a text is true of; every picture has at least one.
        usable: (N,) bool, pictures that could be read. The others are in no gallery, and queries by them or for them
            are never answered.
        ties: of a right and a wrong candidate; texts and pictures stand in the order in which they are given.
        chunk_size: queries at a time.

    Returns:
        Image to text (N,) and text to image (T,), int64; R@k is the share below k.

    Raises:
        Fgclip2Error: shapes do not fit, or a picture has no text.
    """
    count = len(image)
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1] or owner.shape != (len(text),):
        raise Fgclip2Error(
            f"images {tuple(image.shape)}, texts {tuple(text.shape)}, owners {tuple(owner.shape)}; "
            "give (N, D), (T, D), (T,)"
        )
    if count and (len(owner) == 0 or int(owner.min()) < 0 or len(owner.unique()) != count or int(owner.max()) >= count):
        raise Fgclip2Error(f"owners must name every one of the {count} pictures, 0 to {count - 1}, at least once")
    readable = torch.ones(count, dtype=torch.bool, device=image.device) if usable is None else usable
    to_text, to_image = [], []
    for start in range(0, count, chunk_size):
        rows = torch.arange(start, min(start + chunk_size, count), device=image.device)
        scores, own = image[rows] @ text.T, owner[None] == rows[:, None]
        ours = scores.masked_fill(~own, -torch.inf)
        best = ours.amax(1, keepdim=True)
        place = torch.arange(len(text), device=image.device)
        at = place.where(ours == best, -1).amax(1, keepdim=True)  # the last of the best right ones
        rank = _before(scores.masked_fill(own, -torch.inf), best, ties, place[None] > at)
        to_text.append(rank.masked_fill(~readable[rows], _NEVER))
    for start in range(0, len(text), chunk_size):
        rows = owner[start : start + chunk_size]
        scores = (text[start : start + chunk_size] @ image.T).masked_fill(~readable[None], -torch.inf)
        right = scores.gather(1, rows[:, None])
        later = torch.arange(count, device=image.device)[None] > rows[:, None]
        rank = _before(scores.scatter(1, rows[:, None], -torch.inf), right, ties, later)
        to_image.append(rank.masked_fill(~readable[rows], _NEVER))
    empty = owner.new_zeros(0)
    return torch.cat([empty, *to_text]), torch.cat([empty, *to_image])


def choice_ranks(scores: Tensor, ties: Literal["wrong", "right"] = "wrong") -> Tensor:
    """How many false texts score above the true one.

    Args:
        scores: (M, 1 + K), the true text's first; -inf where a record has fewer false texts, NaN throughout a row that
            could not be scored.
        ties: of the true text and a false one.

    Returns:
        (M,) int64; 0 is right.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise Fgclip2Error(f"scores of shape {tuple(scores.shape)}; give (M, 1 + K), the true text's first")
    rank = _before(scores[:, 1:], scores[:, :1], ties)
    return rank.masked_fill(scores[:, 0].isnan(), _NEVER)


def class_ranks(
    features: Tensor, classes: Tensor, labels: Tensor, usable: Tensor | None = None, chunk_size: int = 4096
) -> Tensor:
    """How many classes come before the right one; of classes with equal scores the one of the lower number comes first.

    Lists of class names repeat some ("missile" and "sunglasses" stand twice among ImageNet's in common use). The
    vectors of such classes are equal; here so are their scores, and the first of them wins, as ``argmax`` has it. Where
    a wrong class always won, both could be found by rounding only.

    Args:
        features: (M, D) of pictures or regions, unit length.
        classes: (C, D), unit length.
        labels: (M,) int64, 0..C-1.
        usable: (M,) bool.
        chunk_size: rows at a time.

    Returns:
        (M,) int64; top-k is the share below k.

    Raises:
        Fgclip2Error: lengths do not fit, or a label is no class.
    """
    if len(features) != len(labels) or (len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes)):
        raise Fgclip2Error(f"{len(labels)} labels for {len(features)} features and {len(classes)} classes")
    ranks = [labels.new_zeros(0)]
    distinct, column = classes.unique(dim=0, return_inverse=True)  # a product may give equal columns other last digits
    number = torch.arange(len(classes), device=labels.device)
    for start in range(0, len(features), chunk_size):
        label = labels[start : start + chunk_size, None]
        scores = (features[start : start + chunk_size] @ distinct.T)[:, column]
        right = scores.gather(1, label)
        ranks.append(((scores > right) | ((scores == right) & (number[None] < label))).sum(1))
    joined = torch.cat(ranks)
    return joined if usable is None else joined.masked_fill(~usable, _NEVER)


def _before(wrong: Tensor, right: Tensor, ties: Ties, later: Tensor | None = None) -> Tensor:
    """How many wrong candidates (M, K), -inf for none, come before the right one (M, 1); ``later`` stand after it."""
    if ties == "right":
        return (wrong > right).sum(1)
    equal = (wrong == right) & (wrong > -torch.inf)
    return ((wrong > right) | (equal if later is None or ties == "wrong" else equal & later)).sum(1)


def ensemble(prompts: Tensor, templates: int) -> Tensor:
    """Class embeddings: the mean over templates, of unit length.

    Args:
        prompts: (C * templates, D), unit length, the templates of a class together.
        templates: how many a class.

    Returns:
        (C, D).
    """
    return F.normalize(prompts.unflatten(0, (-1, templates)).mean(1), dim=-1)


def label_counts(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of one picture by class: rightly found, true, and predicted.

    Args:
        prediction: (H, W) class numbers; any other value is no class.
        truth: (H, W) class numbers; pixels of any other value are not judged.
        classes: C.

    Returns:
        (3, C) int64.
    """
    if prediction.shape != truth.shape:
        raise Fgclip2Error(f"a predicted label map of shape {prediction.shape} for a true one of {truth.shape}")
    judged = (truth >= 0) & (truth < classes)
    given, true = prediction[judged].astype(np.int64), truth[judged].astype(np.int64)
    named = given[(given >= 0) & (given < classes)]
    parts = (true[given == true], true, named)
    return np.stack([np.bincount(part, minlength=classes) for part in parts]).astype(np.int64)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Mean intersection over union, in percent, over the classes that occur in the truth.

    Args:
        counts: (..., 3, C), sums of ``label_counts``.

    Returns:
        (...); NaN where no class occurs.
    """
    return 100 * _nanmean(class_iou(counts))


def class_iou(counts: np.ndarray) -> np.ndarray:
    """(..., 3, C) sums of ``label_counts`` to (..., C) shares; NaN for classes that do not occur in the truth."""
    found, true, given = (counts[..., row, :].astype(np.float64) for row in range(3))
    union = true + given - found
    return np.where(true > 0, found / np.maximum(union, 1), np.nan)


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2; 0 when either has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    if min(width, height, *areas) <= 0:
        return 0.0
    return width * height / (sum(areas) - width * height)


def _nanmean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], units: int, samples: int = 1000, seed: int = 0
) -> Interval | None:
    """95 % percentile interval of a statistic when units are drawn again with replacement.

    Args:
        statistic: weights (B, units), how often each unit was drawn, to B values.
        units: how many there are: pictures, so that what is asked of one picture stays together.
        samples: drawings.
        seed: of the drawings.

    Returns:
        Lower and upper bound; ``None`` for fewer than two units.
    """
    if units < 2:
        return None
    rng = np.random.default_rng(seed)
    share = max(1, 4_000_000 // units)  # drawings at a time
    parts = []
    for start in range(0, samples, share):
        draws = rng.integers(0, units, (min(share, samples - start), units))
        weights = np.stack([np.bincount(row, minlength=units) for row in draws])
        parts.append(statistic(weights))
    low, high = np.nanpercentile(np.concatenate(parts), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(values: np.ndarray, unit: np.ndarray, samples: int = 1000, seed: int = 0) -> Interval | None:
    """``bootstrap`` of the mean of ``values`` (M,), where ``unit`` (M,) says which picture a value belongs to."""
    _, index = np.unique(unit, return_inverse=True)
    units = int(index.max()) + 1 if len(index) else 0
    total = np.bincount(index, weights=values, minlength=units)
    count = np.bincount(index, minlength=units)
    return bootstrap(lambda weights: (weights @ total) / (weights @ count), units, samples, seed)

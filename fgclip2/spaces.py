"""Embeddings that know the space they live in, so that a product across the two spaces is an error.

Whole images and ``short`` and ``long`` texts share one space, regions, dense maps and ``box`` texts the other. Cosines
across the two are meaningless but look plausible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.processing import TextKind

Space: TypeAlias = Literal["image", "region"]

# What returns the same embeddings, some of them, or them scaled, and so keeps their space. Everything else (scores,
# sums, ...) becomes a plain tensor.
_KEEPS: Final = frozenset(
    {
        *(Tensor.__getitem__, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.index_select, torch.index_select),
        *(Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double),
        *(Tensor.T.__get__, Tensor.mT.__get__, Tensor.t, torch.t, Tensor.transpose, torch.transpose, Tensor.permute),  # type: ignore[attr-defined]
        *(Tensor.unsqueeze, torch.unsqueeze, Tensor.squeeze, torch.squeeze, Tensor.flatten, torch.flatten),
        *(Tensor.view, Tensor.reshape, torch.reshape, Tensor.expand, Tensor.repeat, Tensor.repeat_interleave),
        *(F.normalize, Tensor.div, Tensor.__truediv__, torch.div),
        *(Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.mul),
        *(Tensor.__iter__, Tensor.split, torch.split, Tensor.chunk, torch.chunk, Tensor.unbind, torch.unbind),
    }
)
_JOINS: Final = frozenset({torch.cat, torch.concat, torch.stack, torch.vstack, torch.concatenate})
_PRODUCTS: Final = frozenset(
    {
        *(Tensor.__matmul__, Tensor.__rmatmul__, Tensor.matmul, torch.matmul, Tensor.mm, torch.mm, Tensor.mv, torch.mv),
        *(Tensor.bmm, torch.bmm, Tensor.dot, torch.dot, Tensor.inner, torch.inner, Tensor.vdot, torch.vdot),
        *(Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.mul, torch.multiply, Tensor.multiply),
        *(torch.einsum, torch.tensordot, torch.cdist, torch.baddbmm, torch.addmm, Tensor.addmm, Tensor.baddbmm),
        *(F.linear, F.cosine_similarity, F.pairwise_distance, torch.nn.functional.bilinear),
        *(torch.cosine_similarity, torch.pairwise_distance),
    }
)


class Features(Tensor):
    """Embeddings (..., D) that remember their ``space``: ``"image"`` or ``"region"``.

    An ordinary tensor in every other way: slices, copies, transposes and scaled embeddings keep the space, sums and
    scores are plain tensors, and pickling or ``torch.save`` stores a plain tensor. A product with embeddings of the
    other space is refused; a plain tensor is taken at its word.

    Example:
        >>> import numpy as np, fgclip2
        >>> model = fgclip2.load("tiny")
        >>> image = model.image_features(np.zeros((64, 64, 3), np.uint8))
        >>> (image @ model.text_features("a red car", kind="short").T).shape
        torch.Size([1, 1])
        >>> image @ model.text_features("a red car", kind="box").T
        Traceback (most recent call last):
        fgclip2.errors.Fgclip2Error: ...
    """

    space: Space

    @classmethod
    def _like(cls, features: Tensor, other: Features) -> Self:
        marked = features.as_subclass(cls)
        marked.__dict__.update(other.__dict__)
        return marked

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _PRODUCTS:
            check_same_space(*_features(args), *_features((kwargs or {}).values()))
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            kept = _kept(func, args)
            if kept is None:
                return plain(result) if isinstance(result, Features) else result
            if isinstance(result, Tensor):
                return kept._like(result, kept)
            parts = [kept._like(part, kept) for part in result]
            return iter(parts) if func == Tensor.__iter__ else tuple(parts)

    def __deepcopy__(self, memo: Any) -> Self:
        return self.clone()  # type: ignore[return-value]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Or torch.load(weights_only=True) would refuse what a user saved, for the sake of this class's name.
        return self.as_subclass(Tensor).__reduce_ex__(protocol)


class ImageFeatures(Features):
    """Embeddings (N, D) of whole images; they pair with ``short`` and ``long`` texts."""

    space: Space = "image"


class RegionFeatures(Features):
    """Embeddings (..., D) of regions or patches; they pair with ``box`` texts."""

    space: Space = "region"


class TextFeatures(Features):
    """Text embeddings (T, D) that remember their head in ``kind``: ``"short"``, ``"long"`` or ``"box"``."""

    kind: TextKind

    @classmethod
    def of(cls, features: Tensor, kind: TextKind) -> TextFeatures:
        """Mark ``features`` (T, D) as coming from head ``kind``; shares their memory."""
        marked = features.as_subclass(cls)
        marked.kind = kind
        marked.space = "region" if kind == "box" else "image"
        return marked


def plain(features: Tensor) -> Tensor:
    """The same numbers without their space."""
    return features.as_subclass(Tensor)


def check_same_space(*features: Tensor) -> None:
    """Check that embeddings can be compared; plain tensors are taken at their word.

    Raises:
        Fgclip2Error: they live in two spaces.
    """
    spaces = {item.space: item for item in features if isinstance(item, Features) and hasattr(item, "space")}
    if len(spaces) > 1:
        raise Fgclip2Error(
            f"{' and '.join(map(_described, spaces.values()))} live in two spaces, and their cosines mean nothing: "
            "image_features pair with text_features(texts, kind='short') or 'long', region and dense features with "
            "text_features(texts, kind='box')"
        )


def _features(values: Iterable[Any]) -> Iterator[Features]:
    """All features among the arguments of a function, those in lists too."""
    for value in values:
        if isinstance(value, Features):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _features(value)


def _kept(func: Callable[..., Any], args: tuple[Any, ...]) -> Features | None:
    """Features whose kind the result of a function has, or ``None`` where it is no embedding."""
    if func in _KEEPS:
        found = list(_features(args))
        # The product of two is no embedding; a class that torch itself has made of another has no kind yet.
        return found[0] if len(found) == 1 and hasattr(found[0], "space") else None
    if func in _JOINS and args and isinstance(args[0], (list, tuple)):
        kinds = {(type(item), getattr(item, "kind", None)) for item in args[0]}
        first = args[0][0]
        return first if len(kinds) == 1 and isinstance(first, Features) else None
    return None


def _described(features: Features) -> str:
    kind = getattr(features, "kind", None)
    return f"{features.space} features" if kind is None else f"text features of kind {kind!r}"

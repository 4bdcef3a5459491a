"""A stand-in for ``mmcv._ext``, mmcv's compiled extension, served by torchvision and plain torch.

``pip install onedl-mmcv`` installs pure Python without the extension, and importing ``mmcv.ops`` then fails. Compiling
it takes minutes and a toolchain. Detectors of this toolkit, and most of mmdetection's, need only the operations below.
An operation without stand-in raises when it is *called*, naming itself and the way to compile mmcv.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NoReturn

import torch
import torchvision
from torch import Tensor

from fgclip2.errors import Fgclip2Error

EXTENSION: Final = "mmcv._ext"
_HOW_TO_COMPILE: Final = (
    "pip install --no-binary onedl-mmcv --no-build-isolation --force-reinstall --no-deps onedl-mmcv"
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        iou_threshold: boxes that overlap a better one by more than this are dropped.
        offset: 0, or 1 when the right and bottom edges belong to the box (widths are ``x2 - x1 + 1``).

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    return torchvision.ops.nms(boxes.float(), scores.float(), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017): overlapping boxes lose score instead of being dropped.

    Args:
        boxes: (N, 4) xyxy on the CPU.
        scores: (N,).
        dets: (N, 5) output; its first K rows become the kept boxes with their new scores, best first.
        iou_threshold: overlap from which methods 0 and 1 act.
        sigma: width of the Gaussian of method 2.
        min_score: boxes falling below it are dropped.
        method: 0 drop (plain NMS), 1 linear ``1 - iou``, 2 Gaussian ``exp(-iou^2 / sigma)``.
        offset: see `nms`.

    Returns:
        (K,) int64 indices of the kept boxes in the input.
    """
    corner = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    left = scores.clone()
    alive = torch.ones_like(left, dtype=torch.bool)
    kept: list[int] = []
    while bool(alive.any()):
        best = int(torch.where(alive, left, left.new_tensor(-torch.inf)).argmax())
        dets[len(kept), :4] = boxes[best]
        dets[len(kept), 4] = left[best]
        kept.append(best)
        alive[best] = False
        iou = torchvision.ops.box_iou(corner[best : best + 1], corner)[0]
        if method == 2:
            decay = torch.exp(-(iou**2) / sigma)
        else:
            softened = 1 - iou if method == 1 else torch.zeros_like(iou)
            decay = torch.where(iou >= iou_threshold, softened, torch.ones_like(iou))
        left = torch.where(alive, left * decay, left)
        alive &= left >= min_score
    return torch.tensor(kept, dtype=torch.long)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy suppression that remembers who was suppressed by whom.

    Args:
        dets: (N, 5) xyxy and score.
        iou_threshold: overlap from which a box joins the better one's group.

    Returns:
        Groups of indices; each starts with the kept box, then its suppressed ones by falling score.
    """
    order = dets[:, 4].argsort(descending=True).tolist()
    overlap = torchvision.ops.box_iou(dets[:, :4], dets[:, :4])
    groups: list[list[int]] = []
    while order:
        best, *rest = order
        groups.append([best, *(i for i in rest if overlap[best, i] >= iou_threshold)])
        order = [i for i in rest if overlap[best, i] < iou_threshold]
    return groups


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign by averaging, written into ``output``: (N, C, H, W), rois (R, 5) -> (R, C, h, w)."""
    if pool_mode != 1:
        raise _missing("roi_align_forward with pool_mode='max'")
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward` with respect to the features, written into ``grad_input`` (N, C, H, W)."""
    if pool_mode != 1:
        raise _missing("roi_align_backward with pool_mode='max'")
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
    )
    grad_input.copy_(gradient)


def sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Focal loss (Lin et al. 2017) of every logit: (N, C), targets (N,) in 0..C with C for background -> (N, C)."""
    output.copy_(_focal_loss(logits, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Gradient of `sigmoid_focal_loss_forward` with respect to the logits, written into ``grad_input`` (N, C)."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_focal_loss(leaf, target, weight, gamma, alpha).sum(), leaf)
    grad_input.copy_(gradient)


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    positive = target[:, None] == torch.arange(logits.shape[1], device=target.device)
    log_p = torch.where(positive, torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits))
    balance = torch.where(positive, alpha, 1 - alpha)
    loss = -balance * (1 - log_p.exp()) ** gamma * log_p
    if weight.numel():
        # mmcv's kernel weighs a row by the class it belongs to; background rows keep weight 1
        padded = torch.cat((weight, weight.new_ones(1)))
        loss = loss * padded[target][:, None]
    return loss


SERVED: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (
        nms,
        softnms,
        nms_match,
        roi_align_forward,
        roi_align_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
    )
}


def _missing(op: str) -> Fgclip2Error:
    return Fgclip2Error(
        f"mmcv op {op!r} needs a compiled mmcv, and the stand-in of fgclip2_mmdet does not serve it "
        f"(it serves {', '.join(SERVED)}); compile mmcv with a C++20 compiler: {_HOW_TO_COMPILE}"
    )


class _Extension(ModuleType):
    """Module in which every name exists, because mmcv checks them at import; unserved ones raise when called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def unserved(*args: Any, **kwargs: Any) -> NoReturn:
            raise _missing(name)

        unserved.__name__ = name
        return unserved


def is_standin() -> bool:
    """Whether ``mmcv._ext`` is this module's stand-in, not a compiled extension."""
    return isinstance(sys.modules.get(EXTENSION), _Extension)


def install() -> bool:
    """Provide ``mmcv._ext`` unless a compiled one can be imported; safe to call again.

    Returns:
        True when the stand-in is in use, False when mmcv is really compiled.
    """
    if is_standin():
        return True
    try:
        importlib.import_module(EXTENSION)
        return False
    except ImportError as error:
        if importlib.util.find_spec(EXTENSION) is not None:
            warnings.warn(f"the compiled mmcv cannot be loaded ({error}); using torchvision's operations", stacklevel=2)
    extension = _Extension(EXTENSION, "Stand-in of fgclip2_mmdet for mmcv's compiled operations.")
    extension.__spec__ = importlib.machinery.ModuleSpec(EXTENSION, loader=None)
    for name, function in SERVED.items():
        setattr(extension, name, function)
    sys.modules[EXTENSION] = extension
    vars(importlib.import_module("mmcv"))["_ext"] = extension
    _rebind_fallbacks()
    return True


def _rebind_fallbacks() -> None:
    """Give mmdet modules imported earlier the real ``mmcv.ops`` names in place of their raising placeholders."""
    loaded = [m for name, m in list(sys.modules.items()) if name.startswith("mmdet.") and m is not None]
    if not loaded:
        return
    ops = importlib.import_module("mmcv.ops")
    for module in loaded:
        for name, value in list(vars(module).items()):
            if name in ops.__all__ and getattr(value, "__module__", "") == module.__name__:
                setattr(module, name, getattr(ops, name))

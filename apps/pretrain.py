"""Train FG-CLIP 2 in two stages, or fine-tune it on your own data.

    python apps/pretrain.py --scenes 400 --steps 20                       # the embedded model and world, to see it run
    python apps/pretrain.py --data my.jsonl --model qihoo360/fg-clip2-base --stage 2 --lora.rank 16
    torchrun --nproc-per-node 8 apps/pretrain.py --data finehard.json --siglip2 google/siglip2-base-patch16-naflex \\
        --batch.size 4096 --gradient-checkpointing

The model ends up in --out/model and loads with fgclip2.load(). Stopped by SIGTERM or killed, --resume continues.
"""

from __future__ import annotations

import sys

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.train.arguments import TrainArguments


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: parse(TrainArguments, description=__doc__).run())


if __name__ == "__main__":
    sys.exit(main())

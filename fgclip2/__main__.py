"""``python -m fgclip2`` is the command ``fgclip2``."""

import sys

from fgclip2.cli import main

if __name__ == "__main__":
    sys.exit(main())

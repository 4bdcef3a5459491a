"""A benchmark like LIT-CN or BoxClass-CN from your own pictures.

    python apps/build_benchmark.py --captions pairs.txt --image-root photos --out my-bench
    python apps/build_benchmark.py --boxes instances.json --image-root photos --merge merge.json --out my-bench

pairs.txt has lines PICTURE<TAB>CAPTION; instances.json is COCO-style; merge.json maps category names to the names that
they count as, or to "" to leave them out. What does not pass the checks (length, language, repetitions, boxes, pictures
that cannot be read) is named in rejected.jsonl.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.builder import BuilderConfig, build_boxes, build_captions
from fgclip2.evaluation.readers.captions import read_pairs
from fgclip2.evaluation.readers.files import read_json


@dataclass
class Arguments:
    """Where the material is; either --captions or --boxes."""

    image_root: Path
    """Folder that picture names are relative to."""
    captions: Path | None = None
    """Lines PICTURE<TAB>CAPTION."""
    boxes: Path | None = None
    """COCO-style annotations."""
    merge: Path | None = None
    """JSON object: category name to the name that it counts as."""
    out: Path = Path("benchmark")
    """Folder for image_caption.txt or boxes.json, and rejected.jsonl."""
    config: tyro.conf.OmitArgPrefixes[BuilderConfig] = field(default_factory=BuilderConfig)

    def run(self) -> None:
        """Build and say what was left out."""
        if self.captions is not None and self.boxes is None:
            built = build_captions(read_pairs(self.captions), self.image_root, self.out, self.config)
        elif self.boxes is not None and self.captions is None:
            merge = {} if self.merge is None else read_json(self.merge)
            if not isinstance(merge, dict) or not all(isinstance(name, str) for name in merge.values()):
                raise Fgclip2Error(f"{self.merge} is no JSON object of category names")
            built = build_boxes(self.boxes, self.image_root, self.out, self.config, merge)
        else:
            raise Fgclip2Error("give either --captions or --boxes")
        print(f"{built.file}: {built.kept} kept, {len(built.rejected)} left out")
        for reason, count in built.reasons().items():
            print(f"  {count} x {reason}")


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: tyro.cli(Arguments, description=__doc__).run())


if __name__ == "__main__":
    sys.exit(main())

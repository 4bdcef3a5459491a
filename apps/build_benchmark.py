"""A benchmark like LIT-CN or BoxClass-CN from your own pictures, or FG-OVD in Chinese.

    python apps/build_benchmark.py --captions pairs.txt --image-root photos --out my-bench
    python apps/build_benchmark.py --boxes instances.json --image-root photos --merge merge.json --out my-bench
    python apps/build_benchmark.py --fgovd fgovd_json/1_attributes_llava.jsonl --out fgovd_cn_json

pairs.txt has lines PICTURE<TAB>CAPTION; instances.json is COCO-style; merge.json maps category names to the names that
they count as, or to "" to leave them out. --fgovd translates FG-OVD into Chinese by a table of words, whole records or
none; --table adds words of yours. What does not pass the checks (length, language, repetitions, boxes, pictures that
cannot be read, words that are in no table) is named in rejected.jsonl.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.builder import BuilderConfig, build_boxes, build_captions, build_fgovd
from fgclip2.evaluation.readers.captions import read_pairs
from fgclip2.evaluation.readers.files import read_json
from fgclip2.evaluation.translation import Table


@dataclass
class Arguments:
    """Where the material is; one of --captions, --boxes and --fgovd."""

    image_root: Path | None = None
    """Folder that picture names are relative to; --fgovd does without, and then does not look for pictures."""
    captions: Path | None = None
    """Lines PICTURE<TAB>CAPTION."""
    boxes: Path | None = None
    """COCO-style annotations."""
    fgovd: Path | None = None
    """JSON lines of FG-OVD, to be translated."""
    table: Path | None = None
    """JSON object of words for --fgovd, such as {"nouns": {"handbag": "手提包"}}; they come before the shipped ones."""
    merge: Path | None = None
    """JSON object: category name to the name that it counts as."""
    out: Path = Path("benchmark")
    """Folder for image_caption.txt, boxes.json or what --fgovd is called, and (NAME.)rejected.jsonl."""
    config: tyro.conf.OmitArgPrefixes[BuilderConfig] = field(default_factory=BuilderConfig)

    def run(self) -> None:
        """Build and say what was left out."""
        if sum(file is not None for file in (self.captions, self.boxes, self.fgovd)) != 1:
            raise Fgclip2Error("give one of --captions, --boxes and --fgovd")
        if (self.merge is not None and self.boxes is None) or (self.table is not None and self.fgovd is None):
            raise Fgclip2Error("--merge is for --boxes, and --table for --fgovd")
        if self.fgovd is not None:
            if self.config.language != "zh":
                raise Fgclip2Error(f"--language {self.config.language}: FG-OVD is in English; it is translated into zh")
            built = build_fgovd(self.fgovd, self.out, Table.read(self.table), self.image_root)
        elif self.image_root is None:
            raise Fgclip2Error("give --image-root, the folder that picture names are relative to")
        elif self.captions is not None:
            built = build_captions(read_pairs(self.captions), self.image_root, self.out, self.config)
        elif self.boxes is not None:
            merge = {} if self.merge is None else read_json(self.merge)
            if not isinstance(merge, dict) or not all(isinstance(name, str) for name in merge.values()):
                raise Fgclip2Error(f"{self.merge} is no JSON object of category names")
            built = build_boxes(self.boxes, self.image_root, self.out, self.config, merge)
        print(f"{built.file}: {built.kept} kept, {len(built.rejected)} left out")
        for reason, count in built.reasons().items():
            print(f"  {count} x {reason}")


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: parse(Arguments, description=__doc__).run())


if __name__ == "__main__":
    sys.exit(main())

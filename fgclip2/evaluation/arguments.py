"""The command line of evaluation; light, so that ``--help`` does not wait for torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2


@dataclass
class EvalArguments:
    """The paper's benchmarks on your copy of the data; docs/evaluation.md has the files' places.

    Launch it with ``torchrun --nproc-per-node N apps/evaluate.py`` for several processes.
    """

    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Print the benchmarks and stop."""
    check: tuple[str, Path] | None = None
    """NAME ROOT: say what of a benchmark is missing in a data root, and stop."""
    tasks: tuple[str, ...] = ("all",)
    """Benchmarks or tasks by name, apart by commas or blanks; all runs what there is data for."""
    model: str | None = None
    """tiny, a directory or a hub id; without one $FGCLIP2_MODEL, else the released base model."""
    siglip2: str | None = None
    """Judge a SigLIP 2 NaFlex checkpoint (directory or hub id) in place of --model; its heads stand in for others."""
    data_root: Path = Path("data")
    """Folder that holds coco/, LIT-CN/, ..."""
    out: Path = Path("results")
    """For a JSON file a benchmark and table.md; results that are there already are not computed again."""
    cache: Path | None = None
    """For features; out/features when not given. Several runs may share one."""
    predictions: Path | None = None
    """Folder of what other programs predicted: detections, label maps, answers."""
    protocol: Literal["strict", "released"] = "strict"
    """released: as the released evaluation does it, where that changes figures (ties, prompts for boxes)."""
    worst: int = 20
    """Pictures of so many of the worst failures, in out/NAME.worst.html; 0 for none."""
    samples: int = 1000
    """Drawings of the bootstrap."""
    seed: int = 0
    """Of the bootstrap."""
    device: str = "auto"
    """auto, or a torch device."""
    dtype: str = "auto"
    """auto, or float32, bfloat16, float16."""

    def run(self) -> None:
        """List, check, or evaluate and print the table."""
        from fgclip2.evaluation.datasets import select
        from fgclip2.evaluation.report import listing

        if self.show:
            print("\n".join(listing()))
            return
        if self.check is not None:
            from fgclip2.evaluation.check import check

            name, root = self.check
            found = check(name, root)
            print("\n".join(f"{name}: {line}" for line in found.lines()))
            if not found.complete:
                raise Fgclip2Error(f"{name} is not complete in {root}")
            return
        if self.samples < 1:
            raise Fgclip2Error(f"--samples {self.samples}: give at least 1, such as 1000")
        if self.worst < 0:
            raise Fgclip2Error(f"--worst {self.worst}: give a number of pictures, such as 20, or 0 for none")
        names = [name for part in self.tasks for name in part.split(",") if name]
        benchmarks = select(names)
        from fgclip2.evaluation.runner import is_first, run
        from fgclip2.evaluation.scores import Settings

        model = self._load()
        settings = Settings(self.protocol, self.samples, self.seed, self.predictions, self.worst)
        report = run(benchmarks, model, self.data_root, self.out, settings, cache=self.cache, strict="all" not in names)
        if not is_first():
            return
        print(report.table)
        print(
            f"{self.out}: {len(report.results)} results ({len(report.reused)} from earlier runs), "
            f"{len(report.left_out)} not run; {report.encoded} pictures and {report.embedded} texts were encoded here",
            file=sys.stderr,
        )

    def _load(self) -> FGCLIP2:
        import fgclip2

        if self.siglip2 is None:
            return fgclip2.load(self.model, device=self.device, dtype=self.dtype)
        if self.model is not None:
            raise Fgclip2Error("--model and --siglip2 are both given; choose one")
        from fgclip2.predictor import choose_dtype, find_device
        from fgclip2.pretrained import resolve

        directory, device = resolve(self.siglip2), find_device(self.device)
        model = fgclip2.Fgclip2Model.from_siglip2(directory).to(device, choose_dtype(self.dtype, device))
        processor = fgclip2.Processor.from_config(model.config, directory)
        return fgclip2.FGCLIP2(model.requires_grad_(False), processor, self.siglip2, directory)

"""Zero-shot classification: which of the classes a whole picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import class_ranks, ensemble
from fgclip2.evaluation.scores import Scores, Settings, by_group, share
from fgclip2.evaluation.templates import IMAGENET
from fgclip2.evaluation.worst import Miss, beaten

MAX_PATCHES: Final = 1024
"""Every picture gets this budget, small ones too, as in the released evaluation."""


class Classification:
    """Pictures against classes, each the mean of 80 prompts through the short head; top-1 and top-5."""

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        if benchmark.classes is None:
            raise Fgclip2Error(f"{benchmark.name} has no classes")
        self.settings = settings
        self.names = benchmark.classes(root)
        records = list(benchmark.read(root))
        self.paths = [record.image for record in records]
        self.labels = [record.label for record in records]
        if not records:
            raise Fgclip2Error(f"{benchmark.name}: there are no pictures in {root}")

    def wants(self) -> Wants:
        """Whole pictures and all prompts of all classes."""
        wants = Wants(whole=dict.fromkeys((path, MAX_PATCHES) for path in self.paths))
        wants.add_text(self._prompts(), "short")
        return wants

    def score(self, encoder: Encoder) -> Scores:
        """Rank the classes of every picture."""
        images, usable = encoder.images(self.paths, MAX_PATCHES)
        classes = ensemble(encoder.texts(self._prompts(), "short"), len(IMAGENET)).to(images)
        labels = torch.tensor(self.labels, device=images.device)
        ranks = class_ranks(images, classes, labels, usable)
        units = range(len(self.paths))
        metrics = {f"top{depth}": share(ranks < depth, units, self.settings) for depth in (1, 5)}
        failures = tuple(
            (str(path), encoder.reason(path))
            for path, good in zip(self.paths, usable.tolist(), strict=True)
            if not good
        )
        breakdown = {"class": by_group(ranks == 0, [f"{label} {self.names[label]}" for label in self.labels])}
        numbers = torch.arange(len(self.names), device=labels.device)
        wrong = beaten(
            images, classes, lambda rows: numbers[None] == labels[rows][:, None], (ranks > 0) & usable,
            self.settings.worst,
        )  # fmt: skip
        misses = tuple(Miss(self.paths[item.row], self.names[item.right], item.margin, self.names[item.wrong])
                       for item in wrong)  # fmt: skip
        facts = {"templates": len(IMAGENET), "max_patches": MAX_PATCHES}
        return Scores(metrics, breakdown, failures, facts, worst=misses)

    def _prompts(self) -> list[str]:
        return [template.replace("{}", name) for name in self.names for template in IMAGENET]

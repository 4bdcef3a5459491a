"""Box classification: which of the classes a ground-truth box holds, by its region of one dense map a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import class_ranks, ensemble
from fgclip2.evaluation.scores import Scores, Settings, by_group, share
from fgclip2.evaluation.templates import BARE, IMAGENET
from fgclip2.evaluation.worst import Miss, beaten

_BARE: Final = (
    "classes are their bare names here (`strict`), and the paper's figures are of 80 prompts a class: run it with "
    "`--protocol released`"
)


class BoxClassification:
    """Regions against classes through the box head; top-1 and top-5 over boxes.

    The softmax over 100 times the cosine, as the paper writes it, does not change which class is best.
    """

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        if benchmark.classes is None:
            raise Fgclip2Error(f"{benchmark.name} has no classes")
        self.settings = settings
        self.names = benchmark.classes(root)
        english = benchmark.language == "en"  # the Chinese set's published figures are of bare names
        self.templates = IMAGENET if english and settings.protocol == "released" else BARE
        self.comparable = not english or self.templates is IMAGENET
        records = list(benchmark.read(root))
        self.places = [(record.image, box) for record in records for box in record.boxes]
        self.labels = [label for record in records for label in record.labels]
        self.picture = [number for number, record in enumerate(records) for _ in record.boxes]
        if not self.places:
            raise Fgclip2Error(f"{benchmark.name}: there are no boxes in {root}")

    def wants(self) -> Wants:
        """All boxes and all prompts of all classes."""
        wants = Wants()
        for path, box in self.places:
            wants.add_boxes(path, [box])
        wants.add_text(self._prompts(), "box")
        return wants

    def score(self, encoder: Encoder) -> Scores:
        """Rank the classes of every box."""
        regions, usable = encoder.regions(self.places)
        classes = ensemble(encoder.texts(self._prompts(), "box"), len(self.templates)).to(regions)
        labels = torch.tensor(self.labels, device=regions.device)
        ranks = class_ranks(regions, classes, labels, usable)
        metrics = {f"top{depth}": share(ranks < depth, self.picture, self.settings) for depth in (1, 5)}
        failures = tuple(
            (f"{path} {list(box)}", encoder.reason(path, box))
            for (path, box), good in zip(self.places, usable.tolist(), strict=True)
            if not good
        )
        breakdown = {"class": by_group(ranks == 0, [self.names[label] for label in self.labels])}
        facts = {"templates": len(self.templates), "classes": len(self.names), "boxes": len(self.places)}
        numbers = torch.arange(len(self.names), device=labels.device)
        wrong = beaten(
            regions, classes, lambda rows: numbers[None] == labels[rows][:, None], (ranks > 0) & usable,
            self.settings.worst,
        )  # fmt: skip
        misses = []
        for row, chosen, right, margin in wrong:
            path, box = self.places[row]
            misses.append(Miss(path, self.names[right], margin, self.names[chosen], box=box))
        reason = "" if self.comparable else _BARE
        return Scores(metrics, breakdown, failures, facts, self.comparable, reason, tuple(misses))

    def _prompts(self) -> list[str]:
        return [template.replace("{}", name) for name in self.names for template in self.templates]

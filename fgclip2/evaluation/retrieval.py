"""Image-text retrieval: which caption is true of a picture, and which picture a caption is true of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import retrieval_ranks
from fgclip2.evaluation.scores import Metric, Scores, Settings, share
from fgclip2.evaluation.worst import Miss, beaten, worst
from fgclip2.processing import TextKind

_DEPTHS = (1, 5, 10)


class Retrieval:
    """All pictures against all captions; R@1, R@5 and R@10 in both directions.

    A picture with several captions is answered by any of them; each caption is a query of its own. Long sets go through
    the long head, short ones through the short head, without a prefix.
    """

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        records = list(benchmark.read(root))
        if not records:
            raise Fgclip2Error(f"{benchmark.name}: there are no captions in {root}")
        self.settings = settings
        self.kind: TextKind = "long" if benchmark.task == "long_retrieval" else "short"
        self.paths = [record.image for record in records]
        self.captions = [caption for record in records for caption in record.captions]
        self.owner = np.repeat(np.arange(len(records)), [len(record.captions) for record in records])

    def wants(self) -> Wants:
        """Whole pictures and captions."""
        wants = Wants(whole=dict.fromkeys((path, None) for path in self.paths))
        wants.add_text(self.captions, self.kind)
        return wants

    def score(self, encoder: Encoder) -> Scores:
        """Rank both ways."""
        images, usable = encoder.images(self.paths)
        texts = encoder.texts(self.captions, self.kind).to(images)
        owner = torch.from_numpy(self.owner).to(images.device)
        to_text, to_image = retrieval_ranks(images, texts, owner, usable, self.settings.retrieval_ties)
        metrics: dict[str, Metric] = {}
        for depth in _DEPTHS:
            metrics[f"i2t_r{depth}"] = share(to_text < depth, range(len(self.paths)), self.settings)
            metrics[f"t2i_r{depth}"] = share(to_image < depth, self.owner, self.settings)
        failures = tuple(
            (str(path), encoder.reason(path))
            for path, good in zip(self.paths, usable.tolist(), strict=True)
            if not good
        )
        facts = {"head": self.kind, "pictures": len(self.paths), "captions": len(self.captions),
                 "ties": self.settings.retrieval_ties}  # fmt: skip
        misses = self._misses(images, texts, owner, usable, to_text > 0, to_image > 0)
        return Scores(metrics, failures=failures, facts=facts, worst=misses)

    def _misses(
        self, images: Tensor, texts: Tensor, owner: Tensor, usable: Tensor, no_text: Tensor, no_image: Tensor
    ) -> tuple[Miss, ...]:
        """Of both directions together."""
        count = self.settings.worst
        said = beaten(images, texts, lambda rows: owner[None] == rows[:, None], no_text & usable, count)
        pictures = torch.arange(len(images), device=owner.device)
        shown = beaten(
            texts, images, lambda rows: pictures[None] == owner[rows][:, None], no_image & usable[owner], count, usable
        )
        misses = [Miss(self.paths[row], self.captions[right], margin, self.captions[wrong])
                  for row, wrong, right, margin in said]  # fmt: skip
        misses += [Miss(self.paths[right], self.captions[row], margin, found=self.paths[wrong])
                   for row, wrong, right, margin in shown]  # fmt: skip
        return tuple(worst(misses, count))

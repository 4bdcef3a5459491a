"""Fine-grained understanding: the true text of a region or picture among nearly true ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import choice_ranks
from fgclip2.evaluation.scores import Metric, Scores, Settings, share
from fgclip2.evaluation.worst import Miss, worst
from fgclip2.processing import TextKind


class FineGrained:
    """Every record's texts against its region (box head) or picture (short head); the share whose true text is first.

    One figure a split; a record with fewer than ten false texts counts like any other.
    """

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        self.settings = settings
        self.records = list(benchmark.read(root))
        if not self.records:
            raise Fgclip2Error(f"{benchmark.name}: there are no records in {root}")
        self.kind: TextKind = "short" if self.records[0].box is None else "box"

    def wants(self) -> Wants:
        """Regions or whole pictures, and all texts."""
        wants = Wants()
        for record in self.records:
            if record.box is None:
                wants.whole[record.image, None] = None
            else:
                wants.add_boxes(record.image, [record.box])
            wants.add_text(record.texts, self.kind)
        return wants

    def score(self, encoder: Encoder) -> Scores:
        """Rank every record's texts."""
        if self.kind == "short":
            features, usable = encoder.images([record.image for record in self.records])
        else:
            features, usable = encoder.regions([(record.image, record.box) for record in self.records])
        cosines = self._cosines(encoder, features)
        ranks = choice_ranks(self._scores(cosines, usable), self.settings.ties)
        splits = [record.group for record in self.records]
        pictures = {path: number for number, path in enumerate(dict.fromkeys(item.image for item in self.records))}
        metrics: dict[str, Metric] = {}
        for split in dict.fromkeys(splits):
            rows = [row for row, name in enumerate(splits) if name == split]
            metrics[split] = share(ranks[rows] == 0, [pictures[self.records[row].image] for row in rows], self.settings)
        failures = tuple(
            (f"{record.image} {'' if record.box is None else list(record.box)}".strip(),
             encoder.reason(record.image, record.box))
            for record, good in zip(self.records, usable.tolist(), strict=True)
            if not good
        )  # fmt: skip
        return Scores(metrics, {"group": {name: metric.value for name, metric in metrics.items()}}, failures,
                      {"head": self.kind, "ties": self.settings.ties},
                      worst=self._misses(cosines, (ranks > 0) & usable))  # fmt: skip

    def _misses(self, cosines: Tensor, wrong: Tensor) -> tuple[Miss, ...]:
        """Records whose best false text beats the true one by most."""
        best, at = cosines[:, 1:].max(1)
        margins, chosen = (best - cosines[:, 0]).tolist(), (at + 1).tolist()
        misses = []
        for row in wrong.nonzero()[:, 0].tolist():
            record = self.records[row]
            misses.append(Miss(record.image, record.texts[0], margins[row], record.texts[chosen[row]], box=record.box))
        return tuple(worst(misses, self.settings.worst))

    def _cosines(self, encoder: Encoder, features: Tensor) -> Tensor:
        """(M, 1 + K), the true text's first; -inf where texts lack."""
        distinct = {text: row for row, text in enumerate(dict.fromkeys(t for item in self.records for t in item.texts))}
        texts = encoder.texts(list(distinct), self.kind).to(features)
        scores = features.new_full((len(self.records), max(len(item.texts) for item in self.records)), -torch.inf)
        for row, record in enumerate(self.records):
            # Not by a matrix product, which may give equal rows unequal last digits.
            scores[row, : len(record.texts)] = (texts[[distinct[text] for text in record.texts]] * features[row]).sum(1)
        return scores

    def _scores(self, cosines: Tensor, usable: Tensor) -> Tensor:
        """What is compared: cosines, in the released protocol the softmax over 100 times them; NaN if unusable."""
        scores = cosines.clone()
        if self.settings.protocol == "released":
            for row, record in enumerate(self.records):  # alone, so that padding does not change the last digits
                scores[row, : len(record.texts)] = (100 * cosines[row, : len(record.texts)]).softmax(0)
        return scores.masked_fill(~usable[:, None], torch.nan)

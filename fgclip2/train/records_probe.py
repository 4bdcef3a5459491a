"""Zero-shot probes on held-out records: does training help, and does fine-tuning forget?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.data.collate import Collator, TrainingDataset
from fgclip2.data.failures import Failure
from fgclip2.data.records import LANGUAGES, RecordSource
from fgclip2.data.samples import Sample
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model, TextKind
from fgclip2.processing import Processor
from fgclip2.train.stage import pool_regions

_TEXTS = 128  # encoded together
_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


class RecordProbe:
    """Retrieval, region classification and hard negatives on the first records of a source, in percent.

    Args:
        source: held-out records.
        processor: of the model.
        limit: records of each language at most; also the size of the retrieval gallery.
        class_names: by language, the name of every label; without them regions choose among the distinct texts of
            the probe's own regions.
        max_patches: as in training.
        batch_size: pictures computed together.
    """

    def __init__(
        self,
        source: RecordSource,
        processor: Processor,
        limit: int = 500,
        class_names: Mapping[str, Sequence[str]] | None = None,
        max_patches: int | None = None,
        batch_size: int = 32,
    ) -> None:
        self.dataset = TrainingDataset(source, max_regions=None)
        self.processor, self.limit, self.class_names = processor, limit, class_names
        self.collate, self.batch_size = Collator(processor, max_patches), batch_size

    @torch.no_grad()
    def __call__(self, model: Fgclip2Model) -> dict[str, float]:
        """Measure a model.

        Returns:
            For ``en`` and ``zh`` where there are records: ``t2i_r1_en`` and ``i2t_r1_en`` (short captions),
            ``long_t2i_r1_en``, ``box_top1_en``, ``hard_en`` (true phrase above all its hard negatives, a tie is wrong);
            and ``unusable``, the records that were left out.

        Raises:
            Fgclip2Error: no record can be used.
        """
        was_training = model.training
        model.eval()
        figures: dict[str, float] = {}
        failures: list[Failure] = []
        for code, language in enumerate(LANGUAGES):
            rows = np.flatnonzero(self.dataset.source.languages == code)[: self.limit].tolist()
            samples: list[Sample] = []
            images: list[Tensor] = []
            regions: list[Tensor] = []
            for start in range(0, len(rows), self.batch_size):
                drawn = [self.dataset[0, row] for row in rows[start : start + self.batch_size]]
                failures += [sample for sample in drawn if isinstance(sample, Failure)]
                used = [sample for sample in drawn if isinstance(sample, Sample)]
                if used:
                    for kept, seen in zip((images, regions), self._look(model, used), strict=True):
                        kept.append(seen)
                # Their pictures, at full size, are not kept.
                samples += [replace(sample, image=_NO_PICTURE) for sample in used]
            if samples:
                names = None if self.class_names is None else self.class_names[language]
                found = self._measure(model, samples, torch.cat(images), torch.cat(regions), names)
                figures |= {f"{name}_{language}": value for name, value in found.items()}
        model.train(was_training)
        if not figures:
            first = f"{failures[0].name}: {failures[0].reason}" if failures else "there are none"
            raise Fgclip2Error(f"none of the probe's records can be used; the first: {first}")
        return figures | {"unusable": len(failures)}

    def _look(self, model: Fgclip2Model, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Unit vectors of the pictures of one batch, and of their regions one after the other."""
        batch = self.collate(samples).to(model.device)
        encoding = model.encode_image(batch.patches.to(model.dtype), batch.mask, batch.grids)
        return _unit(model.pool(encoding)), _unit(pool_regions(model.dense(encoding), batch.grids, batch.boxes))

    def _measure(
        self, model: Fgclip2Model, samples: list[Sample], image: Tensor, region: Tensor, names: Sequence[str] | None
    ) -> dict[str, float]:
        figures = {}
        short = self._embed(model, [sample.short or "" for sample in samples], "short")
        own = torch.arange(len(samples), device=image.device)
        figures["t2i_r1"] = _percent((short @ image.T).argmax(1) == own)
        figures["i2t_r1"] = _percent((image @ short.T).argmax(1) == own)
        told = [row for row, sample in enumerate(samples) if sample.long is not None]
        if told:
            long = self._embed(model, [samples[row].long or "" for row in told], "long")
            figures["long_t2i_r1"] = _percent((long @ image.T).argmax(1) == own[told])
        parts = [part for sample in samples for part in sample.regions]
        if parts:
            figures["box_top1"] = _percent(self._right_classes(model, region, parts, names))
        hard = [(row, said) for row, part in enumerate(parts) for said in part.hard]
        if hard:
            texts = self._embed(model, [text for _, said in hard for text in said], "box")
            choices = zip(hard, texts.split([len(said) for _, said in hard]), strict=True)
            scores = [text @ region[row] for (row, _), text in choices]
            right = [score[0] > score[1:].max() for score in scores]  # a tie is no answer, and nan is none either
            figures["hard"] = _percent(torch.stack(right))
        return figures

    def _right_classes(self, model: Fgclip2Model, region: Tensor, parts: list, names: Sequence[str] | None) -> Tensor:
        if names is not None:
            rows = [row for row, part in enumerate(parts) if part.label >= 0]
            labels = [parts[row].label for row in rows]
        else:
            distinct: dict[str, int] = {}
            rows = list(range(len(parts)))
            labels = [distinct.setdefault(part.text.lower(), len(distinct)) for part in parts]
            names = list(distinct)
        chosen = (region[rows] @ self._embed(model, list(names), "box").T).argmax(1)
        return chosen == torch.tensor(labels, device=chosen.device)

    def _embed(self, model: Fgclip2Model, texts: list[str], kind: TextKind) -> Tensor:
        ids = self.processor.text(texts, kind).to(model.device)
        parts = [model.get_text_features(chunk, walk_type=kind) for chunk in ids.split(_TEXTS)]
        return _unit(torch.cat(parts))


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _percent(right: Tensor) -> float:
    return round(100 * right.float().mean().item(), 2)

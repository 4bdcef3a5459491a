"""Records to training samples: the picture decoded, boxes and texts drawn. Runs in the loader's workers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from fgclip2.data.failures import Failure
from fgclip2.data.records import LANGUAGES, Facts, Language, Record, RecordError, RecordSource, RegionRecord
from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image

LEAST_SIDE = 2
"""Shortest side, in pixels, of a picture that is used: a picture of 1 pixel is a placeholder, not a picture."""


@dataclass(frozen=True, slots=True)
class TextShares:
    """How many of the texts are used; for a small model texts are the costly part.

    Each is drawn for each sample by itself, so that a global batch holds the same texts whatever the number of ranks.

    Attributes:
        short: share of pictures with their short caption.
        long: share of pictures with their long caption.
        regions: share of regions with a text; the others still have their box and label.
        names: of those, where there is one, the share with the bare class name instead of an expression.
        hard: share of regions with their hard negatives.
        hard_captions: share of pictures with their hard captions.
        contrasts: share of the regions' contrasts beyond their hard negatives, each drawn by itself.
        picture_contrasts: the same of whole pictures.
    """

    short: float = 1.0
    long: float = 1.0
    regions: float = 1.0
    names: float = 0.0
    hard: float = 1.0
    hard_captions: float = 1.0
    contrasts: float = 0.0
    picture_contrasts: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise Fgclip2Error(f"TextShares.{name} is {getattr(self, name)}; give a share from 0 to 1")


@dataclass(slots=True)
class SampleRegion:
    """One drawn region: box (x1, y1, x2, y2 in 0..1), text where drawn, and sets of texts whose first is true."""

    box: tuple[float, float, float, float]
    text: str | None
    bare: bool
    hard: tuple[tuple[str, ...], ...]
    label: int
    facts: Facts | None


@dataclass(slots=True)
class Sample:
    """One decoded picture with the texts drawn for it; captions are None where none was drawn or there is none."""

    name: str
    language: Language
    image: Image.Image | np.ndarray
    short: str | None
    long: str | None
    regions: list[SampleRegion] = field(default_factory=list)
    hard: tuple[tuple[str, ...], ...] = ()
    """Sets of a true caption and false ones after it."""
    left_out: tuple[str, ...] = ()
    """What of its record is left out, of all that is looked at."""


class TrainingDataset(Dataset["Sample | Failure"]):
    """Samples by ``(epoch, record number)``. What is drawn for one depends on ``seed`` and these two numbers only.

    Args:
        source: where records come from.
        max_regions: most regions a picture, drawn anew every epoch; None takes all.
        negatives: most hard negatives a region or caption, drawn anew every epoch.
        seed: of all draws.
        prefix_english: put before English short captions.
        shares: how many of the texts are used.
    """

    def __init__(
        self,
        source: RecordSource,
        max_regions: int | None = 4,
        negatives: int = 10,
        seed: int = 0,
        prefix_english: str = "a photo of ",
        shares: TextShares | None = None,
    ) -> None:
        if (max_regions is not None and max_regions < 0) or negatives < 0 or seed < 0:
            raise Fgclip2Error(f"max_regions {max_regions}, negatives {negatives}, seed {seed}: none may be negative")
        self.source = source
        self.max_regions, self.negatives, self.seed = max_regions, negatives, seed
        self.prefix_english = prefix_english
        self.shares = shares or TextShares()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Failure:
        epoch, index = key
        noted = LANGUAGES[self.source.languages[index]]
        try:
            record = self.source[index]
            if record.language != noted:
                raise RecordError(record.name, f"it is listed as {noted!r}, but its language is {record.language!r}")
            image = _picture(record)
        except RecordError as error:
            return Failure(error.name, error.reason, noted)
        return self._sample(record, image, np.random.default_rng([self.seed, epoch, index]))

    def _sample(self, record: Record, image: Image.Image | np.ndarray, rng: np.random.Generator) -> Sample:
        regions = record.regions
        if self.max_regions is not None and len(regions) > self.max_regions:
            regions = tuple(regions[k] for k in rng.permutation(len(regions))[: self.max_regions].tolist())
        shares = self.shares.short, self.shares.long, self.shares.hard_captions
        short, long, hard = (rng.random(3) < shares).tolist()
        prefix = self.prefix_english if record.language == "en" else ""
        captions: tuple[tuple[str, ...], ...] = ()
        if hard and record.hard:
            captions = ((record.hard[0], *self._some(record.hard[1:], rng)),)
        captions += self._drawn(record.contrasts, self.shares.picture_contrasts, rng)
        return Sample(
            name=record.name,
            language=record.language,
            image=image,
            short=prefix + record.short if short else None,
            long=record.long if long else None,
            regions=[self._region(region, rng) for region in regions],
            hard=tuple(tuple(prefix + text for text in each) for each in captions),
            left_out=record.left_out + (record.lost_regions if self.max_regions != 0 else ()),
        )

    def _some(self, negatives: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
        if len(negatives) <= self.negatives:
            return negatives
        return tuple(negatives[k] for k in rng.permutation(len(negatives))[: self.negatives].tolist())

    @staticmethod
    def _drawn(
        contrasts: tuple[tuple[str, ...], ...], share: float, rng: np.random.Generator
    ) -> tuple[tuple[str, ...], ...]:
        chosen = rng.random(len(contrasts)) < share if contrasts else ()
        return tuple(each for each, taken in zip(contrasts, chosen, strict=True) if taken)

    def _region(self, region: RegionRecord, rng: np.random.Generator) -> SampleRegion:
        said, named, hard, which = rng.random(4).tolist()
        bare = region.name is not None and named < self.shares.names
        text = region.name if bare else region.texts[int(which * len(region.texts))]
        false: tuple[str, ...] = ()
        if region.negatives and hard < self.shares.hard:
            false = self._some(region.negatives, rng)
        has_text = said < self.shares.regions
        return SampleRegion(
            box=region.box,
            text=text if has_text else None,
            bare=bare and has_text,
            hard=(((region.texts[0], *false),) if false else ())
            + self._drawn(region.contrasts, self.shares.contrasts, rng),
            label=-1 if region.label is None else region.label,
            facts=region.facts,
        )


def _picture(record: Record) -> Image.Image | np.ndarray:
    """Upright RGB pixels; an array that already is a picture stays what it is."""
    given = record.image
    picture: Image.Image | np.ndarray
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.ndim == 3 and given.shape[2] == 3:
        picture = given
        height, width = given.shape[:2]
    else:
        try:
            picture = open_image(given)
        except Fgclip2Error as error:
            raise RecordError(record.name, str(error)) from error
        except OSError as error:
            raise RecordError(record.name, f"its picture cannot be read ({error})") from error
        width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise RecordError(
            record.name, f"its picture is {width} x {height} pixels; at least {LEAST_SIDE} a side are needed"
        )
    return picture

"""Which records make up which batch: the same global batches whatever the number of ranks, from any step on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch.utils.data import Sampler

from fgclip2.data.records import LANGUAGES, Language
from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)

_NAMES: Final = {"en": "English", "zh": "Chinese"}
_ORDER: Final = len(
    LANGUAGES
)  # number of the random stream that orders batches; those below order a language's records


@dataclass(frozen=True)
class _Epoch:
    """The records of every language in the epoch's order, and for every batch its language and its number in that."""

    number: int
    records: tuple[np.ndarray, ...]
    batches: np.ndarray


class LanguageBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of one language each, for ``DataLoader(dataset, batch_sampler=...)``.

    A *global* batch, what all ranks train on in one step, is fixed by ``seed`` and the step's number alone: an epoch
    takes the records of each language in a new order, cuts them into batches, and shuffles the batches of both
    languages. Every record is in one batch of an epoch, except those of each language's last batch when that is
    incomplete and dropped. A rank gets its consecutive part of each global batch: all ranks' parts in rank order are
    the batch.

    Args:
        languages: ``(n,)`` the language of every record, as an index into ``LANGUAGES``; ``RecordSource.languages``.
        batch_size: records of a global batch, a multiple of ``world_size * accumulation``.
        rank: this process, 0 to ``world_size - 1``.
        world_size: number of processes.
        seed: of the order.
        start_step: first step to give, counted from the start of the first epoch.
        steps: step to stop before, counted the same; None stops at the end of the epoch that ``start_step`` is in.
        drop_last: leave out each language's last batch of an epoch when it is incomplete; else it is given as it is,
            shared among the ranks as evenly as possible (a rank may then get an empty list).
        accumulation: parts that each global batch is given in, one after another.

    Raises:
        Fgclip2Error: the sizes do not divide, there are no records, or a language would never be seen.
    """

    def __init__(
        self,
        languages: np.ndarray,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        start_step: int = 0,
        steps: int | None = None,
        drop_last: bool = True,
        accumulation: int = 1,
    ) -> None:
        if batch_size < 1 or world_size < 1 or accumulation < 1:
            raise Fgclip2Error(
                f"batch_size {batch_size}, world_size {world_size}, accumulation {accumulation}: each must be 1 or more"
            )
        parts = world_size * accumulation
        if batch_size % parts:
            lower, upper = batch_size // parts * parts, (batch_size // parts + 1) * parts
            raise Fgclip2Error(
                f"a global batch of {batch_size} cannot be shared evenly by {world_size} ranks x {accumulation} "
                f"accumulation steps = {parts} parts; take {f'{lower} or ' if lower else ''}{upper}, or "
                "another accumulation"
            )
        if not 0 <= rank < world_size:
            raise Fgclip2Error(f"rank {rank} of {world_size} ranks: ranks are counted from 0 to {world_size - 1}")
        if start_step < 0 or (steps is not None and steps < start_step):
            raise Fgclip2Error(f"start_step {start_step}, steps {steps}: give 0 <= start_step <= steps")
        if seed < 0:
            raise Fgclip2Error(f"seed {seed}: give an integer from 0 on")
        self.batch_size, self.accumulation, self.drop_last, self.seed = batch_size, accumulation, drop_last, seed
        self.rank, self.world_size = rank, world_size
        self._records = tuple(np.flatnonzero(languages == code) for code in range(len(LANGUAGES)))
        self._check(len(languages))
        sizes = [len(records) for records in self._records]
        self._batches = [size // batch_size if drop_last else -(-size // batch_size) for size in sizes]
        self.steps_per_epoch = sum(self._batches)
        self.dropped = sum(size % batch_size for size in sizes) if drop_last else 0
        if self.dropped:
            _log.info(
                "every epoch leaves out %d of %d records, others each time: they fill no batch of %d in one language",
                self.dropped, len(languages), batch_size,
            )  # fmt: skip
        self.start_step = start_step
        self.steps = (self.epoch_of(start_step) + 1) * self.steps_per_epoch if steps is None else steps
        self._epoch: _Epoch | None = None

    def _check(self, total: int) -> None:
        known = sum(map(len, self._records))
        if known != total:
            raise Fgclip2Error(f"{total - known} of {total} records have a language other than 0 (en) or 1 (zh)")
        if not total:
            raise Fgclip2Error("there are no records to make batches of")
        for language, records in zip(LANGUAGES, self._records, strict=True):
            if self.drop_last and 0 < len(records) < self.batch_size:
                raise Fgclip2Error(
                    f"the data holds {len(records)} {_NAMES[language]} records, fewer than one batch of "
                    f"{self.batch_size}, so none of them would ever be seen; take a smaller batch, leave them out, or "
                    "keep incomplete batches (drop_last=False)"
                )

    def epoch_of(self, step: int) -> int:
        """The epoch that a step is in, from 0."""
        return step // self.steps_per_epoch

    def global_batch(self, step: int) -> tuple[Language, np.ndarray]:
        """Language and record numbers, int64, of what all ranks together train on in a step."""
        number, position = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch.number != number:
            self._epoch = self._shuffled(number)
        code, batch = self._epoch.batches[position]
        return LANGUAGES[code], self._epoch.records[code][batch * self.batch_size : (batch + 1) * self.batch_size]

    def _shuffled(self, number: int) -> _Epoch:
        def rng(stream: int) -> np.random.Generator:
            return np.random.default_rng([self.seed, number, stream])

        records = tuple(rng(code).permutation(found) for code, found in enumerate(self._records))
        batches = np.array([(code, k) for code, count in enumerate(self._batches) for k in range(count)])
        return _Epoch(number, records, rng(_ORDER).permutation(batches))

    def __len__(self) -> int:
        """Number of lists to come: ``accumulation`` a step."""
        return (self.steps - self.start_step) * self.accumulation

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """This rank's lists of ``(epoch, record number)``."""
        for step in range(self.start_step, self.steps):
            _, records = self.global_batch(step)
            epoch = self.epoch_of(step)
            for part in np.array_split(records, self.accumulation):
                mine = np.array_split(part, self.world_size)[self.rank]
                yield [(epoch, index) for index in mine.tolist()]

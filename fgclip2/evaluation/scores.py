"""What a task returns, and the settings that all tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from fgclip2.evaluation.metrics import Interval, Ties, bootstrap_mean

if TYPE_CHECKING:
    from torch import Tensor

    from fgclip2.evaluation.encoder import Encoder, Wants
    from fgclip2.evaluation.worst import Miss


@dataclass(frozen=True)
class Settings:
    """How benchmarks are judged.

    Attributes:
        protocol: ``strict``, or ``released``: the released evaluation's ways that change figures. There a false text
            that scores the same as the true one does not count against it, of equal candidates in retrieval the last
            one is found, and COCO's and LVIS's classes are ImageNet's 80 prompts where ``strict`` takes the bare names.
        samples: drawings of the bootstrap.
        seed: of the drawings.
        predictions: folder with what other programs predicted: detections, label maps, answers.
        worst: of how many failures there are pictures, at most.
    """

    protocol: Literal["strict", "released"] = "strict"
    samples: int = 1000
    seed: int = 0
    predictions: Path | None = None
    worst: int = 20

    @property
    def ties(self) -> Literal["wrong", "right"]:
        """Who comes first of a true and a false text of one region or picture with equal scores."""
        return "right" if self.protocol == "released" else "wrong"

    @property
    def retrieval_ties(self) -> Ties:
        """Who comes first in retrieval of candidates with equal scores."""
        return "last" if self.protocol == "released" else "wrong"


@dataclass(frozen=True)
class Metric:
    """A figure: ``value`` in percent, over ``count`` queries, and its 95 % bootstrap interval where there is one."""

    value: float
    count: int
    interval: Interval | None = None


@dataclass(frozen=True)
class Scores:
    """What a benchmark came to.

    Attributes:
        metrics: figures that may stand beside published ones.
        breakdown: by what (``class``, ``group``), the first metric of each, in percent.
        failures: pictures, boxes and predictions that could not be used, and why; all count as wrong.
        facts: of the protocol, for the reader of a result.
        comparable: whether this is what the published figures are of.
        reason: why it is not, a sentence for the table.
        worst: failures by most, for the page of pictures; none of what could not be used, which is in ``failures``.
        wrong: some wrong answers in words: what was asked, given, and right.
    """

    metrics: dict[str, Metric]
    breakdown: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    comparable: bool = True
    reason: str = ""
    worst: tuple[Miss, ...] = ()
    wrong: tuple[Mapping[str, Any], ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "breakdown": self.breakdown,
            "failed": len(self.failures),
            "facts": dict(self.facts),
            "comparable": self.comparable,
            "reason": self.reason,
            "worst": len(self.worst),
        }
        return told | ({"wrong": [dict(item) for item in self.wrong]} if self.wrong else {})


class Task(Protocol):
    """A benchmark opened for a run."""

    def wants(self) -> Wants:
        """What must be encoded before ``score``."""
        ...

    def score(self, encoder: Encoder) -> Scores:
        """Judge, with ``encoder`` prepared."""
        ...


@runtime_checkable
class Shared(Task, Protocol):
    """A task whose pictures all processes of a run share; ``score`` is called by the first one afterwards."""

    def share(self, encoder: Encoder) -> None:
        """This process's part, and on the first one what the others found."""
        ...


def share(right: Tensor | np.ndarray, unit: Sequence[int] | np.ndarray, settings: Settings) -> Metric:
    """The share of right outcomes (M,), resampled by the picture ``unit`` (M,) that each belongs to."""
    values = np.asarray(right.cpu() if hasattr(right, "cpu") else right, dtype=np.float64)
    if not len(values):
        return Metric(float("nan"), 0)
    interval = bootstrap_mean(values, np.asarray(unit), settings.samples, settings.seed)
    scaled = None if interval is None else (100 * interval[0], 100 * interval[1])
    return Metric(100 * float(values.mean()), len(values), scaled)


def by_group(right: Tensor | np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Share of right outcomes (M,) by group, in percent, groups in the order of their first outcome."""
    values = np.asarray(right.cpu() if hasattr(right, "cpu") else right, dtype=np.float64)
    names = np.asarray(groups)
    return {str(name): 100 * float(values[names == name].mean()) for name in dict.fromkeys(groups)}

"""What is trained and how: loss weights, optimiser, schedule and batches, each default in one place.

Weights and units come from the FG-CLIP 2 paper (arXiv 2510.10921) and its released training code, which differ; both
are kept by name, see `RECIPES`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from fgclip2.errors import Fgclip2Error


@dataclass(frozen=True)
class LossWeights:
    """Weight of every term; a term of weight 0 is not computed."""

    short: float = 1.0
    """Sigmoid loss of pictures and short captions, over all pairs of the global batch."""
    long: float = 1.0
    """The same for long captions."""
    region: float = 0.0
    """FGV: regions against the texts of all regions."""
    hard: float = 0.0
    """FGT: a region's phrase against its own hard negatives."""
    hard_itc: float = 0.0
    """A region against the phrases and hard negatives of all regions."""
    intra: float = 0.0
    """TIC: region texts pushed apart from their nearest ones."""
    rank: float = 0.0
    """CMR: the true phrase above every hard negative by a margin that follows training."""
    label: float = 0.0
    """Regions against one learned vector a class; needs data with class labels. See `fgclip2.train.labels`."""
    label_tokens: float = 0.0
    """The tower's own tokens against the same."""
    label_names: float = 0.0
    """Bare class names against the same."""
    label_image: float = 0.0
    """Whole pictures against the same, once for every region in them."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise Fgclip2Error(f"loss weight {name} {value}: give 0 or more")


@dataclass(frozen=True)
class Recipe:
    """How the terms are computed and summed."""

    weights: LossWeights
    intra_filtered: Literal["remove", "zero"] = "remove"
    """Text pairs over 0.95 cosine are left out, or count with similarity 0."""
    intra_reduction: Literal["sum", "mean"] = "sum"
    rank_unit: Literal["cosine", "logits"] = "cosine"
    """What the margin of the rank loss is measured in; logits are cosines times the hard negatives' scale."""
    rank_bounds: tuple[float, float] = (0.0, 10.0)
    """What the rank loss's threshold is kept within, in that unit; as released."""
    regions: Literal["global", "rank"] = "rank"
    """Whether the FGV, ITC and TIC terms see the regions of all processes, or those of their own."""
    region_scale: float = 100.0
    """What the logit scales of regions and of hard negatives start at; 100 as released, for towers that are trained."""
    mask_true: bool = False
    """Leave out of the negatives what is known to be true: equal captions, phrases that fit other regions too."""

    @property
    def uses_regions(self) -> bool:
        """Whether a term looks at regions or their texts."""
        return self.uses_hard or any(getattr(self.weights, name) for name in ("region", "intra", "label"))

    @property
    def uses_hard(self) -> bool:
        """Whether a term looks at hard negatives, of regions or of captions."""
        return any(getattr(self.weights, name) for name in ("hard", "hard_itc", "rank"))


TINY_STEPS: Final = (1200, 900, 800, 1000, 200, 300)
"""Steps of each phase of the embedded model's curriculum, as it was trained."""
_GLOBAL: Final = LossWeights()
RECIPES: Final[dict[str, dict[int, Recipe]]] = {
    # Weights of the paper's section 4; where it has no formula, the released one.
    "paper": {
        1: Recipe(_GLOBAL),
        # The paper's threshold is the mean margin, whatever it is; margins of cosines lie within -2 and 2.
        2: Recipe(LossWeights(region=0.1, hard=0.5, intra=0.1, rank=0.4), rank_bounds=(-2.0, 2.0)),
    },
    # The hard block of the code is 0.5 (3 hard + 0.6 ITC + 0.4 CMR).
    "released": {
        1: Recipe(_GLOBAL),
        2: Recipe(
            LossWeights(region=0.2, hard=1.5, hard_itc=0.3, intra=0.1, rank=0.2),
            intra_filtered="zero",
            intra_reduction="mean",
            rank_unit="logits",
        ),
    },
    # From scratch, on pictures with class labels; found by trial on the embedded world.
    "tiny": {
        1: Recipe(
            LossWeights(short=0.5, long=0.3, label=1.0, label_tokens=0.5, label_names=0.5, label_image=0.5),
            region_scale=20.0,
            mask_true=True,
        ),
        2: Recipe(
            LossWeights(
                short=0.5,
                long=0.3,
                region=1.0,
                hard=1.0,
                intra=0.1,
                rank=0.4,
                label=1.0,
                label_tokens=0.5,
                label_names=0.5,
                label_image=0.5,
            ),
            intra_reduction="mean",
            region_scale=20.0,
            mask_true=True,
        ),
    },
}
"""Recipe by name and stage: stage 1 aligns whole pictures, stage 2 adds regions."""


def recipe(name: str, stage: int) -> Recipe:
    """A recipe of `RECIPES`.

    Raises:
        Fgclip2Error: no such recipe or stage.
    """
    if name not in RECIPES:
        raise Fgclip2Error(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    if stage not in RECIPES[name]:
        raise Fgclip2Error(f"no stage {stage}; recipe {name!r} has stages {', '.join(map(str, RECIPES[name]))}")
    return RECIPES[name][stage]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule; defaults are the paper's."""

    lr: float = 1e-6
    """Peak learning rate of the towers."""
    head_lr: float | None = None
    """Of what FG-CLIP 2 adds: long, box and dense heads, long position tables; the towers' when not given."""
    scale_lr: float | None = None
    """Of the logit scales and the bias, single numbers that may have far to go; the towers' when not given."""
    muon_lr: float | None = None
    """Train the matrices inside blocks and heads with Muon at this rate, not AdamW; meant for training from scratch."""
    weight_decay: float = 0.001
    """On matrices and embeddings; none on biases and norms."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    warmup: float = 0.03
    """Warm-up to the peak: steps (300 in the paper), or below 1 a share of all steps (0.03 in the released script)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.0
    """Where the cosine ends, as a share of the peak."""
    clip: float = 1.0
    """Greatest gradient norm; 0 for no limit."""

    def __post_init__(self) -> None:
        for name in ("lr", "head_lr", "scale_lr", "muon_lr"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise Fgclip2Error(f"{name} {value}: give a rate above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise Fgclip2Error(f"betas {self.betas}: give two decays, 0 to below 1")
        for name in ("weight_decay", "eps", "clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise Fgclip2Error(f"{name} {getattr(self, name)}: give 0 or more")
        if not 0 <= self.final < 1:
            raise Fgclip2Error(f"final {self.final}: give a share of the peak rate, 0 to below 1")
        if self.warmup < 0:
            raise Fgclip2Error(f"warmup {self.warmup}: give steps, or a fraction below 1")

    def warmup_steps(self, total: int) -> int:
        """Warm-up in steps for a run of so many.

        Raises:
            Fgclip2Error: the run would end before it.
        """
        steps = int(self.warmup * total) if self.warmup < 1 else int(self.warmup)
        if steps >= total:
            raise Fgclip2Error(f"a warm-up of {steps} steps for a run of {total}; give fewer, or a share such as 0.03")
        return steps


@dataclass(frozen=True)
class BatchConfig:
    """What a global batch holds, whatever the number of processes."""

    size: int = 4096
    """Pictures an optimiser step, over all processes and accumulation steps."""
    accumulation: int = 1
    """Parts a process computes one after the other for one step, to save memory."""
    drop_last: bool = True
    """Leave out, each epoch others, the records of a language that fill no whole batch; else they are a smaller one."""
    full_batch: bool = False
    """With accumulation: contrast against the whole batch by cached embeddings (GradCache, arXiv 2101.06983), at the
    price of a second forward pass; otherwise each part is contrasted by itself."""
    max_patches: int | None = None
    """Patches a picture; without it the bucket of the batch's largest picture."""
    max_regions: int = 4
    """Boxes a picture, drawn anew every epoch."""
    max_negatives: int = 10
    """Hard negatives a region."""

    def __post_init__(self) -> None:
        for name in ("size", "accumulation", "max_regions", "max_negatives"):
            if getattr(self, name) < 1:
                raise Fgclip2Error(f"batch {name} {getattr(self, name)}: give 1 or more")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank updates of the blocks' matrices; off at rank 0."""

    rank: int = 0
    """Rank of the updates, such as 16; 0 trains the weights themselves."""
    alpha: int = 32
    """Updates are multiplied by alpha / rank."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise Fgclip2Error(
                f"LoRA rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: give a rank of 0 or more, an "
                "alpha above 0, a dropout from 0 to below 1"
            )


@dataclass(frozen=True)
class RunConfig:
    """One stage of training, whole."""

    recipe: Recipe = field(default_factory=lambda: RECIPES["paper"][1])
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    epochs: float = 1.0
    """Passes over the data, unless steps is given."""
    steps: int | None = None
    """Optimiser steps."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 runs towers in bf16 and keeps weights in float32; auto takes it where the hardware has it."""
    gradient_checkpointing: bool = False
    freeze: tuple[Literal["vision", "text"], ...] = ()
    """Towers that keep their weights; the heads that FG-CLIP 2 adds are always trained."""
    ema: float | None = None
    """Decay a step of an average of the weights, saved beside the weights; none when not given."""
    seed: int = 0
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    probe_every: int = 0
    """Steps between zero-shot probes; 0 for none."""
    workers: int = 2
    """Processes that decode pictures, for each training process."""
    failure_limit: float = 0.01
    """Share of unreadable records at which the run stops."""

    def __post_init__(self) -> None:
        least: dict[str, float] = {
            "save_every": 1,
            "keep": 1,
            "log_every": 1,
            "probe_every": 0,
            "workers": 0,
            "seed": 0,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise Fgclip2Error(f"{name} {getattr(self, name)}: give {bound:g} or more")
        if self.steps is not None and self.steps < 1:
            raise Fgclip2Error(f"steps {self.steps}: give 1 or more, or leave it out to train for epochs")
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise Fgclip2Error(f"epochs {self.epochs}: give a number above 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise Fgclip2Error(f"ema {self.ema}: give a decay between 0 and 1, such as 0.999")
        if not 0 <= self.failure_limit <= 1:
            raise Fgclip2Error(f"failure_limit {self.failure_limit}: give a share from 0 to 1")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))

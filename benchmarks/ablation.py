"""What each loss is worth on the embedded world: ``python -m benchmarks.ablation``.

Every variant starts from the same model, which has learned names on single objects (the first phase of ``make tiny``),
and trains the same number of steps on the same scenes; seeds change what is drawn of them. Nobody tells classes here:
regions learn from their phrases alone, as they would on real data.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rich import print as show

from benchmarks._report import command, report
from fgclip2.data.collate import Collator, TextShares, TrainingDataset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.files import write_atomically
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import Processor
from fgclip2.train.probe import probe
from fgclip2.train.recipe import TINY_STEPS, BatchConfig, LossWeights, OptimConfig, Recipe, RunConfig, recipe
from fgclip2.train.run import FIRST_TRAINING_SEED, build_stage
from fgclip2.train.tiny import curriculum, train_phases
from fgclip2.train.trainer import StageTrainer

_STAGE2 = replace(recipe("tiny", 2).weights, label=0.0, label_tokens=0.0, label_names=0.0, label_image=0.0)
VARIANTS: dict[str, LossWeights] = {
    "stage 1 only": LossWeights(short=_STAGE2.short, long=_STAGE2.long),
    "stage 2": _STAGE2,
    "without TIC": replace(_STAGE2, intra=0.0),
    "without CMR": replace(_STAGE2, rank=0.0),
    "without FGV": replace(_STAGE2, region=0.0),
}
_MEASURES = ("box top-1", "phrase 1 of 11, near", "caption 1 of 11, near", "T2I R@1")
_SETTINGS = ("steps", "pictures", "size", "scenes")
_SHARES = TextShares(short=0.75, long=0.15, regions=0.6, names=0.3, hard=0.15, hard_captions=0.2)


@dataclass
class Arguments:
    """Train every variant with every seed, and measure it on held-out scenes; figures are means of both languages."""

    start: Path | None = None
    """Model directory to start from; without it the first phase of make tiny is trained first, in --out."""
    start_steps: int = TINY_STEPS[0]
    """Of that phase."""
    steps: int = 150
    """Of every variant."""
    pictures: int = 64
    """A batch."""
    size: int = 112
    """Side of a scene in pixels; it shows 1 to 3 objects."""
    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 300
    """Held-out scenes to measure on."""
    out: Path = Path("work_dirs/ablation")
    """Scratch folder. Figures of variants and seeds stay in it, so that a stopped run goes on, and several processes
    with one --start may each take some of the seeds before one with all of them prints the table."""


def trained(start: Path, weights: LossWeights, arguments: Arguments, seed: int, folder: Path) -> Fgclip2Model:
    """The starting model after its steps; the rate falls to nothing."""
    own: Recipe = replace(recipe("tiny", 2), weights=weights)
    config = RunConfig(
        recipe=own,
        optim=OptimConfig(lr=5e-4, muon_lr=1e-3, scale_lr=2e-3, weight_decay=0.02),
        batch=BatchConfig(size=arguments.pictures),
        steps=arguments.steps,
        seed=seed,
        save_every=arguments.steps,
        workers=1,
    )
    model = Fgclip2Model.from_pretrained(start).float().train()
    scene = SceneConfig(size=arguments.size, objects=(1, 3), scale=(0.28, 0.7))
    # Other seeds see the same scenes in another order, with other texts drawn.
    source = SceneSource(World(), scene, 2 * FIRST_TRAINING_SEED, arguments.pictures * (arguments.steps + 2))
    dataset = TrainingDataset(source, max_regions=None, negatives=5, seed=seed, prefix_english="", shares=_SHARES)
    stage = build_stage(model, config)
    StageTrainer(stage, dataset, Collator(Processor.from_pretrained(start)), config, folder).train()
    return stage.model


def measured(model: Fgclip2Model, start: Path, arguments: Arguments) -> dict[str, float]:
    """Mean of both languages, in percent."""
    scene = SceneConfig(size=arguments.size, objects=(1, 3), scale=(0.28, 0.7))
    text = Processor.from_pretrained(start).text
    figures = probe(model.eval(), text, World(), arguments.scenes, scene).figures
    return {name: statistics.mean(figures[name].values()) for name in _MEASURES}


def run(name: str, weights: LossWeights, seed: int, start: Path, arguments: Arguments) -> dict[str, float]:
    """Train and measure one variant with one seed, unless the scratch folder has its figures already."""
    settings = {
        "start": hash_of(start),
        **{key: getattr(arguments, key) for key in _SETTINGS},
        "weights": vars(weights),
    }
    folder = arguments.out / f"{name.replace(' ', '-')}-{seed}"
    file = folder.with_suffix(".json")
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["settings"] == settings:
            return cast("dict[str, float]", known["figures"])
    shutil.rmtree(folder, ignore_errors=True)
    figures = measured(trained(start, weights, arguments, seed, folder), start, arguments)
    shutil.rmtree(folder)
    write_atomically(file, json.dumps({"settings": settings, "figures": figures}).encode())
    return figures


def hash_of(start: Path) -> str:
    """Of the weights that every variant starts from."""
    return hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()


def main(arguments: Arguments) -> None:
    """Train and measure one after the other; what an earlier run has measured is taken from its scratch folder."""
    start = arguments.start
    if start is None:
        start = train_phases(curriculum((arguments.start_steps, 0, 0, 0, 0, 0)), arguments.out / "start")
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {
        "start": [measured(Fgclip2Model.from_pretrained(start).float(), start, arguments)]
    }
    for seed in arguments.seeds:  # the outer loop, so that what is there after a while compares like with like
        for name, weights in VARIANTS.items():
            figures = run(name, weights, seed, start, arguments)
            results.setdefault(name, []).append(figures)
            show(f"{name}, seed {seed}: " + ", ".join(f"{key} {value:.1f}" for key, value in figures.items()))
    rows: list[dict[str, object]] = []
    flat: dict[str, float] = {}
    for name, runs in results.items():
        row: dict[str, object] = {"variant": name, "runs": len(runs)}
        for measure in _MEASURES:
            values = [run[measure] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row[measure] = f"{statistics.mean(values):.1f} ± {spread:.1f}" if len(values) > 1 else f"{values[0]:.1f}"
            flat[f"{name}, {measure}"] = round(statistics.mean(values), 2)
            flat[f"{name}, {measure}, spread"] = round(spread, 2)
        rows.append(row)
    report("ablation", rows, flat)


if __name__ == "__main__":
    command(main, Arguments)

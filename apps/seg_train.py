"""Train an open-vocabulary segmentor in detectron2, evaluate it, and leave pictures to look at.

    python apps/seg_train.py                      # embedded model, generated scenes: on two cores, offline
    python apps/seg_train.py --resume             # continue a run that was stopped or killed
    python apps/seg_train.py --eval-only          # figures and pictures of what is in the work directory
    python apps/seg_train.py --eval-only --predictions predictions      # and label maps for fgclip2 eval
    python apps/seg_train.py --config apps/configs/seg/folder.py model.model=qihoo360/fg-clip2-base \\
        folders.names=classes.txt folders.train.images=train/images folders.train.masks=train/masks \\
        folders.val.images=val/images folders.val.masks=val/masks
    python apps/seg_train.py --config apps/configs/seg/instances.py model.model=qihoo360/fg-clip2-base \\
        coco.train.annotations=train.json coco.train.images=train coco.val.annotations=val.json coco.val.images=val

Everything in a config can be overridden as key=value, anywhere on the command line. What was
trained finds any class you name:

    python apps/seg_predict.py fgclip2/assets/images/scene.png --checkpoint work_dirs/seg --classes "bread, 书包"
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from fgclip2.commandline import parse
from fgclip2.console import RESUMABLE, exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.files import set_aside, write_atomically
from fgclip2.pretrained import resolve
from fgclip2.threads import wait_briefly

CONFIGS: Final = Path(__file__).parent / "configs" / "seg"
_KEPT: Final = ("*.pth", "metrics.json", "last_checkpoint")


@dataclass
class Arguments:
    """Train an open-vocabulary segmentor or Mask R-CNN on the embedded world, published data, or your own."""

    overrides: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Entries of the config, such as train.lr=0.0005 data.batch_size=8 model.model=qihoo360/fg-clip2-base."""
    config: Path = CONFIGS / "openmoji_tiny.py"
    """LazyConfig; see apps/configs/seg."""
    num_gpus: int = 1
    """Processes, one a GPU; without GPUs that many processes share the cores."""
    resume: bool = False
    """Continue from the newest checkpoint in train.output_dir."""
    eval_only: bool = False
    """Train nothing; evaluate that checkpoint. The size of pictures, the scenes and which classes are novel are those
    of its training; an override that says otherwise is obeyed and told. Overrides of model are those of a trained one,
    such as model.max_classes=100, and training data are not needed."""
    pictures: int = 8
    """How many evaluated pictures to draw."""
    predictions: Path | None = None
    """With --eval-only: folder for the label maps of every picture in data.test, as NAME/STEM.png with classes numbered
    from 0, which `fgclip2 eval --predictions` judges."""

    def __post_init__(self) -> None:
        if self.num_gpus < 1:
            raise Fgclip2Error(f"--num-gpus {self.num_gpus}: give 1 or more")
        if self.resume and self.eval_only:
            raise Fgclip2Error("--resume and --eval-only were both given; give one of them")
        if self.predictions is not None and not self.eval_only:
            raise Fgclip2Error("--predictions writes what a trained segmentor predicts; give --eval-only with it")


def run(arguments: Arguments) -> None:
    """Do what the command line says; see the module's text. Everything is checked before anything is written."""
    import fgclip2_detectron2  # noqa: F401  (seconds of imports, so only after the cheap checks)
    from fgclip2_detectron2.checkpoint import find_checkpoint
    from fgclip2_detectron2.config_data import training_notes

    cfg, notes, unshown = _configured(arguments)
    if not arguments.eval_only:
        notes += training_notes(cfg)
    work_dir = Path(cfg.train.output_dir)
    if arguments.resume or arguments.eval_only:
        find_checkpoint(work_dir)
    else:
        _set_aside(work_dir)
    for note in notes:
        print(note)
    if cfg.model.model == "tiny":
        print("The embedded model knows drawn glyphs only: this shows that everything works and says nothing about")
        print("photographs. For those: --config apps/configs/seg/folder.py model.model=qihoo360/fg-clip2-base ...")
    if arguments.num_gpus == 1:
        _work(arguments, unshown)
        return
    from detectron2.engine import launch

    launch(_work, arguments.num_gpus, dist_url="auto", args=(arguments, unshown))


def _configured(arguments: Arguments, unshown: tuple[str, ...] | None = None) -> tuple[Any, list[str], tuple[str, ...]]:
    """The config, its data entered and checked, what is to be said of it, and the classes that no training mask shows.

    Evaluation takes the model as it was trained, and no training data. With ``unshown`` no mask is read again.
    """
    from fgclip2_detectron2.checkpoint import read_facts
    from fgclip2_detectron2.config_data import check_data, register_data
    from fgclip2_detectron2.datasets import class_set, segmentation_set
    from fgclip2_detectron2.engine import as_trained, load_config

    cfg = load_config(arguments.config, arguments.overrides)
    notes: list[str] = []
    trained = None
    if arguments.eval_only:
        facts = read_facts(cfg.train.output_dir)
        cfg, notes = as_trained(cfg, facts, arguments.overrides)
        trained = [name for names in facts["names"].values() for name in names]
    resolve(cfg.model.model)
    notes += register_data(cfg, not arguments.eval_only, trained, arguments.overrides, unshown)
    check_data(cfg, train=not arguments.eval_only)
    if arguments.predictions is not None:
        for name in cfg.data.test:
            segmentation_set(name)  # what has instances has no label maps
    own = "folders" in cfg and not arguments.eval_only
    return cfg, notes, tuple(sorted(class_set("folder_train").novel)) if own else ()


def _set_aside(work_dir: Path) -> None:
    """Move an earlier run's results out of the way, so that --resume cannot mix two runs."""
    if work_dir.exists() and not work_dir.is_dir():
        raise Fgclip2Error(f"train.output_dir {str(work_dir)!r} is a file; give a folder")
    place = set_aside(work_dir, _KEPT)
    if place is not None:
        print(f"an earlier run's checkpoints were moved to {place} (--resume would have continued it)")


def _work(arguments: Arguments, unshown: tuple[str, ...]) -> None:
    """One process of the run."""
    from detectron2.utils import comm

    import fgclip2_detectron2  # noqa: F401
    from fgclip2_detectron2.checkpoint import find_checkpoint, read_facts
    from fgclip2_detectron2.engine import build_model, evaluate, load_trained, train

    _quiet()
    started = time.monotonic()
    cfg, _, _ = _configured(arguments, unshown)
    work_dir = Path(cfg.train.output_dir)
    if arguments.eval_only:
        segmentor = load_trained(cfg)
    else:
        segmentor = build_model(cfg)
        learned = sum(parameter.numel() for parameter in segmentor.parameters() if parameter.requires_grad)
        if comm.is_main_process():
            print(f"training {learned:,} weights for {cfg.train.iterations} iterations", flush=True)
        train(cfg, segmentor, arguments.resume)
    trained = time.monotonic()
    if comm.is_main_process():
        print("evaluating", flush=True)
    figures = evaluate(cfg, segmentor, arguments.predictions)
    if not comm.is_main_process():
        return
    seconds = {"training": round(trained - started, 1), "evaluation": round(time.monotonic() - trained, 1)}
    content = {"metrics": figures, "model": segmentor.options["model"], "model_hash": segmentor.backbone.weights_hash,
               "iterations": read_facts(work_dir)["iterations"], "seconds": seconds}  # fmt: skip
    write_atomically(
        work_dir / "metrics.json", (json.dumps(_without_nan(content), ensure_ascii=False, indent=2) + "\n").encode()
    )
    _report(arguments, cfg, segmentor, figures)
    print(f"checkpoint: {find_checkpoint(work_dir)}")
    print(f"figures:    {work_dir / 'metrics.json'}")
    if arguments.predictions is not None:
        print(f"label maps: {arguments.predictions}{os.sep} (fgclip2 eval --tasks segmentation --predictions ...)")
    print(f'try it:     python apps/seg_predict.py PICTURE --checkpoint {work_dir} --classes "天空, tree, 红色汽车"')
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")


def _report(arguments: Arguments, cfg: Any, segmentor: Any, figures: dict[str, Any]) -> None:
    from rich.console import Console

    from fgclip2_detectron2.datasets import class_set
    from fgclip2_detectron2.engine import shown_records, vocabularies_of
    from fgclip2_detectron2.report import draw_predictions, figures_table

    for name, found in figures.items():
        Console(width=100).print(figures_table(name, found))
    name = cfg.data.test[0]
    data = class_set(name)
    segmentor.set_vocabularies(vocabularies_of(name), data.background)
    folder = Path(cfg.train.output_dir) / "predictions"
    drawn = draw_predictions(segmentor, shown_records(cfg, name, arguments.pictures), data, folder)
    if drawn:
        print(f"pictures:   {folder}{os.sep} ({len(drawn)}: the truth, then each language)")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _quiet() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="detectron2|torch|fvcore")
    for name in ("detectron2", "fvcore"):  # which log an error's traceback before they pass it on
        logging.getLogger(name).setLevel(logging.CRITICAL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, 2 after an error that the user can mend, 130 after Ctrl-C."""
    _quiet()
    wait_briefly()
    given = _overrides_first(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: run(parse(Arguments, given, description=__doc__)), RESUMABLE)


def _overrides_first(argv: Sequence[str]) -> list[str]:
    """The command line with its overrides in front: tyro takes them in one row only, people write them anywhere."""
    takes_value = {f"--{item.name.replace('_', '-')}" for item in fields(Arguments) if item.type not in ("bool", bool)}
    overrides: list[str] = []
    options: list[str] = []
    for word in argv:
        is_value = bool(options) and options[-1].replace("_", "-") in takes_value
        (options if is_value or word.startswith("-") else overrides).append(word)
    return overrides + options


if __name__ == "__main__":
    sys.exit(main())

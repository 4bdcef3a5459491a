"""Train an open-vocabulary detector in MMDetection, evaluate it, and leave pictures to look at.

    python apps/ovd_train.py                      # embedded model, generated scenes: 8 to 12 minutes on two cores
    python apps/ovd_train.py --resume             # continue a run that was stopped or killed
    python apps/ovd_train.py --categories 400 --novel-fraction 0.5
    python apps/ovd_train.py --model qihoo360/fg-clip2-base --data-root my_data \\
        --train-ann train.json --val-ann val.json --novel "cat,umbrella"
    python apps/ovd_train.py --config apps/configs/ovd/onestage_base_ov_coco.py --amp
    torchrun --nproc-per-node 8 apps/ovd_train.py --config apps/configs/ovd/fvit_base_ov_lvis.py --launcher pytorch

Classes named in --novel keep no training labels and show what the detector does with names it never learned. The
result, epoch_N.pth in --work-dir, finds any class you name:

    python apps/ovd_detect.py fgclip2/assets/images/scene.png --classes "bread, 书包"
"""

from __future__ import annotations

import ast
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from fgclip2.commandline import check_overrides, parse
from fgclip2.console import RESUMABLE, exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.files import set_aside
from fgclip2.pretrained import resolve
from fgclip2.threads import wait_briefly

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

    from fgclip2_mmdet import FGCLIP2Runner
    from fgclip2_mmdet.embedded import EmbeddedConfig
    from fgclip2_mmdet.experiment import DetectionData
    from fgclip2_mmdet.user_data import UserData

CONFIGS: Final = Path(__file__).parent / "configs" / "ovd"
_KEPT: Final = ("*.pth", "*.py", "metrics.json", "last_checkpoint")


_WORK_DIR: Final = Path("work_dirs/ovd")


@dataclass
class Arguments:
    """Train an open-vocabulary detector on the embedded world, on your own COCO data, or on a published dataset."""

    config: Path | None = None
    """mmdetection config; without one configs/ovd/fvit_tiny_openmoji.py, or fvit.py for your own data."""
    model: str | None = None
    """FG-CLIP 2: tiny (embedded, knows only generated scenes), qihoo360/fg-clip2-base, or a directory; without it the
    config's."""
    work_dir: Path = _WORK_DIR
    """Where checkpoints, figures and pictures go; with --data-root its own default, work_dirs/ovd_NAME by the folder's
    name."""
    resume: bool = False
    """Continue from the newest checkpoint in --work-dir."""
    cfg_options: tuple[str, ...] = ()
    """Overrides of config entries, such as optim_wrapper.optimizer.lr=0.0005 train_dataloader.batch_size=4."""
    amp: bool = False
    """Train the heads in bf16 too (the frozen tower runs in bf16 wherever the hardware has it). Leave it out on a
    processor without bf16, which emulates it many times slower than float32."""
    launcher: Literal["none", "pytorch"] = "none"
    """pytorch when torchrun starts this on several GPUs."""
    data_root: Path | None = None
    """Folder of your own data; pictures are looked for in it, in images/, and in a folder named like the split."""
    train_ann: str = ""
    """COCO instance JSON with training labels, below --data-root."""
    val_ann: str = ""
    """COCO instance JSON to evaluate on, with the same categories."""
    novel: str = ""
    """Classes to keep out of training, separated by commas: "cat,umbrella". A comma in a name of your files does not
    cut it."""
    names: Path | None = None
    """What your categories are called in texts: .txt with a name a line in the categories' order, or .json with a list
    of {"name": "sofa", "synonyms": ["couch", "沙发"]}. Where all have English and Chinese names, here or as name_zh in
    the categories, the run is evaluated in both languages. Without it the categories' names and synonyms."""
    epochs: int | None = None
    """Passes over the training pictures; without it the config's."""
    train_scenes: int | None = None
    """Number of generated training pictures (embedded world only)."""
    val_scenes: int | None = None
    """Number of generated held-out pictures to evaluate on (embedded world only)."""
    categories: int | None = None
    """Number of categories that the scenes show; without it all of them (embedded world only)."""
    novel_fraction: float | None = None
    """Share of these that training never sees; without it a quarter (embedded world only)."""
    seed: int = 0
    """Of scenes, initial weights and order."""
    keep: float | None = None
    """Where the config trains the tower, as fvit_finetune.py does: mix this share of the released weights, 0 to 1, back
    into it, which keeps classes without labels. Evaluated under the trained heads, and written as mixed.pth."""
    pictures: int = 12
    """How many evaluated pictures to draw."""
    _started: float = field(default_factory=time.monotonic, init=False, repr=False)

    def __post_init__(self) -> None:
        files = {"--train-ann": self.train_ann, "--val-ann": self.val_ann}
        lacking = [name for name, value in files.items() if not value]
        if self.data_root is not None and lacking:
            raise Fgclip2Error(f"--data-root needs {' and '.join(lacking)}: COCO instance JSON below that folder")
        if self.data_root is None and (len(lacking) < 2 or self.novel or self.names):
            raise Fgclip2Error("--train-ann, --val-ann, --novel and --names belong to your data; give --data-root too")
        if self.data_root is not None and self.world():
            raise Fgclip2Error(f"{self.world()[0]} belongs to the embedded world; leave it out with --data-root")
        counts = {"--epochs": self.epochs, "--train-scenes": self.train_scenes, "--val-scenes": self.val_scenes}
        for name, value in {**counts, "--categories": self.categories}.items():
            if value is not None and value < 1:
                raise Fgclip2Error(f"{name} {value}: give 1 or more")
        if self.novel_fraction is not None and not 0 < self.novel_fraction < 1:
            raise Fgclip2Error(f"--novel-fraction {self.novel_fraction}: give a share between 0 and 1, such as 0.25")
        if self.keep is not None and not 0 < self.keep < 1:
            raise Fgclip2Error(f"--keep {self.keep}: give a share between 0 and 1, such as 0.5")
        if self.config is not None and not self.config.is_file():
            raise Fgclip2Error(f"--config {str(self.config)!r} does not exist; see {CONFIGS}")
        if self.data_root is not None and self.work_dir is _WORK_DIR:  # the folder of `make ovd` stays as it is
            self.work_dir = _WORK_DIR.with_name(f"ovd_{self.data_root.resolve().name}")
        if self.work_dir.exists() and not self.work_dir.is_dir():
            raise Fgclip2Error(f"--work-dir {str(self.work_dir)!r} is a file; give a folder")

    def world(self) -> list[str]:
        """The options that were given and belong to the embedded world."""
        own = ("train_scenes", "val_scenes", "categories", "novel_fraction")
        return [f"--{name.replace('_', '-')}" for name in own if getattr(self, name) is not None]


def run(arguments: Arguments) -> None:
    """Do what the command line says; see the module's text. Everything is checked before anything is written."""
    if arguments.model is not None:
        resolve(arguments.model)
    import fgclip2_mmdet  # noqa: F401  (seconds of imports, so only after the cheap checks)
    from fgclip2_mmdet.experiment import wants_masks
    from fgclip2_mmdet.runner import TRAINED_ON, on_first_process, processes
    from fgclip2_mmdet.trained_on import check_resumable, trained_on
    from fgclip2_mmdet.user_data import UserData, with_masks

    cfg = _read_config(arguments)
    with processes(arguments.launcher, cfg.get("env_cfg", {}).get("dist_cfg")):
        user = _read_user_data(arguments)
        given = _read_benchmark(arguments, cfg) if user is None else user
        if isinstance(given, UserData) and wants_masks(cfg):
            given = with_masks(given)
        resolve(cfg.model.backbone.model)
        scenes = _read_scenes(arguments, wants_masks(cfg))
        _introduce(arguments, cfg, given)
        cfg[TRAINED_ON] = trained_on(scenes if given is None else given, arguments.seed)
        if arguments.resume and (note := check_resumable(arguments.work_dir, cfg[TRAINED_ON])):
            print(note)
        data = on_first_process(lambda: _prepare(arguments, scenes if given is None else given))
        _train_and_evaluate(arguments, cfg, data)


def _introduce(arguments: Arguments, cfg: Config, given: UserData | DetectionData | None) -> None:
    model = cfg.model.backbone.model
    if given is None:
        what = "the embedded model" if model == "tiny" else model
        print(f"Training on {what} and the embedded world: pictures composed of OpenMoji glyphs, made here, offline.")
        print(
            "This shows that everything works and says nothing about photographs. For those, use the released weights:"
        )
        print(
            "  --model qihoo360/fg-clip2-base --data-root DIR --train-ann TRAIN.json --val-ann VAL.json  (see --help)"
        )
    else:
        print(f"Training {model} on {arguments.data_root or cfg.train_dataloader.dataset.data_prefix.img}.")
        if model == "tiny":
            print("The embedded model knows only drawn glyphs; for photographs add --model qihoo360/fg-clip2-base.")


def _read_user_data(arguments: Arguments) -> UserData | None:
    from fgclip2_mmdet.user_data import read_user_data

    if arguments.data_root is None:
        return None
    return read_user_data(arguments.data_root, arguments.train_ann, arguments.val_ann, arguments.novel, arguments.names)


def _read_benchmark(arguments: Arguments, cfg: Config) -> UserData | DetectionData | None:
    from fgclip2_mmdet.datasets import read_benchmark

    given = read_benchmark(cfg)
    if given is not None and arguments.world():
        raise Fgclip2Error(f"{arguments.world()[0]} belongs to the embedded world, not to {arguments.config}")
    return given


def _read_scenes(arguments: Arguments, masks: bool) -> EmbeddedConfig:
    from fgclip2.data.openmoji import World
    from fgclip2_mmdet.embedded import EmbeddedConfig, split_categories

    asked = {"train": arguments.train_scenes, "val": arguments.val_scenes}
    given = {part: count for part, count in asked.items() if count is not None}
    config = EmbeddedConfig.parted(
        arguments.categories, arguments.novel_fraction, seed=arguments.seed, masks=masks, **given
    )
    split_categories(World(), config)  # it may have fewer
    return config


def _read_config(arguments: Arguments) -> Config:
    from fgclip2_mmdet.datasets import KEY, restore_files
    from fgclip2_mmdet.experiment import check_options, dotted, set_epochs, settings
    from fgclip2_mmdet.inference import read_config

    default = "fvit_tiny_openmoji.py" if arguments.data_root is None else "fvit.py"
    cfg = read_config(arguments.config or CONFIGS / default)
    restore_files(cfg)
    if arguments.amp:
        cfg.optim_wrapper.type = "Bf16OptimWrapper"
    hooks = cfg.get("custom_hooks", [])
    given = {hook["type"] for hook in hooks}  # the config that a run left has them
    added = [{"type": kind} for kind in ("FiniteUpdateHook", "ProgressHook") if kind not in given]
    cfg.custom_hooks = [*hooks, *added]
    if arguments.epochs is not None:
        set_epochs(cfg, arguments.epochs)
    options = dict(_option(text) for text in arguments.cfg_options)
    names = [f"{name}={text}" for text in arguments.cfg_options for name in dotted(dict([_option(text)]))]
    check_overrides(names, settings(cfg, KEY))
    check_options(options, published=KEY in cfg and arguments.data_root is None)
    if arguments.model is not None and "model.backbone.model" in options:
        raise Fgclip2Error("--model and --cfg-options model.backbone.model were both given; give one of them")
    cfg.merge_from_dict(options)
    if arguments.model is not None:
        cfg.model.backbone.model = arguments.model
    if arguments.keep is not None and not cfg.model.backbone.get("trainable_blocks"):
        raise Fgclip2Error(
            "--keep: this config's tower is frozen and forgets nothing; leave it out, or train with fvit_finetune.py"
        )
    return cfg


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise Fgclip2Error(f"--cfg-options {text!r}: give key=value, such as optim_wrapper.optimizer.lr=0.0005")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _set_aside(work_dir: Path) -> None:
    """Move an earlier run's results into a folder of their own, so that --resume cannot mix two runs.

    A run that was stopped before its first checkpoint has only a config, which goes: beside the new run's it would make
    two.
    """
    if not any(work_dir.glob("*.pth")):
        for path in filter(_left_by_a_run, work_dir.glob("*.py")):
            path.unlink()
        return
    place = set_aside(work_dir, _KEPT)
    print(f"an earlier run's checkpoints were moved to {place} (--resume would have continued it)")


def _left_by_a_run(config: Path) -> bool:
    """Whether it is as a run writes its config: nothing but entries, work_dir among them; no program of the user's."""
    try:
        lines = ast.parse(config.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return False
    names = {ast.unparse(line.targets[0]) for line in lines if isinstance(line, ast.Assign)}
    return all(isinstance(line, ast.Assign) for line in lines) and "work_dir" in names


def _prepare(arguments: Arguments, given: UserData | DetectionData | EmbeddedConfig) -> DetectionData:
    """Make room in the work directory, and write what the run reads."""
    from fgclip2_mmdet.embedded import EmbeddedConfig, prepare
    from fgclip2_mmdet.experiment import from_embedded
    from fgclip2_mmdet.user_data import UserData, write_user_data

    if not arguments.resume:
        _set_aside(arguments.work_dir)
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    if not isinstance(given, EmbeddedConfig):
        data = write_user_data(given, arguments.work_dir / "annotations") if isinstance(given, UserData) else given
        print(*data.notes, sep="\n")
        return data
    embedded = prepare(arguments.work_dir / "scenes", given, progress=_Scenes())
    print(
        f"{given.train} training scenes show {given.base} base categories; {given.val} held-out scenes show these "
        f"and {given.novel} novel ones."
    )
    print(
        "Novel means: the detector is never shown them, in pictures or labels. (The frozen tower knows all categories.)"
    )
    return from_embedded(embedded)


class _Scenes:
    """Progress of drawing, a line every quarter."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, done: int, total: int) -> None:
        quarter = 4 * done // total
        if quarter > self.told:
            self.told = quarter
            print(f"  drawing scenes: {done}/{total}", flush=True)


def _train_and_evaluate(arguments: Arguments, cfg: Config, data: DetectionData) -> None:
    from mmengine.dist import get_world_size, is_main_process
    from rich.console import Console

    from fgclip2_mmdet import FGCLIP2Runner, OpenVocabCocoMetric
    from fgclip2_mmdet.experiment import fill_config, fit_warm_up, further_metrics, summary
    from fgclip2_mmdet.forgetting import forgetting_table, write_mixed
    from fgclip2_mmdet.report import draw_predictions, figures_tables, judged_classes, write_metrics, write_reports
    from fgclip2_mmdet.runner import checkpoints, unwrapped

    work_dir = arguments.work_dir
    fill_config(cfg, data, None, work_dir, arguments.seed)
    cfg.resume = arguments.resume
    cfg.launcher = arguments.launcher
    pictures = len(json.loads(data.train_annotations.read_text(encoding="utf-8"))["images"])
    batch = cfg.train_dataloader.batch_size * get_world_size()
    iterations = -(-pictures // batch) * cfg.train_cfg.max_epochs
    if note := fit_warm_up(cfg, iterations):
        print(note)
    runner = FGCLIP2Runner.from_cfg(cfg)
    times = {"preparation": time.monotonic()}
    runner.train()
    times["training"] = time.monotonic()
    metrics = [metric for metric in runner.test_loop.evaluator.metrics if isinstance(metric, OpenVocabCocoMetric)]
    prefixes = {metric.prefix for metric in metrics}
    released, others = _other_towers(arguments, cfg, runner, prefixes)
    found = runner.test()
    figures = summary(found, prefixes)
    times["evaluation"] = time.monotonic()
    if not is_main_process():
        return
    # What took hours to find is written before anything that might fail.
    checkpoint = checkpoints(work_dir)[0]
    if arguments.keep is not None:
        write_mixed(checkpoint, work_dir / "mixed.pth", released, arguments.keep)
    further = further_metrics(found, prefixes)
    content = {
        "metrics": figures,
        **({"further_metrics": further} if further else {}),
        "classes": {"base": len(data.base), "novel": len(data.novel)},
        "pictures": {"train": len(runner.train_dataloader.dataset), "val": len(runner.test_dataloader.dataset)},
        "model": cfg.model.backbone.model,
        "model_hash": unwrapped(runner.model).backbone.weights_hash,
        "epochs": runner.max_epochs,
        "seed": arguments.seed,
        **({"towers": {f"{share:g} released": each for share, each in others.items()}} if others else {}),
    }
    write_metrics(work_dir / "metrics.json", {**content, "seconds": _seconds(arguments._started, times)})
    evaluations = {metric.prefix: metric.evaluation for metric in metrics if metric.evaluation is not None}
    judged = judged_classes(next(iter(evaluations.values()))) if evaluations else None
    Console(width=100).print(*figures_tables(figures, data, judged=judged), sep="\n")
    if others:
        Console(width=100).print(forgetting_table({**others, 0.0: figures}))
    for name, value in further.items():
        print(f"{name}: {value}")
    drawn = draw_predictions(
        unwrapped(runner.model), runner.test_dataloader.dataset, data, work_dir / "predictions", arguments.pictures
    )
    reports = write_reports(evaluations, data, work_dir / "report")
    times["reports"] = time.monotonic()
    write_metrics(work_dir / "metrics.json", {**content, "seconds": _seconds(arguments._started, times)})
    print(f"checkpoint: {checkpoint}")
    if arguments.keep is not None:
        print(f"mixed:      {work_dir / 'mixed.pth'} ({arguments.keep:g} released)")
    print(f"config:     {work_dir / Path(cfg.filename).name}")
    print(f"figures:    {work_dir / 'metrics.json'}")
    if drawn:
        print(f"pictures:   {drawn[0].parent}{os.sep} ({len(drawn)} with detections)")
    if reports:
        print(f"report:     {reports[0].parent}{os.sep} ({', '.join(file.name for file in reports)})")
    print(f'try it:     python apps/ovd_detect.py PICTURE --checkpoint {work_dir} --classes "dog, 红色汽车"')
    print(f"{(time.monotonic() - arguments._started) / 60:.1f} minutes in all")


def _seconds(started: float, ends: dict[str, float]) -> dict[str, float]:
    """How long each part took, from when it and those before ended."""
    starts = [started, *ends.values()]
    return {name: round(end - start, 1) for (name, end), start in zip(ends.items(), starts, strict=False)}


def _other_towers(
    arguments: Arguments, cfg: Config, runner: FGCLIP2Runner, vocabularies: Collection[str]
) -> tuple[dict[str, Tensor], dict[float, dict[str, dict[str, float]]]]:
    """A trained tower's released weights, and the figures with all of them, and with those that --keep mixes in.

    The heads stay those that were trained on the trained tower.
    """
    from fgclip2_mmdet.experiment import summary
    from fgclip2_mmdet.forgetting import RELEASED, mixed_tower, released_weights
    from fgclip2_mmdet.runner import unwrapped

    backbone = unwrapped(runner.model).backbone
    if not backbone.trainable_blocks:
        return {}, {}
    released = released_weights(backbone, cfg.model.backbone.model)
    figures = {}
    for share in (RELEASED, *([] if arguments.keep is None else [arguments.keep])):
        print(f"the trained heads on {share:g} of the released tower")
        with mixed_tower(backbone, released, share):
            figures[share] = summary(runner.test(), vocabularies)
    return released, figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, 2 after an error that the user can mend, 130 after Ctrl-C."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="mmengine|mmdet|mmcv|torch")
    logging.getLogger("mmengine").setLevel(logging.ERROR)
    wait_briefly()
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)), RESUMABLE)


if __name__ == "__main__":
    sys.exit(main())

"""mmengine's Runner with checkpoints that survive ``kill -9`` and are read without pickle's dangers."""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from pprint import pformat
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_main_process, master_only
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from fgclip2.errors import Fgclip2Error

FACTS = "fgclip2"
TRAINED_ON = "trained_on"
"""Entry of a config: what `fgclip2_mmdet.trained_on` says of the run's data and seed, kept in every checkpoint."""
T = TypeVar("T")
# By type(), not isinstance(): numpy's float64 is a float, and a weights-only load refuses it.
_PLAIN = (int, float, str, bool, list)
_STEP = re.compile(r"(epoch|iter)_(\d+)\.pth")


def read_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """A detector checkpoint's content; only tensors and plain values are accepted.

    Raises:
        Fgclip2Error: no such file, a torn file, or one that holds other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise Fgclip2Error(f"no checkpoint {path}; ovd_train.py writes epoch_N.pth into its work directory")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises a dozen types for torn and foreign files
        raise Fgclip2Error(
            f"{path} is not a readable detector checkpoint: it is incomplete, no checkpoint, or holds other objects "
            "than tensors"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise Fgclip2Error(f"{path} holds no detector weights; give an epoch_N.pth that ovd_train.py wrote")
    return content


def load_weights(model: nn.Module, content: dict[str, Any], path: str | Path, *, compare_classes: bool = True) -> None:
    """Load a checkpoint's weights strictly.

    Args:
        model: the detector.
        content: from `read_checkpoint`.
        path: for messages.
        compare_classes: refuse a checkpoint of other training classes. No weight depends on them, so a new training
            may start from one.

    Raises:
        Fgclip2Error: weights that belong to another config or another FG-CLIP 2 model, named.
    """
    module = unwrapped(model)
    stored, own = content.get("meta", {}).get(FACTS, {}), facts(module)
    compared = {"model": "FG-CLIP 2 weights"} | ({"classes": "training classes"} if compare_classes else {})
    for key, what in compared.items():
        if key in stored and key in own and stored[key] != own[key]:
            raise Fgclip2Error(
                f"{path} belongs to another config: it was trained with {what} {_short(stored[key])}, this run has "
                f"{_short(own[key])}; give the config it was trained with, or another work directory"
            )
    state = {re.sub(r"^module\.", "", name): tensor for name, tensor in content["state_dict"].items()}
    expected = module.state_dict()
    problems = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "misshapen": sorted(n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape),
    }
    found = "; ".join(f"{len(names)} {what}, e.g. {names[0]}" for what, names in problems.items() if names)
    if found:
        raise Fgclip2Error(f"{path} belongs to another config ({found}); give the config it was trained with")
    module.load_state_dict(state)


def check_trained_on(path: str | Path, content: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Check that a checkpoint to go on from is of the run's data and seed.

    Args:
        path: for messages.
        content: from `read_checkpoint`.
        own: the run's entry `TRAINED_ON`.

    Returns:
        Whether both say what they were trained on; an earlier version's checkpoints do not.

    Raises:
        Fgclip2Error: of something else; both are named.
    """
    stored = content.get("meta", {}).get(FACTS, {})
    for key, what in (("data", "data"), ("seed", "seed")):
        if key in stored and key in own and stored[key] != own[key]:
            raise Fgclip2Error(
                f"{path} was trained with other {what}: {stored[key]}; this run has {own[key]}. Resume with what it "
                "was trained on, or leave out --resume for a new run"
            )
    return "data" in stored and "data" in own


def facts(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint says about its detector, beside the weights."""
    found = {
        "model": getattr(getattr(model, "backbone", None), "weights_hash", None),
        "classes": list(getattr(model, "trained_classes", ())),
    }
    return {name: value for name, value in found.items() if value}


def unwrapped(model: Any) -> Any:
    """The detector itself, without the wrapper of a distributed run."""
    return model.module if is_model_wrapper(model) else model


def _short(value: Any) -> str:
    return f"({len(value)}: {', '.join(value[:3])}, ...)" if isinstance(value, list) else str(value)


def checkpoints(work_dir: str | Path) -> list[Path]:
    """Complete checkpoints of a work directory, newest first; half-written ones never carry the name."""
    found = [(int(match[2]), path) for path in Path(work_dir).glob("*.pth") if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


@contextlib.contextmanager
def processes(launcher: str, settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, NCCL between GPUs and gloo without; only the first one prints.

    Args:
        launcher: ``none`` or ``pytorch``.
        settings: a config's ``env_cfg.dist_cfg``: ``timeout`` in seconds and what else mmengine's ``init_dist`` takes.
            ``backend`` is for GPUs; without any it is gloo whatever it says.

    Raises:
        Fgclip2Error: ``pytorch`` without ``torchrun``, or ``none`` with it.
    """
    if launcher == "none":
        world = os.environ.get("WORLD_SIZE", "1")
        if world.isdigit() and int(world) > 1:  # each would be the first process, and all write into one folder
            raise Fgclip2Error(f"torchrun started {world} processes; add --launcher pytorch")
        yield
        return
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        raise Fgclip2Error("--launcher pytorch: start with torchrun --nproc-per-node N apps/ovd_train.py ...")
    if torch.cuda.is_available():
        init_dist(launcher, **(settings or {}))
    else:
        timeout = (settings or {}).get("timeout")
        limit = None if timeout is None else timedelta(seconds=timeout)
        torch.distributed.init_process_group("gloo", timeout=limit)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as stack:
            if not is_main_process():
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    finally:
        torch.distributed.destroy_process_group()


def on_first_process(function: Callable[[], T]) -> T:
    """Call a function on the first process alone, and give all of them what it returned."""
    results: list[Any] = [function() if is_main_process() else None]
    broadcast_object_list(results)
    return results[0]


@RUNNERS.register_module()
class FGCLIP2Runner(Runner):
    """mmengine's Runner; checkpoints are written under a temporary name, flushed and renamed, and read strictly."""

    _resume: bool
    _load_from: str | None

    @classmethod
    def from_cfg(cls, cfg: Config) -> FGCLIP2Runner:
        """As mmengine's, but the config's text is not formatted with yapf, eight times a run and a second each."""
        return super().from_cfg(Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False))

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """As mmengine's, which expects a GPU for every process; gloo on processors does without."""
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            model_wrapper_cfg = {"type": "MMDistributedDataParallel", "broadcast_buffers": False, "device_ids": None}
        return super().wrap_model(model_wrapper_cfg, model)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write ``out_dir/filename`` atomically."""
        temporary = f".{filename}.tmp"
        super().save_checkpoint(out_dir, temporary, *args, **kwargs)
        if not is_main_process():
            return
        source, target = Path(out_dir) / temporary, Path(out_dir) / filename
        with source.open("rb") as file:
            os.fsync(file.fileno())
        source.replace(target)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """mmengine's hook calls; a checkpoint is stripped to tensors and plain values before it is written."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == "before_save_checkpoint":
            checkpoint = kwargs["checkpoint"]
            # Log buffers are objects of mmengine's, which a weights-only load refuses; they only smooth printed losses.
            checkpoint["message_hub"] = {
                "log_scalars": OrderedDict(),
                "runtime_info": OrderedDict(
                    (key, value)
                    for key, value in checkpoint["message_hub"]["runtime_info"].items()
                    if type(value) in _PLAIN
                ),
                "resumed_keys": OrderedDict(),
            }
            dataset_meta = checkpoint["meta"].get("dataset_meta")
            if dataset_meta is not None:
                checkpoint["meta"]["dataset_meta"] = dict(dataset_meta)
            checkpoint["meta"][FACTS] = {**facts(unwrapped(self.model)), **self.cfg.get(TRAINED_ON, {})}

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read and load ``filename``; see `read_checkpoint` and `load_weights` for errors."""
        content = read_checkpoint(filename, map_location)
        if self._resume:
            check_trained_on(filename, content, self.cfg.get(TRAINED_ON, {}))
        load_weights(self.model, content, filename, compare_classes=self._resume)
        epochs = content.get("message_hub", {}).get("runtime_info", {}).get("max_epochs")
        if self._resume and epochs not in (None, self.max_epochs):
            raise Fgclip2Error(
                f"{filename} is of a run of {epochs} epochs, whose learning rates end there; this one has "
                f"{self.max_epochs}. Resume with {epochs}, or start a new run"
            )
        self._has_loaded = True
        return content

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work directory; when resuming, only once the checkpoint was found to fit it."""
        if self._resume and not self._has_loaded:
            return
        target = Path(self.work_dir) / Path(self.cfg.filename or "config.py").name
        temporary = target.with_name(f".{target.name}")
        entries = self.cfg.to_dict().items()
        text = "\n".join(f"{key} = {pformat(value, width=120, sort_dicts=False)}" for key, value in entries)
        temporary.write_text(f"{text}\n", encoding="utf-8")
        temporary.replace(target)

    def load_or_resume(self) -> None:
        """As mmengine's, but the newest readable checkpoint is looked for, not taken from a pointer file."""
        if self._resume and self._load_from is None and not self._has_loaded:
            for path in checkpoints(self.work_dir):
                try:
                    read_checkpoint(path)
                except Fgclip2Error as error:
                    self.logger.warning(f"{error}; trying the one before")
                    continue
                self._load_from = str(path)
                break
            else:
                self._resume = False
        super().load_or_resume()
        self.dump_config()

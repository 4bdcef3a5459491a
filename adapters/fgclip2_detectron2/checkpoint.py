"""Checkpoints of segmentors and Mask R-CNNs: written whole or not at all, and enough to build the model again."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.predictor import find_device

from .mask_rcnn import OpenVocabMaskRCNN, build_mask_rcnn
from .segmentor import OpenVocabSegmentor, build_segmentor

Model: TypeAlias = OpenVocabSegmentor | OpenVocabMaskRCNN

_FACTS: Final = "fgclip2"
_LAST: Final = "last_checkpoint"


class SegmentorCheckpointer(Checkpointer):
    """fvcore's checkpointer with atomic writes, and facts about the model beside its weights.

    Args:
        model: the model, or its distributed wrapper.
        save_dir: the folder.
        facts: plain values to keep, see `facts_of`.
        **others: more to save, such as ``trainer``.
    """

    def __init__(self, model: nn.Module, save_dir: str | Path, facts: dict[str, Any], **others: Any) -> None:
        super().__init__(model, str(save_dir), **others)
        self.facts = facts

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``NAME.pth`` and make it the newest.

        Raises:
            Fgclip2Error: a weight is NaN or infinite.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        _check_finite(self.model.state_dict(), f"{name}.pth is not written")
        content = {"model": self.model.state_dict(), _FACTS: self.facts, **kwargs}
        content |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(Path(self.save_dir) / f"{name}.pth", buffer.getvalue())
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which file is the newest."""
        write_atomically(Path(self.save_dir) / _LAST, last_filename_basename.encode())

    def _load_file(self, f: str) -> dict[str, Any]:
        content = read_checkpoint(f)
        # What an older checkpoint does not say cannot differ.
        differing = [key for key, value in self.facts.items() if content[_FACTS].get(key, value) != value]
        if differing:
            raise Fgclip2Error(
                f"{f} is of another run: its {', '.join(differing)} differ. Resume with the same settings, or start a "
                "new run in another folder"
            )
        return content


def _check_finite(state: Mapping[str, Any], what: str) -> None:
    wrong = [
        name
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if wrong:
        raise Fgclip2Error(
            f"{what}: {len(wrong)} of {len(state)} weights are NaN or infinite, such as {wrong[0]}; take an earlier "
            "checkpoint, or train with a lower train.lr"
        )


def facts_of(model: Model, **more: Any) -> dict[str, Any]:
    """What a checkpoint says of its model: how it was built, the tower's hash, and ``more`` plain values."""
    instances = isinstance(model, OpenVocabMaskRCNN)
    return {"options": model.options, "hash": model.backbone.weights_hash, "instances": instances, **more}


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint itself, or the newest of a work directory.

    Raises:
        Fgclip2Error: there is none.
    """
    path = Path(path)
    if path.is_dir() and (path / _LAST).is_file():
        path = path / (path / _LAST).read_text(encoding="utf-8").strip()
    if not path.is_file():
        raise Fgclip2Error(
            f"no checkpoint in {str(path)!r}; give a work directory of seg_train.py or a .pth file in it, or train one "
            "with: python apps/seg_train.py"
        )
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint; only tensors and plain values are accepted.

    Raises:
        Fgclip2Error: the file is damaged, or no checkpoint of a segmentor.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Fgclip2Error(f"{str(path)!r} cannot be read as a checkpoint ({reason:.100})") from error
    if not isinstance(content, dict) or not {"model", _FACTS} <= content.keys():
        raise Fgclip2Error(f"{str(path)!r} is no checkpoint of seg_train.py")
    return content


def read_facts(path: str | Path) -> dict[str, Any]:
    """What the checkpoint, or the newest one of a work directory, says of its model; see `facts_of`."""
    return dict(read_checkpoint(find_checkpoint(path))[_FACTS])


def load_model(
    path: str | Path, model: str | None = None, device: str | torch.device = "auto", **changed: Any
) -> tuple[Model, dict[str, Any]]:
    """A trained segmentor or Mask R-CNN, ready for `OpenVocabulary.set_vocabularies`.

    Args:
        path: a checkpoint, or a work directory.
        model: where its FG-CLIP 2 is, when it has moved; ``None`` takes the one of the training.
        device: ``auto``, or a torch device.
        **changed: arguments of its builder that no weight depends on, in place of those of the training.

    Returns:
        The model in evaluation mode, and the checkpoint's facts.

    Raises:
        Fgclip2Error: no such checkpoint, another FG-CLIP 2 than it was trained on, weights that are not finite, or
            ``changed`` that its weights do not fit.
    """
    file = find_checkpoint(path)
    content = read_checkpoint(file)
    facts: dict[str, Any] = content[_FACTS]
    options = {**facts["options"], **changed, **({} if model is None else {"model": model})}
    built: Model
    if facts.get("instances", False):
        built = build_mask_rcnn(**options)
        built.know(name for names in facts["names"].values() for name in names)
    else:
        built = build_segmentor(**options)
    if built.backbone.weights_hash != facts["hash"]:
        raise Fgclip2Error(
            f"{file} was trained on FG-CLIP 2 {facts['options']['model']!r} (hash {facts['hash'][:12]}), but "
            f"{built.options['model']!r} has hash {built.backbone.weights_hash[:12]}; name the right one"
        )
    _check_finite(content["model"], f"{file} is of no use")
    try:
        built.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        differing = [key for key, value in changed.items() if facts["options"].get(key) != value]
        whose = f"what was changed ({', '.join(differing)})" if differing else "its own description"
        raise Fgclip2Error(f"{file} does not fit {whose}: {reason}") from error
    return built.to(find_device(device)).eval(), facts


def load_segmentor(
    path: str | Path, model: str | None = None, device: str | torch.device = "auto"
) -> tuple[OpenVocabSegmentor, dict[str, Any]]:
    """`load_model` of a segmentor.

    Raises:
        Fgclip2Error: as `load_model`, or a checkpoint of a Mask R-CNN.
    """
    found, facts = load_model(path, model, device)
    if not isinstance(found, OpenVocabSegmentor):
        raise Fgclip2Error(f"{str(path)!r} is a Mask R-CNN, which finds instances; load it with load_model")
    return found, facts

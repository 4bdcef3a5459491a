"""What a run learns from, in a line with a hash: checkpoints carry it, so that none is gone on from with other data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fgclip2.errors import Fgclip2Error

from .embedded import EmbeddedConfig, fingerprint
from .experiment import DetectionData
from .runner import check_trained_on, checkpoints, read_checkpoint
from .user_data import UserData, training_content


def trained_on(given: UserData | DetectionData | EmbeddedConfig, seed: int) -> dict[str, Any]:
    """For a config's entry `fgclip2_mmdet.runner.TRAINED_ON`; nothing is written for it.

    Annotations and names of classes count; where the pictures lie, and what is held out, do not.

    Args:
        given: the run's data, checked.
        seed: the run's.
    """
    if isinstance(given, EmbeddedConfig):
        return {"data": fingerprint(given), "seed": seed}
    if isinstance(given, UserData):
        name, digest = given.train.annotation_file.name, hashlib.sha256(training_content(given))
    else:
        with given.train_annotations.open("rb") as stream:
            name, digest = given.train_annotations.name, hashlib.file_digest(stream, "sha256")
    names = next(iter(given.vocabularies.values()), given.classes)
    synonyms = next(iter(given.synonyms.values()), [])
    digest.update(json.dumps([list(names), synonyms, given.novel], ensure_ascii=False).encode())
    base = len(given.classes) - len(given.novel)
    return {"data": f"{name} with {base} training classes ({digest.hexdigest()[:12]})", "seed": seed}


def check_resumable(work_dir: Path, own: dict[str, Any]) -> str:
    """Check, before anything is written, that a work directory's newest readable checkpoint is of the same data.

    Args:
        work_dir: of the run that is to go on.
        own: from `trained_on`.

    Returns:
        What the user should know; empty for nothing.

    Raises:
        Fgclip2Error: it is of other data or of another seed; both are named.
    """
    for path in checkpoints(work_dir):
        try:
            content = read_checkpoint(path)
        except Fgclip2Error:  # torn: the runner says so, and takes the one before as well
            continue
        if check_trained_on(path, content, own):
            return ""
        return f"{path} does not say what it was trained on: give the same data and seed as then"
    return f"nothing to resume in {work_dir}: no finished epoch; starting from the beginning"

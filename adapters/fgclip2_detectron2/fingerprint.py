"""What a run was trained on, as one text: a run is not resumed on other data of the same size."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detectron2.data import DatasetCatalog

from .datasets import class_set

_SAMPLED: Final = 64  # files whose contents count; of the others names and sizes do
_KEYS: Final = ("file_name", "sem_seg_file_name")


def data_fingerprint(dataset: str) -> str:
    """Hash of a registered set: names and sizes of its files, contents of some, its classes, values and objects.

    The folder does not count, so that data may move. Generated scenes have no files; their config describes them.

    Args:
        dataset: name of the registered set.
    """
    records: Sequence[Mapping[str, Any]] = DatasetCatalog.get(dataset)
    digest = hashlib.sha256()
    for part in _described(dataset, records):
        digest.update(json.dumps(part, ensure_ascii=False, default=repr).encode("utf-8", "surrogateescape"))
    for key in _KEYS:
        files = [record[key] for record in records if key in record]
        for place in sorted(
            {round(index * (len(files) - 1) / _SAMPLED) for index in range(_SAMPLED + 1)} if files else ()
        ):
            digest.update(hashlib.sha256(Path(files[place]).read_bytes()).digest())
    return digest.hexdigest()


def _described(dataset: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    data = class_set(dataset)
    yield sorted(data.novel), data.names, len(records), getattr(getattr(data, "load", None), "form", None)
    for key in _KEYS:
        files = [record[key] for record in records if key in record]
        root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
        for file in files:
            yield os.path.relpath(file, root), os.path.getsize(file)
    for record in records:
        for item in record.get("things", ()):
            yield item.category_id, item.box, item.is_crowd or item.is_ignored, item.segmentation

"""Parquet files with the fields of FineHARD as columns, read row group by row group."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np

from fgclip2.data.finehard import is_marked, make_record
from fgclip2.data.records import Record, RecordError, check_index
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras

_log = logging.getLogger(__name__)
_COLUMNS: Final = ("f_path", "image", "caption", "short_caption", "short_caption_negs", "is_cn", "bbox_info")
_KEPT_GROUPS: Final = 4


class ParquetRecords:
    """The rows of one Parquet file.

    Columns: ``short_caption``; the picture as ``f_path`` or as ``image`` (encoded bytes, or a struct with ``bytes``);
    where there are, ``caption``, ``short_caption_negs`` (list of texts), ``is_cn`` (neither null nor false: Chinese)
    and ``bbox_info`` (list of structs, or JSON text). Others are not read, and named in a warning. A row is read with
    its whole row group, of which the last few are kept: for training in random order, write small row groups
    (``row_group_size=64`` when pictures are inside).

    Args:
        path: the file.
        image_root: the folder that ``f_path`` is relative to.

    Raises:
        Fgclip2Error: pyarrow is not installed, or the file is damaged or lacks a column.
    """

    def __init__(self, path: Path, image_root: Path) -> None:
        self.path, self.image_root = path, image_root
        self._groups: OrderedDict[int, Any] = OrderedDict()
        arrow = _arrow()
        try:
            with arrow.parquet.ParquetFile(path) as file:
                found = set(file.schema_arrow.names)
                self._columns = [name for name in _COLUMNS if name in found]
                sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
                marks = file.read(["is_cn"], use_threads=False)["is_cn"].to_pylist() if "is_cn" in found else []
        except (arrow.ArrowException, OSError) as error:
            raise Fgclip2Error(f"{path} cannot be read as Parquet ({error}); fetch or write it again") from error
        if "short_caption" not in found or not found & {"f_path", "image"}:
            raise Fgclip2Error(
                f"{path} has the columns {', '.join(sorted(found))}; needed are short_caption, and f_path or image"
            )
        unread = sorted(found.difference(_COLUMNS))
        if unread:
            _log.warning("%s: columns that are not read: %s", path.name, ", ".join(unread))
        self._ends = np.cumsum([0, *sizes])[1:]
        self.languages = np.array([is_marked(mark) for mark in marks] or np.zeros(sum(sizes)), np.uint8)

    def __len__(self) -> int:
        return len(self.languages)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_groups": OrderedDict()}

    def __getitem__(self, index: int) -> Record:
        check_index(index, len(self))
        name = f"{self.path.name}#{index}"
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[group - 1]) if group else 0)
        fields = self._group(group, name).slice(row, 1).to_pylist()[0]
        image = fields.get("image")
        if isinstance(image, dict):
            image = image.get("bytes")
        if image is not None and not isinstance(image, bytes):
            raise RecordError(name, f"its image is {type(image).__name__} instead of encoded bytes")
        return make_record(fields, name, self.image_root, image, "zh" if is_marked(fields.get("is_cn")) else "en")

    def _group(self, number: int, name: str) -> Any:
        if number not in self._groups:
            arrow = _arrow()
            try:
                # Opened anew, and without threads: neither open files nor threads survive a fork into a worker.
                with arrow.parquet.ParquetFile(self.path) as file:
                    table = file.read_row_group(number, columns=self._columns, use_threads=False)
            except (arrow.ArrowException, OSError) as error:
                raise RecordError(name, f"row group {number} of {self.path.name} cannot be read ({error})") from error
            self._groups[number] = table
            while len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]


def _arrow() -> Any:
    with extras("train"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow

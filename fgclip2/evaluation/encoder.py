"""Encoding what benchmarks ask for: every distinct picture and text once, by any number of processes, resumable.

All tasks say first what they want; then each picture is read and run through the tower once, whatever the number of
its boxes and of the benchmarks that it occurs in. What is computed together (a *chunk*) does not depend on the number
of processes, and a chunk is stored whole or not at all: so one process and several, and a run that was interrupted,
give the same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.records import Box
from fgclip2.evaluation.sharing import Kept
from fgclip2.evaluation.store import VectorStore, digest, image_key, region_key, text_key
from fgclip2.features import DenseFeatures, check_boxes
from fgclip2.images import open_image
from fgclip2.progress import progress

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2
    from fgclip2.processing import TextKind

_log = logging.getLogger(__name__)

_PICTURES_A_CHUNK: Final = 32
_TEXTS_A_CHUNK: Final = 512

Sight: TypeAlias = "tuple[Path, int | None]"
"""A picture at a patch budget; None is its own bucket."""


@dataclass
class Wants:
    """What benchmarks ask to be encoded; several can be added up.

    Attributes:
        whole: pictures whose global features are wanted, in order.
        boxes: regions that are wanted, by picture, in order.
        texts: texts and their head, in order.
    """

    whole: dict[Sight, None] = field(default_factory=dict)
    boxes: dict[Sight, dict[Box, None]] = field(default_factory=dict)
    texts: dict[tuple[str, TextKind], None] = field(default_factory=dict)

    def add_text(self, texts: Iterable[str], kind: TextKind) -> None:
        """Ask for texts."""
        self.texts |= dict.fromkeys((text, kind) for text in texts)

    def add_boxes(self, image: Path, boxes: Iterable[Box], max_patches: int | None = None) -> None:
        """Ask for regions of a picture."""
        self.boxes.setdefault((image, max_patches), {}).update(dict.fromkeys(boxes))

    def merge(self, other: Wants) -> None:
        """Ask for what ``other`` asks for as well."""
        self.whole |= other.whole
        self.texts |= other.texts
        for (image, max_patches), boxes in other.boxes.items():
            self.add_boxes(image, boxes, max_patches)


@dataclass
class _Job:
    """What to compute of one picture."""

    path: Path
    content: bytes
    max_patches: int | None
    whole: bool = False
    boxes: dict[Box, None] = field(default_factory=dict)


class Encoder:
    """Features from the store, computed where they are not there yet.

    Args:
        model: what computes them.
        store: where they are kept.

    Attributes:
        failures: why a picture, or a box of it, could not be used, by its path or path and box.
        encoded: pictures that this process ran through the tower.
        embedded: texts that this process ran through the tower.
        kept: what tasks found of single pictures with this model, beside its features.
    """

    def __init__(self, model: FGCLIP2, store: VectorStore) -> None:
        self.model, self.store = model, store
        self.kept: Kept | None = Kept(store.folder / "pictures")
        self.failures: dict[Path | tuple[Path, Box], str] = {}
        self.encoded = self.embedded = 0
        self._digests: dict[Path, bytes | None] = {}

    def prepare(self, wants: Wants) -> None:
        """Compute what is not in the store; called by all processes of a run with the same wants."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        missing = [(text, kind) for text, kind in wants.texts if text_key(text, kind) not in self.store]
        todo = self._missing(wants)
        _wait()  # no process writes before all have looked, so that all see the same things missing
        for chunk in list(_chunks(sorted(missing, key=lambda pair: pair[1]), _TEXTS_A_CHUNK))[rank::world]:
            self._embed(chunk)
        chunks = list(_chunks(todo, _PICTURES_A_CHUNK))[rank::world]
        for part in progress(
            chunks, desc="pictures", unit=f"x {_PICTURES_A_CHUNK} picture", disable=not chunks or rank > 0
        ):
            self._encode(part)
        _wait()
        self.store.reload()
        if world > 1:
            gathered: list[Any] = [None] * world
            dist.all_gather_object(gathered, self.failures)
            for failures in gathered:
                self.failures |= failures

    def images(self, paths: Sequence[Path], max_patches: int | None = None) -> tuple[Tensor, Tensor]:
        """Global features (N, D) on the model's device, and which pictures could be read (N,) bool."""
        contents = [self._content(path) for path in paths]
        return self._get([b"" if content is None else image_key(content, max_patches) for content in contents])

    def regions(self, places: Sequence[tuple[Path, Box]], max_patches: int | None = None) -> tuple[Tensor, Tensor]:
        """Features (M, D) of boxes in pictures, and which could be used (M,) bool."""
        keys = []
        for path, box in places:
            content = self._content(path)
            keys.append(b"" if content is None else region_key(content, max_patches, box))
        return self._get(keys)

    def texts(self, texts: Sequence[str], kind: TextKind) -> Tensor:
        """Features (T, D)."""
        vectors, found = self._get([text_key(text, kind) for text in texts])
        if not bool(found.all()):
            raise Fgclip2Error(f"{int((~found).sum())} texts were not prepared; add them to the wants first")
        return vectors

    def reason(self, path: Path, box: Box | None = None) -> str:
        """Why a picture or its box could not be used."""
        found = self.failures.get(path) or (None if box is None else self.failures.get((path, box)))
        return found or "has the same content as another picture that cannot be used so"

    def _get(self, keys: list[bytes]) -> tuple[Tensor, Tensor]:
        vectors, found = self.store.get(keys)
        return vectors.to(self.model.device), found.to(self.model.device)

    def _content(self, path: Path) -> bytes | None:
        """Digest of a file; None, and a failure is noted, when it cannot be read."""
        if path not in self._digests:
            try:
                self._digests[path] = digest(path)
            except OSError as error:
                self._digests[path] = None
                self.failures[path] = f"cannot be read ({error.strerror})"
        return self._digests[path]

    def _missing(self, wants: Wants) -> list[_Job]:
        """What to compute of each picture, by content and budget: of equal files the first stands for all."""
        jobs: dict[tuple[bytes, int | None], _Job] = {}
        for path, budget in {**wants.whole, **dict.fromkeys(wants.boxes)}:
            content = self._content(path)
            if content is None:
                continue
            job = jobs.setdefault((content, budget), _Job(path, content, budget))
            job.whole |= (path, budget) in wants.whole and image_key(content, budget) not in self.store
            boxes = wants.boxes.get((path, budget), ())
            job.boxes |= {box: None for box in boxes if region_key(content, budget, box) not in self.store}
        return [job for job in jobs.values() if job.whole or job.boxes]

    def _embed(self, chunk: list[tuple[str, TextKind]]) -> None:
        for kind in dict.fromkeys(kind for _, kind in chunk):
            texts = [text for text, wanted in chunk if wanted == kind]
            vectors = self.model.text_features(texts, kind=kind).as_subclass(Tensor)
            self.store.put([text_key(text, kind) for text in texts], vectors)
            self.embedded += len(texts)

    def _encode(self, chunk: list[_Job]) -> None:
        """One chunk of pictures into one shard."""
        processor = self.model.processor.image
        groups: dict[int, list[tuple[Image.Image, _Job]]] = {}
        for job in chunk:
            try:
                picture = open_image(job.path)
            except Fgclip2Error as error:
                self.failures[job.path] = str(error)
                continue
            job.boxes = {box: None for box in job.boxes if self._usable(job.path, box, picture.size)}
            if not (job.whole or job.boxes):
                continue
            groups.setdefault(processor.budget([picture], job.max_patches), []).append((picture, job))
        keys: list[bytes] = []
        rows: list[Tensor] = []
        for patches, group in sorted(groups.items(), key=lambda item: item[0]):
            inputs = processor.collate([processor.patches(picture, patches) for picture, _ in group])
            with torch.inference_mode():
                encoding = self.model.model.encode_image(**self.model.model_inputs(inputs))
                pooled = torch.nn.functional.normalize(self.model.model.pool(encoding).float(), dim=-1)
                dense = self.model.model.dense(encoding) if any(job.boxes for _, job in group) else None
            self.encoded += len(group)
            for row, (picture, job) in enumerate(group):
                if job.whole:
                    keys.append(image_key(job.content, job.max_patches))
                    rows.append(pooled[row : row + 1].cpu())
                if job.boxes and dense is not None:
                    height, width = inputs["spatial_shapes"][row].tolist()
                    features = DenseFeatures.from_tokens(dense[row], (height, width), picture.size)
                    keys += [region_key(job.content, job.max_patches, box) for box in job.boxes]
                    rows.append(features.regions([clip(box, picture.size) for box in job.boxes]).cpu())
        if keys:
            self.store.put(keys, torch.cat(rows))

    def _usable(self, path: Path, box: Box, size: tuple[int, int]) -> bool:
        """Whether something of a box lies in its picture; when not, a failure is noted."""
        try:
            check_boxes([clip(box, size)], size)
        except Fgclip2Error as error:
            self.failures[path, box] = str(error)
            return False
        return True


def clip(box: Box, size: tuple[int, int]) -> Box:
    """What of a box lies in a picture of (width, height)."""
    (x1, y1, x2, y2), (width, height) = box, size
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()

"""FGCLIP2: pictures and texts in, unit-length features out."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fgclip2.ahead import map_ahead
from fgclip2.cpu import has_bf16, warn_if_emulated
from fgclip2.errors import Fgclip2Error
from fgclip2.features import Boxes, DenseFeatures, ImageFeatures, RegionFeatures, TextFeatures
from fgclip2.identity import Unchanged, hash_of_files, hash_of_tensors
from fgclip2.images import ImageLike, open_image
from fgclip2.network import Network, read_config, read_network
from fgclip2.pretrained import EXPORT, is_embedded, no_progress_bar, resolve
from fgclip2.processing import Patches, Processor, TextKind, check_kind

if TYPE_CHECKING:
    from fgclip2.modeling import Fgclip2Model

_IMAGE_BATCH: Final = 32
# Of an accelerator: 32 pictures of the largest bucket or 2 of the largest grid, and 256 short texts. A processor gains
# nothing beyond the batch whose numbers stay in its cache, and pays for the memory of larger ones page by page.
_TOKENS_A_BATCH: Final = {"accelerator": (32_768, 16_384), "cpu": (4096, 4096)}
_THREADS: Final = min(4, os.cpu_count() or 1)  # that read pictures while the model computes

# Against doing what takes seconds in two threads at once. Not of each object, which could then not be copied.
_LOADING, _MAKING = (threading.Lock() for _ in range(2))

_DTYPES: Final = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


class FGCLIP2:
    """A model with its processor: the object that ``fgclip2.load`` returns.

    Every feature it returns is float32, of unit length and on the model's device, whatever the model computes in.

    Args:
        model: the network; it is put into evaluation mode.
        processor: the processor of the same model directory.
        name: how the model is called in messages.
        directory: where its files are, for ``hash``; ``None`` for a model that exists in memory only.

    Attributes:
        processor, name, directory: as given.
    """

    def __init__(
        self,
        model: Fgclip2Model | Network,
        processor: Processor,
        name: str = "in memory",
        directory: Path | None = None,
    ) -> None:
        self._network: Any = model.eval()
        self.processor = processor
        self.name = name
        self.directory = directory
        # Ours cannot be written to from outside, nor can an export.
        self._loaded = (
            None if isinstance(model, Network) or not isinstance(model, torch.nn.Module) else Unchanged(model)
        )

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"FGCLIP2({self.name!r}, width={self.width}, device={self.device}, dtype={dtype})"

    @property
    def model(self) -> Fgclip2Model:
        """The network as transformers' module: to train, to save, to take apart, to put adapters in.

        ``fgclip2.load`` does without transformers, which takes longer to import than torch; this module is made, of the
        same weights, when it is first asked for, and computes all features from then on.
        """
        if isinstance(self._network, Network):
            with _MAKING:  # two threads that ask at the same time get one module
                if isinstance(self._network, Network):
                    self._network = self._network.to_transformers(self.directory or Path(self.name))
                    self._loaded = Unchanged(self._network)
        network: Fgclip2Model = self._network
        return network

    @model.setter
    def model(self, model: Fgclip2Model) -> None:
        self._loaded = Unchanged(self.model)  # not of the new one, which the files may not describe
        self._network = model

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = self._network.logit_scale.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in; features are float32 all the same."""
        dtype: torch.dtype = self._network.logit_scale.dtype
        return dtype

    @property
    def embedded(self) -> bool:
        """Whether this is the embedded model, which knows drawn glyphs and nothing of photographs."""
        return self.directory is not None and is_embedded(self.directory)

    @property
    def width(self) -> int:
        """Length D of every feature vector."""
        return int(self._network.config.vision_config.hidden_size)

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of configuration, weights and tokenizer: same hash, same features.

        Of the files for a loaded model, read once; of the tensors for one in memory, and for one whose `model` was
        changed since, each time, as they may change again.
        """
        if self.directory is not None and (self._loaded is None or self._loaded(self._network)):
            return hash_of_files(self.directory)
        return hash_of_tensors(self.model, self.processor)

    def compile(self, **options: Any) -> FGCLIP2:
        """Compile both towers and the dense head, in place, and pad every batch to its bucket, so that shapes repeat.

        Batches of another number of pictures, as the last one of a collection may be, have shapes of their own: torch
        makes its second graph of a bucket for any number of them, unless ``dynamic=False`` asks for one each.

        Meant for GPUs, where nothing has been measured yet; ``mode="reduce-overhead"``, which replays CUDA graphs, is
        untried. A processor computes the padding too then, which it otherwise leaves out, and loses its packed weights.

        Args:
            **options: of ``torch.compile``.

        Returns:
            This object.
        """
        model = self.model
        compiled = (model.vision_model, "run_blocks"), (model.dense_feature_head, "dense"), (model.text_model, "encode")
        for module, name in compiled:
            setattr(module, name, torch.compile(getattr(module, name), **options))
        model.vision_model.leaves_padding_out = False
        return self

    def image_features(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        max_patches: int | None = None,
        batch_size: int | None = None,
    ) -> ImageFeatures:
        """Features of whole pictures, to compare with ``short`` and ``long`` texts.

        Pictures of one patch budget are computed together, whatever their order; a generator is read as it goes, and at
        most a batch of each budget is held, and a few pictures that are read while the model computes.

        Args:
            images: one picture, or a list or generator of them: path, bytes, ``PIL.Image``, (H, W, 3) uint8 array or
                tensor, in any mixture of sizes; or (N, H, W, 3).
            max_patches: patch budget of every picture, 1 to 16,384; ``None`` takes each one's own bucket.
            batch_size: pictures a batch; ``None`` takes up to 32, fewer for large budgets and on a processor.

        Returns:
            (N, D) in the order given; N is 1 for one picture. A product with ``box`` texts is refused.

        Raises:
            Fgclip2Error: a picture cannot be read (the message has its index), or an argument cannot be used.
        """
        _check_batch_size(batch_size)
        rows: dict[int, Tensor] = {}
        for indices, _, inputs in self._batches(_listed(images), max_patches, batch_size):
            with torch.inference_mode():
                network = self._network
                pooled = network.pool(network.encode_image(**self.model_inputs(inputs)))
            rows.update(zip(indices, _unit(pooled), strict=True))
        if not rows:
            return torch.zeros(0, self.width, device=self.device).as_subclass(ImageFeatures)
        return torch.stack([rows[index] for index in range(len(rows))]).as_subclass(ImageFeatures)

    def text_features(
        self, texts: str | Iterable[str], kind: TextKind = "short", *, batch_size: int | None = None
    ) -> TextFeatures:
        """Features of texts, English or Chinese. A text that occurs twice is computed once.

        Args:
            texts: one text, or several.
            kind: ``"short"`` (up to 64 tokens) or ``"long"`` (up to 196) to compare with whole pictures; ``"box"`` to
                compare with regions and dense features.
            batch_size: texts a batch; ``None`` takes 256 short or box texts and 83 long ones, a quarter of it on a
                processor.

        Returns:
            (T, D) in the order given, carrying ``kind``; T is 1 for one text.

        Raises:
            Fgclip2Error: an empty text, one that is no string, or an unknown ``kind``.
        """
        kind = check_kind(kind)
        _check_batch_size(batch_size)
        listed = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
        ids = self.processor.text(listed, kind)
        if len(ids) == 0:
            return TextFeatures.of(torch.zeros(0, self.width, device=self.device), kind)
        distinct, inverse = torch.unique(ids, dim=0, return_inverse=True)
        size = batch_size or max(1, self._tokens_a_batch[1] // ids.shape[1])
        with torch.inference_mode():
            parts = [
                self._network.get_text_features(batch.to(self.device), walk_type=kind) for batch in distinct.split(size)
            ]
        return TextFeatures.of(_unit(torch.cat(parts))[inverse.to(self.device)], kind)

    @overload
    def dense_features(  # type: ignore[overload-overlap]  # a path is an iterable of letters too
        self, image: ImageLike, *, max_patches: int | None = None, batch_size: int | None = None
    ) -> DenseFeatures: ...
    @overload
    def dense_features(
        self, image: Iterable[ImageLike], *, max_patches: int | None = None, batch_size: int | None = None
    ) -> list[DenseFeatures]: ...
    def dense_features(
        self,
        image: ImageLike | Iterable[ImageLike],
        *,
        max_patches: int | None = None,
        batch_size: int | None = None,
    ) -> DenseFeatures | list[DenseFeatures]:
        """Features of every patch of one picture or of several, to compare with ``box`` texts.

        Args:
            image: path, bytes, ``PIL.Image``, or (H, W, 3) uint8 array or tensor; or a list or generator of these, or
                (N, H, W, 3), which are computed in batches.
            max_patches: patch budget, 1 to 16,384 (2,048 px square); more patches show smaller things. ``None`` takes
                the picture's own bucket, at most 1,024.
            batch_size: pictures a batch, as in ``image_features``.

        Returns:
            Of one picture its features, of several a list in the order given.

        Raises:
            Fgclip2Error: a picture, ``max_patches`` or ``batch_size`` cannot be used.

        Example:
            >>> import numpy as np, fgclip2
            >>> model = fgclip2.load("tiny")
            >>> image = np.zeros((64, 96, 3), np.uint8)
            >>> model.dense_features(image, max_patches=24).map.shape
            torch.Size([4, 6, 64])
            >>> len(model.dense_features([image, image]))
            2
        """
        _check_batch_size(batch_size)
        if not _is_one(image):
            return self.dense_features_of(_listed(image), max_patches=max_patches, batch_size=batch_size)
        opened = open_image(image)  # type: ignore[arg-type]
        processor = self.processor.image
        budget = processor.budget([opened], max_patches)
        inputs = processor.collate([processor.patches(opened, budget)], self._length(budget))
        return next(_dense(self._dense_tokens(inputs), inputs, [opened.size]))

    def dense_features_of(
        self, images: Iterable[ImageLike], *, max_patches: int | None = None, batch_size: int | None = None
    ) -> list[DenseFeatures]:
        """``dense_features`` of several pictures, always as a list; arguments and errors as there."""
        _check_batch_size(batch_size)
        found = dict(self._dense_features(_listed(images), max_patches, batch_size))
        return [found[index] for index in range(len(found))]

    def image_and_dense_features(
        self, images: Iterable[ImageLike], *, max_patches: int | None = None, batch_size: int | None = None
    ) -> Iterator[tuple[int, ImageFeatures, DenseFeatures]]:
        """Both features of many pictures, from one pass of the tower each; arguments as in ``image_features``.

        Yields:
            The picture's number, its (D,) image features and its dense features, as batches are done and so not in
            order. Pictures are read as it goes; what was yielded is not kept.

        Raises:
            Fgclip2Error: as ``image_features``.
        """
        _check_batch_size(batch_size)
        for indices, sizes, inputs in self._batches(_listed(images), max_patches, batch_size):
            with torch.inference_mode():
                network = self._network
                encoding = network.encode_image(**self.model_inputs(inputs))
                pooled, tokens = network.pool(encoding), network.dense(encoding)
            whole = _unit(pooled).as_subclass(ImageFeatures)
            yield from zip(indices, whole, _dense(tokens, inputs, sizes), strict=True)

    @overload
    def region_features(
        self, image: ImageLike, boxes: Boxes, *, max_patches: int | None = None, batch_size: int | None = None
    ) -> RegionFeatures: ...
    @overload
    def region_features(
        self,
        image: Iterable[ImageLike],
        boxes: Sequence[Boxes],
        *,
        max_patches: int | None = None,
        batch_size: int | None = None,
    ) -> list[RegionFeatures]: ...
    def region_features(
        self,
        image: ImageLike | Iterable[ImageLike],
        boxes: Boxes | Sequence[Boxes],
        *,
        max_patches: int | None = None,
        batch_size: int | None = None,
    ) -> RegionFeatures | list[RegionFeatures]:
        """Features of boxes of one picture or of several; see ``DenseFeatures.regions``.

        Args:
            image: as of ``dense_features``.
            boxes: (M, 4) x1, y1, x2, y2 in pixels; of several pictures a list of these, one for each.
            max_patches, batch_size: as of ``dense_features``.

        Returns:
            (M, D), of several pictures a list of these.

        Raises:
            Fgclip2Error: as ``dense_features`` and ``DenseFeatures.regions``, or not one (M, 4) for each picture.
        """
        if _is_one(image):
            one = cast("ImageLike", image)
            return self.dense_features(one, max_patches=max_patches).regions(cast("Boxes", boxes))
        _check_batch_size(batch_size)
        wanted = "give a list with one (M, 4) for each picture"
        if not isinstance(boxes, Iterable):
            raise Fgclip2Error(f"boxes of several pictures are {boxes!r:.60}; {wanted}")
        each = list(boxes)
        found: dict[int, RegionFeatures] = {}
        # Not as a list first: an iterator may give one object with ever new content.
        for index, dense in self._dense_features(_listed(image), max_patches, batch_size):
            if index >= len(each):
                raise Fgclip2Error(f"more than {len(each)} pictures and boxes of {len(each)}; {wanted}")
            try:
                found[index] = dense.regions(each[index])
            except Fgclip2Error as error:
                raise Fgclip2Error(f"image {index}: {error}") from error
        if len(found) != len(each):
            raise Fgclip2Error(f"{len(found)} pictures and boxes of {len(each)}; {wanted}")
        return [found[index] for index in range(len(found))]

    def similarity_map(self, image: ImageLike, texts: str | Iterable[str], *, max_patches: int | None = None) -> Tensor:
        """Cosine of every pixel to every text: (T, H, W) at the picture's size; texts go through the ``box`` head."""
        text = self.text_features(texts, kind="box")
        return self.dense_features(image, max_patches=max_patches).similarity_map(text)

    def model_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Model arguments; grids stay on the CPU, where their values are read.

        A mask of ones is left out, but for a compiled model, which would need a second graph for that.

        Copies to a GPU start from pinned memory, so that the next batch is made meanwhile.
        """
        values, mask = inputs["pixel_values"].to(self.dtype), inputs["pixel_attention_mask"]
        padded = self._pads or not bool(mask.all())
        if self.device.type == "cuda":
            values, mask = values.pin_memory(), mask.pin_memory()
        return {
            "pixel_values": values.to(self.device, non_blocking=True),
            "pixel_attention_mask": mask.to(self.device, non_blocking=True) if padded else None,
            "spatial_shapes": inputs["spatial_shapes"],
        }

    @property
    def _pads(self) -> bool:
        """Whether every batch is padded to its budget and has a mask, so that shapes repeat: when compiled."""
        return not self._network.vision_model.leaves_padding_out

    def _length(self, budget: int) -> int | None:
        """Patches that a batch is padded to; ``None`` for those of its largest picture."""
        return budget if self._pads else None

    @property
    def _tokens_a_batch(self) -> tuple[int, int]:
        """Patches and text tokens that are computed at a time, unless a batch size is asked for."""
        return _TOKENS_A_BATCH["cpu" if self.device.type == "cpu" else "accelerator"]

    def _dense_tokens(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, L, D) of a batch."""
        with torch.inference_mode():
            tokens: Tensor = self._network.dense(self._network.encode_image(**self.model_inputs(inputs)))
        return tokens

    def _dense_features(
        self, images: Iterable[ImageLike], max_patches: int | None, batch_size: int | None
    ) -> Iterator[tuple[int, DenseFeatures]]:
        """Numbers and features of pictures, as batches are done."""
        for indices, sizes, inputs in self._batches(images, max_patches, batch_size):
            yield from zip(indices, _dense(self._dense_tokens(inputs), inputs, sizes), strict=True)

    @staticmethod
    def _opened(index: int, image: ImageLike) -> Image.Image:
        try:
            return open_image(image)
        except Fgclip2Error as error:
            raise Fgclip2Error(f"image {index}: {error}") from error

    def _batches(
        self, images: Iterable[ImageLike], max_patches: int | None, batch_size: int | None
    ) -> Iterator[tuple[list[int], list[tuple[int, int]], dict[str, Tensor]]]:
        """Numbers and sizes of the pictures of a batch, and the model's input."""
        processor = self.processor.image
        waiting: dict[int, list[tuple[int, tuple[int, int], Patches]]] = {}  # by patch budget

        def flush(budget: int) -> tuple[list[int], list[tuple[int, int]], dict[str, Tensor]]:
            indices, sizes, patches = zip(*waiting.pop(budget), strict=True)
            return list(indices), list(sizes), processor.collate(patches, self._length(budget))

        def read(numbered: tuple[int, ImageLike]) -> tuple[int, tuple[int, tuple[int, int], Patches]]:
            index, image = numbered
            opened = self._opened(index, image)
            budget = processor.budget([opened], max_patches)
            return budget, (index, opened.size, processor.patches(opened, budget))

        def own(index: int, image: ImageLike) -> ImageLike:
            """What no caller can change while it waits: iterators often give one object with ever new content."""
            if isinstance(image, (str, os.PathLike, bytes)):
                return image
            return self._opened(index, image).copy()

        owned = ((index, own(index, image)) for index, image in enumerate(images))
        for budget, item in map_ahead(read, owned, threads=_THREADS, ahead=_THREADS):
            waiting.setdefault(budget, []).append(item)
            limit = batch_size or max(1, min(_IMAGE_BATCH, self._tokens_a_batch[0] // budget))
            if len(waiting[budget]) >= limit:
                yield flush(budget)
        for budget in sorted(waiting):
            yield flush(budget)


def _dense(tokens: Tensor, inputs: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Iterator[DenseFeatures]:
    """Of the pictures of a batch, from its tokens (B, L, D)."""
    for row, grid, size in zip(tokens, inputs["spatial_shapes"].tolist(), sizes, strict=True):
        yield DenseFeatures.from_tokens(row, (grid[0], grid[1]), size)


def load(
    name: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> FGCLIP2:
    """Load a model with its processor.

    Args:
        name: ``"tiny"`` (embedded), a directory, also one that ``fgclip2 export`` has written, or a hub id such as
            ``"qihoo360/fg-clip2-base"``. ``None`` takes ``$FGCLIP2_MODEL``, else ``qihoo360/fg-clip2-base``.
        device: ``"auto"`` (CUDA when there is one, else the CPU), or a torch device or its name.
        dtype: ``"auto"`` (bfloat16 on GPUs since Ampere and on processors with AVX512-BF16 or AMX, else float32), or a
            floating torch dtype or its name.

    Returns:
        The model in evaluation mode. ``load()`` without any argument loads once and returns the same object again.

    Raises:
        Fgclip2Error: no weights by that name (the message has the ways to get some), damaged or foreign weights, or an
            unusable device or dtype.
    """
    if name is None and device == "auto" and dtype == "auto":
        with _LOADING:
            return _shared(os.environ.get("FGCLIP2_MODEL"))
    return _open(resolve(name, exports=True), device, dtype, None if name is None else os.fspath(name))


@overload
def dense_features(  # type: ignore[overload-overlap]
    image: ImageLike, *, max_patches: int | None = None
) -> DenseFeatures: ...
@overload
def dense_features(image: Iterable[ImageLike], *, max_patches: int | None = None) -> list[DenseFeatures]: ...
def dense_features(
    image: ImageLike | Iterable[ImageLike], *, max_patches: int | None = None
) -> DenseFeatures | list[DenseFeatures]:
    """``fgclip2.load().dense_features(image)``: of one picture or several, by the default model, loaded once."""
    return load().dense_features(image, max_patches=max_patches)


@lru_cache(maxsize=1)
def _shared(environment: str | None) -> FGCLIP2:
    # The environment's value is the key, so that setting it later is not ignored.
    return _open(resolve(environment, exports=True), "auto", "auto", environment)


def _open(directory: Path, device: str | torch.device, dtype: str | torch.dtype, name: str | None) -> FGCLIP2:
    if (directory / EXPORT).is_file():
        from fgclip2.runtime import load_export

        return load_export(directory, device, dtype, name)
    chosen = find_device(device)
    return _load(directory, chosen, choose_dtype(dtype, chosen), name)


def _load(directory: Path, device: torch.device, dtype: torch.dtype, name: str | None) -> FGCLIP2:
    from safetensors import SafetensorError

    processor = Processor.from_pretrained(directory)
    config = read_config(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    model: Fgclip2Model | Network | None = None
    try:
        if config is not None:
            model = read_network(directory, config, dtype, map_words=device.type == "cpu")
        if model is None:
            from fgclip2.modeling import Fgclip2Model

            with no_progress_bar():
                model = Fgclip2Model.from_pretrained(directory, dtype=dtype).requires_grad_(False)
    except (OSError, SafetensorError) as error:
        raise Fgclip2Error(f"the weights in {directory} cannot be read ({error}); fetch them again") from error
    return FGCLIP2(model.to(device), processor, name=name or directory.name, directory=directory)


def find_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; ``"auto"`` is CUDA when there is one, else the CPU.

    Raises:
        Fgclip2Error: no such device, or none that works here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises AssertionError when built without CUDA
        reason = str(error).splitlines()[0]
        raise Fgclip2Error(f"device {device!r} cannot be used ({reason}); use 'auto' or 'cpu'") from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """A dtype by name; ``auto`` is bfloat16 where the hardware multiplies it, else float32.

    That is on CUDA from compute capability 8.0 (Ampere) on, and on processors with AVX512-BF16 or AMX. On others
    bfloat16 and float16 by name are obeyed, with a warning: they are emulated there.

    Raises:
        Fgclip2Error: any other.
    """
    if dtype == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or chosen not in _DTYPES.values():
        raise Fgclip2Error(f"dtype {dtype!r} cannot be used; choose 'auto', {', '.join(map(repr, _DTYPES))}")
    warn_if_emulated(device, chosen)
    return chosen


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and has_bf16()


def _is_one(images: ImageLike | Iterable[ImageLike]) -> bool:
    """Whether these are one picture, or what cannot be any."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim != 4
    single = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(images, single) or not isinstance(images, Iterable)


def _listed(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    return [images] if _is_one(images) else images  # type: ignore[list-item,return-value]


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise Fgclip2Error(f"batch_size is {batch_size!r}; give a whole number of at least 1, or None")


def _unit(features: Tensor) -> Tensor:
    """Float32 and unit length; run outside inference mode, so that the result can enter a graph that trains."""
    return F.normalize(features.float(), dim=-1)

"""Models that ``fgclip2 export`` has written, run by ONNX Runtime or OpenVINO behind the same methods as torch's."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.features import DenseFeatures, ImageFeatures, TextFeatures
from fgclip2.graphs import HEADS, Head
from fgclip2.images import ImageLike
from fgclip2.once import locked_property
from fgclip2.predictor import FGCLIP2, choose_dtype
from fgclip2.pretrained import EXPORT, VOCABULARY
from fgclip2.processing import TEXT_KINDS, Processor, TextKind, check_kind
from fgclip2.vocabulary import Vocabulary

if TYPE_CHECKING:
    from fgclip2.modeling import Fgclip2Model

Format: TypeAlias = Literal["onnx", "openvino"]
FORMATS: Final[tuple[Format, ...]] = ("onnx", "openvino")
ENDING: Final[Mapping[Format, str]] = {"onnx": ".onnx", "openvino": ".xml"}
"""Of a graph's file, by format; weights are in a second file beside it."""

VISION: Final = "vision"
TEXT: Final = "text"

LEAST_DEFAULT: Final = 0.99
"""What comes less close to torch in bfloat16, on images, is not what ``dtype="auto"`` takes."""

_VERSION: Final = 1
_SHOWN: Final = 8  # names of a vocabulary that a message lists

Arrays: TypeAlias = "Mapping[str, np.ndarray]"


@dataclass(frozen=True)
class Agreement:
    """How close an export's features, of unit length, come to torch's in float32.

    Attributes:
        mean: cosine, over all vectors that were compared.
        minimum: the lowest of these.
        largest: the largest difference between two numbers.
    """

    mean: float
    minimum: float
    largest: float


@dataclass(frozen=True)
class Manifest:
    """``export.json``: what a directory holds; written last, so that its presence means that all is there.

    Attributes:
        format: what runs the graphs.
        heads: that were exported, in the order of ``HEADS``.
        opset: of ONNX, also where OpenVINO's graph was made from it.
        model_name, model_hash: of the model that it is an export of; an export's features are that model's.
        files: size of every other file in bytes.
        agreement: of every head in float32, measured when it was written.
        half: the same in bfloat16, where the format has it and the processor that wrote it did.
        images: how many images were among what was compared; older exports were compared on noise alone.
    """

    format: Format
    heads: tuple[Head, ...]
    opset: int
    model_name: str
    model_hash: str
    files: Mapping[str, int]
    agreement: Mapping[Head, Agreement]
    half: Mapping[Head, Agreement] = field(default_factory=dict)
    images: int = 0

    @property
    def half_is_close(self) -> bool:
        """Whether bfloat16 was measured on images and comes close to torch with every head."""
        measured = bool(self.images) and set(self.half) == set(self.heads)
        return measured and all(found.minimum >= LEAST_DEFAULT for found in self.half.values())

    def to_json(self) -> str:
        """The file's content."""
        return json.dumps({"version": _VERSION, **asdict(self)}, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read a directory's manifest and make sure that all it names is there.

        Raises:
            Fgclip2Error: it cannot be read, or a file is missing or of another size.
        """
        again = "export the model again with fgclip2 export"
        try:
            fields = json.loads((directory / EXPORT).read_text(encoding="utf-8"))
            version = fields.pop("version")
            if version == _VERSION:
                for name in ("agreement", "half"):
                    fields[name] = {head: Agreement(**found) for head, found in fields.get(name, {}).items()}
                manifest = cls(**{**fields, "heads": tuple(fields["heads"])})
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise Fgclip2Error(f"{directory / EXPORT} cannot be read ({error}); {again}") from error
        if version != _VERSION or manifest.format not in FORMATS or not set(manifest.heads) <= set(HEADS):
            raise Fgclip2Error(f"{directory / EXPORT} is not of version {_VERSION} of this toolkit's exports; {again}")
        for name, size in manifest.files.items():
            file = directory / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                raise Fgclip2Error(
                    f"{file} {'is missing' if found is None else f'has {found:,} bytes'}, where {size:,} were "
                    f"written; copy the whole directory, or {again}"
                )
        return manifest


class ExportedNetwork:
    """Graphs in the place of ``Fgclip2Model``: what ``FGCLIP2`` and the evaluation call of it.

    A graph is opened when it is first used. Calls may come from several threads.

    Args:
        directory: of the export.
        manifest: its content.
        dtype: what the graphs compute in.
        width: length D of the features.
    """

    def __init__(self, directory: Path, manifest: Manifest, dtype: torch.dtype, width: int) -> None:
        self.directory = directory
        self.manifest = manifest
        self.dtype = dtype
        self.width = width

    def eval(self) -> ExportedNetwork:
        """Itself: an export cannot be trained."""
        return self

    def encode_image(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor,
        layers: Sequence[int] = (),
    ) -> dict[str, Tensor]:
        """Run the vision graph once; arguments as ``Fgclip2Model.encode_image``, but no ``layers``.

        Returns:
            The output of every exported head, for :meth:`pool` and :meth:`dense`.

        Raises:
            Fgclip2Error: the export has no vision graph, or ``layers`` are asked for.
        """
        if layers:
            raise Fgclip2Error(f"layers {tuple(layers)}: an export has no outputs of blocks; load the model itself")
        if not {"image", "dense"} & set(self.manifest.heads):
            self.require("image")
        mask = torch.ones(pixel_values.shape[:2]) if pixel_attention_mask is None else pixel_attention_mask
        outputs = self._vision(
            {
                "pixel_values": pixel_values.float().numpy(),
                "pixel_attention_mask": mask.bool().numpy(),
                "spatial_shapes": spatial_shapes.numpy(),
            }
        )
        return {name: torch.from_numpy(array) for name, array in outputs.items()}

    def pool(self, encoding: Mapping[str, Tensor]) -> Tensor:
        """Image embeddings ``(B, D)``, not of unit length."""
        self.require("image")
        return encoding["image"]

    def dense(self, encoding: Mapping[str, Tensor]) -> Tensor:
        """Dense features ``(B, N, D)``, not of unit length; rows of padding carry no meaning."""
        self.require("dense")
        return encoding["dense"]

    def get_text_features(self, input_ids: Tensor, *, walk_type: TextKind = "short") -> Tensor:
        """Text embeddings ``(T, D)``, not of unit length, of token ids that are padded to the length of their kind."""
        self.require("text")
        kind = np.array([TEXT_KINDS.index(check_kind(walk_type))], dtype=np.int64)
        return torch.from_numpy(self._text({"input_ids": input_ids.numpy(), "kind": kind})["text"])

    def require(self, *heads: Head) -> None:
        """Check that heads were exported.

        Raises:
            Fgclip2Error: one was not; the message has the command that exports it.
        """
        lacking = [head for head in heads if head not in self.manifest.heads]
        if lacking:
            raise Fgclip2Error(
                f"the export in {self.directory} has no {lacking[0]} head, only {', '.join(self.manifest.heads)}; "
                f"export it too: fgclip2 export --model {self.manifest.model_name} --format {self.manifest.format} "
                f"--out DIR --head {' '.join(head for head in HEADS if head in (*self.manifest.heads, *heads))}"
            )

    @locked_property
    def _vision(self) -> Callable[[Arrays], dict[str, np.ndarray]]:
        return self._open(VISION)

    @locked_property
    def _text(self) -> Callable[[Arrays], dict[str, np.ndarray]]:
        return self._open(TEXT)

    def _open(self, name: str) -> Callable[[Arrays], dict[str, np.ndarray]]:
        file = self.directory / f"{name}{ENDING[self.manifest.format]}"
        return open_onnx(file) if self.manifest.format == "onnx" else open_openvino(file, self.dtype)


class ExportedModel(FGCLIP2):
    """What ``fgclip2.load`` returns for an export: ``FGCLIP2`` as far as the exported heads reach, on the CPU.

    Without the text head, ``text_features(..., kind="box")`` knows the classes of the vocabulary that was baked in.

    Args:
        network: the graphs.
        processor: of the same directory.
        name: how the model is called in messages.
        directory: of the export.

    Attributes:
        vocabulary: the classes that were baked in, or ``None``.
    """

    def __init__(self, network: ExportedNetwork, processor: Processor, name: str, directory: Path) -> None:
        super().__init__(cast("Fgclip2Model", network), processor, name, directory)
        self._network = network
        file = directory / VOCABULARY
        self.vocabulary = Vocabulary.load(file, self) if VOCABULARY in network.manifest.files else None

    def __repr__(self) -> str:
        manifest = self._network.manifest
        return (
            f"ExportedModel({self.name!r}, format={manifest.format}, heads={'+'.join(manifest.heads)}, "
            f"width={self.width}, dtype={str(self.dtype).removeprefix('torch.')})"
        )

    @property
    def manifest(self) -> Manifest:
        """What the directory holds, and how close it came to torch when it was written."""
        return self._network.manifest

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the graphs compute in; features are float32 all the same."""
        return self._network.dtype

    def compile(self, **options: Any) -> FGCLIP2:
        """Refused: a graph is compiled already.

        Raises:
            Fgclip2Error: always.
        """
        raise Fgclip2Error(f"compile() of {self.name!r}: an export is compiled already; load the model itself")

    @property
    def _pads(self) -> bool:
        """Graphs take any length, so no batch is padded beyond its largest picture."""
        return False

    @property
    def width(self) -> int:
        """Length D of every feature vector."""
        return self._network.width

    @property
    def hash(self) -> str:
        """Of the model that was exported: its features are the same, so vocabularies and collections go with both."""
        return self._network.manifest.model_hash

    def image_features(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        max_patches: int | None = None,
        batch_size: int | None = None,
    ) -> ImageFeatures:
        """As ``FGCLIP2.image_features``; needs the ``image`` head."""
        self._network.require("image")
        return super().image_features(images, max_patches=max_patches, batch_size=batch_size)

    def _dense_tokens(self, inputs: dict[str, Tensor]) -> Tensor:
        self._network.require("dense")
        return super()._dense_tokens(inputs)

    def image_and_dense_features(
        self, images: Iterable[ImageLike], *, max_patches: int | None = None, batch_size: int | None = None
    ) -> Iterator[tuple[int, ImageFeatures, DenseFeatures]]:
        """As ``FGCLIP2.image_and_dense_features``; needs both heads."""
        self._network.require("image", "dense")
        return super().image_and_dense_features(images, max_patches=max_patches, batch_size=batch_size)

    def text_features(
        self, texts: str | Iterable[str], kind: TextKind = "short", *, batch_size: int | None = None
    ) -> TextFeatures:
        """As ``FGCLIP2.text_features``; without the ``text`` head, classes of the vocabulary and kind ``box`` only.

        A class's features are then as they were baked in: with the prompts and synonyms of the vocabulary.
        """
        if "text" in self._network.manifest.heads or self.vocabulary is None or check_kind(kind) != "box":
            self._network.require("text")
            return super().text_features(texts, kind, batch_size=batch_size)
        rows = {name.lower(): row for row, name in enumerate(self.vocabulary.names)}
        listed = [texts] if isinstance(texts, str) else list(texts)
        unknown = [text for text in listed if not isinstance(text, str) or text.strip().lower() not in rows]
        if unknown:
            names = ", ".join(map(repr, self.vocabulary.names[:_SHOWN]))
            raise Fgclip2Error(
                f"text {unknown[0]!r:.60} is not among the {len(rows):,} classes that were baked into {self.directory} "
                f"({names}{', ...' if len(rows) > _SHOWN else ''}); name one of these, or export the text head too"
            )
        chosen = [rows[text.strip().lower()] for text in listed]
        return TextFeatures.of(self.vocabulary.embeddings[chosen], "box")


def load_export(
    directory: Path, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto", name: str | None = None
) -> ExportedModel:
    """Open a directory that ``fgclip2 export`` has written; ``fgclip2.load`` comes here for such directories.

    Args:
        directory: with ``export.json``.
        device: ``"auto"`` or ``"cpu"``.
        dtype: float32; OpenVINO computes in bfloat16 too. ``"auto"`` takes that where the processor has it in hardware
            and the export came close to torch in it when it was written (``LEAST_DEFAULT``).
        name: how the model is called in messages; ``None`` takes the directory's.

    Raises:
        Fgclip2Error: the directory is not whole, the format's package is not installed, or another device or dtype.
    """
    manifest = Manifest.read(directory)
    require_runtime(manifest.format)
    if str(device) not in ("auto", "cpu"):
        raise Fgclip2Error(f"device {str(device)!r}: exports run on the CPU; use 'auto', or load the model itself")
    processor = Processor.from_pretrained(directory)
    width = json.loads((directory / "config.json").read_text(encoding="utf-8"))["text_config"]["projection_size"]
    network = ExportedNetwork(directory, manifest, _dtype_of(manifest, dtype), int(width))
    return ExportedModel(network, processor, name or directory.name, directory)


def require_runtime(format: Format) -> None:
    """Make sure that what runs a format is installed.

    Raises:
        Fgclip2Error: it is not; the message has the command that installs it.
    """
    need("export", {"onnx": "onnxruntime", "openvino": "openvino"}[format])


def _dtype_of(manifest: Manifest, dtype: str | torch.dtype) -> torch.dtype:
    format = manifest.format
    if dtype == "auto":
        return choose_dtype(dtype, torch.device("cpu")) if manifest.half_is_close else torch.float32
    chosen = choose_dtype(dtype, torch.device("cpu"))
    allowed = (torch.float32,) if format == "onnx" else (torch.float32, torch.bfloat16)
    if chosen not in allowed:
        advice = " (bfloat16: fgclip2 export --format openvino)" if format == "onnx" else ""
        names = " and ".join(repr(str(item).removeprefix("torch.")) for item in allowed)
        raise Fgclip2Error(f"dtype {str(dtype)!r}: exports of format {format} compute in {names}{advice}; use 'auto'")
    return chosen


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """OpenVINO's core, one for the whole process.

    Cores that come and go leave a process that a later signal ends without a word (segmentation fault).
    """
    import openvino

    return openvino.Core()


def open_onnx(file: Path) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """A function from a graph's inputs to its outputs, by name, on as many threads as torch has.

    Raises:
        Fgclip2Error: the file cannot be opened.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise _unreadable(file, error) from error
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def open_openvino(file: Path, dtype: torch.dtype) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """As ``open_onnx``; computes in ``dtype``, float32 or bfloat16."""
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        compiled = openvino_core().compile_model(os.fspath(file), "CPU", settings)
    except RuntimeError as error:
        raise _unreadable(file, error) from error
    names = [output.get_any_name() for output in compiled.outputs]
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        with lock:  # a request does one thing at a time
            found = request.infer(dict(inputs))
            return {name: np.array(found[index]) for index, name in enumerate(names)}

    return run


def _unreadable(file: Path, error: Exception) -> Fgclip2Error:
    reason = " ".join(str(error).split())
    return Fgclip2Error(f"{file} cannot be opened ({reason:.200}); export the model again with fgclip2 export")

"""Writing a model for ONNX Runtime or OpenVINO: any grids, any batch, compared with torch before it gets its name."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fgclip2.cpu import has_bf16
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.files import flush_folder, write_atomically
from fgclip2.graphs import HEADS, Head, TextGraph, VisionGraph
from fgclip2.images import open_image
from fgclip2.predictor import FGCLIP2
from fgclip2.pretrained import EXPORT, VOCABULARY
from fgclip2.processing import TEXT_KINDS
from fgclip2.runtime import (
    ENDING,
    FORMATS,
    LEAST_DEFAULT,
    TEXT,
    VISION,
    Agreement,
    ExportedModel,
    Format,
    Manifest,
    load_export,
    openvino_core,
    require_runtime,
)
from fgclip2.samples import sample_images
from fgclip2.vocabulary import Vocabulary

_log = logging.getLogger(__name__)

OPSETS: Final = range(18, 24)
"""Versions of ONNX's operators that can be written."""

LEAST_COSINE: Final = 0.9999
"""An export whose features come less close to torch's, in float32, is not kept."""

LEAST_HALF_COSINE: Final = 0.999
"""In bfloat16 a lower one is warned of; the export is kept, as float32 is there too. See `runtime.LEAST_DEFAULT`."""

_MASKED: Final = -1e9  # added to the scores of padding; -inf would be a nan where a runtime computes it times zero
# Noise finds what is wrong with a grid; what bfloat16 loses shows on images, where patches resemble each other.
_GRIDS: Final = (((14, 9), (3, 40), (16, 16)), ((1, 1),), ((31, 22),), ((64, 64),))  # of batches of noise
_BUDGETS: Final = (256, 576, 1024)  # patches that each sample image is compared at
_TEXTS: Final = (
    "a red car",
    "红色的汽车",
    "two green apples beside a black cat on a sofa",
    "一只黑猫在沙发上,旁边有两个绿苹果",
)


def export(
    model: FGCLIP2,
    directory: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    heads: Collection[Head] = HEADS,
    vocabulary: Vocabulary | None = None,
    opset: int = OPSETS[0],
) -> ExportedModel:
    """Write an export, compare it with the model, and open it.

    The directory holds ``vision`` and ``text`` graphs, as far as heads ask for them, the model's configuration and
    tokenizer, and ``export.json``. It gets its name, or an empty directory its files, when all is written and compared.

    Args:
        model: in float32 on the CPU, loaded from a directory.
        directory: does not exist yet, or is empty.
        format: ``"onnx"`` or ``"openvino"``.
        heads: any of ``image``, ``dense`` and ``text``. Both heads of pictures share one graph, and so one pass.
        vocabulary: classes to bake in, embedded by the same model.
        opset: of ONNX, 18 to 23; 18 is what most runtimes take.

    Returns:
        As ``fgclip2.load(directory)``; how close it comes to ``model`` is in ``manifest.agreement``, and in
        ``manifest.half`` for OpenVINO in bfloat16.

    Raises:
        Fgclip2Error: an argument cannot be used, a package is missing, there is something in the directory, or the
            export disagrees with the model.
    """
    chosen = _checked_heads(heads)
    source = _checked(model, format, opset)
    if vocabulary is not None:
        vocabulary.require(model)
    target = Path(directory).resolve()  # "." has no name and no parent
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Fgclip2Error(f"{target} exists; give a directory that does not, or remove it")
    above = target if target.exists() else target.parent
    above.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=above, prefix=f".{target.name}."))
    try:
        for file in [source / "config.json", *sorted(source.glob("tokenizer*.json"))]:
            shutil.copyfile(file, partial / file.name)
        pictured = tuple(head for head in chosen if head != "text")
        if pictured:
            _write_graph(VisionGraph(model.model, pictured), _vision_example(model), partial / VISION, format, opset)
        if "text" in chosen:
            _write_graph(TextGraph(model.model), _text_example(model), partial / TEXT, format, opset)
        if vocabulary is not None:
            vocabulary.save(partial / VOCABULARY)
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        manifest = Manifest(format, chosen, opset, model.name, model.hash, sizes, {})
        write_atomically(partial / EXPORT, manifest.to_json().encode())
        agreement = compare(load_export(partial, dtype="float32"), model)
        for head, found in agreement.items():
            if not found.minimum >= LEAST_COSINE:
                raise Fgclip2Error(
                    f"the export's {head} features differ from torch's: cosine {found.minimum:.6f}, where "
                    f"{LEAST_COSINE} is asked for; it is not kept. Try another --opset or --format"
                )
        half = compare(load_export(partial, dtype="bfloat16"), model) if format == "openvino" and has_bf16() else {}
        _warn_of_half(half)
        manifest = replace(manifest, agreement=agreement, half=half, images=len(sample_images()))
        write_atomically(partial / EXPORT, manifest.to_json().encode())
        _publish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return load_export(target, name=os.fspath(directory))


def compare(exported: ExportedModel, model: FGCLIP2) -> dict[Head, Agreement]:
    """How close an export comes to a model, head by head.

    Noise on grids of several shapes, alone and padded to one batch, and the sample images at several patch budgets;
    texts are English and Chinese, of all kinds.

    Args:
        exported: what is judged.
        model: what is right.
    """
    found: dict[Head, list[tuple[Tensor, Tensor]]] = {head: [] for head in exported.manifest.heads}
    ours, theirs = exported.model, model.model
    with torch.inference_mode():
        for inputs in _inputs(model) if set(found) != {"text"} else ():
            mask = inputs["pixel_attention_mask"].bool()
            encodings = (ours.encode_image(**exported.model_inputs(inputs)),
                         theirs.encode_image(**model.model_inputs(inputs)))  # fmt: skip
            if "image" in found:
                found["image"].append((ours.pool(encodings[0]), theirs.pool(encodings[1])))
            if "dense" in found:
                found["dense"].append((ours.dense(encodings[0])[mask], theirs.dense(encodings[1])[mask]))
        for kind in TEXT_KINDS if "text" in found else ():
            ids = model.processor.text(_TEXTS, kind)
            found["text"].append(
                (ours.get_text_features(ids, walk_type=kind), theirs.get_text_features(ids, walk_type=kind))
            )
    return {head: _agreement(pairs) for head, pairs in found.items()}


def _inputs(model: FGCLIP2) -> Iterator[dict[str, Tensor]]:
    """The batches that are compared."""
    for grids in _GRIDS:
        yield _noise(model, grids)
    processor = model.processor.image
    for file in sample_images():
        image = open_image(file)
        for budget in _BUDGETS:
            yield processor.collate([processor.patches(image, budget)])


def _warn_of_half(half: Mapping[Head, Agreement]) -> None:
    for head, found in half.items():
        if not found.minimum >= LEAST_HALF_COSINE:
            taken = found.minimum >= LEAST_DEFAULT
            _log.warning(
                "in bfloat16 the export's %s features come down to a cosine of %.6f to torch's in float32; %s",
                head,
                found.minimum,
                "where that is too little, load it with dtype='float32'"
                if taken
                else "load takes float32, and bfloat16 only for dtype='bfloat16'",
            )


def _agreement(pairs: Sequence[tuple[Tensor, Tensor]]) -> Agreement:
    ours, theirs = (F.normalize(torch.cat(list(parts)).double(), dim=-1) for parts in zip(*pairs, strict=True))
    cosine = (ours * theirs).sum(-1)
    return Agreement(float(cosine.mean()), float(cosine.min()), float((ours - theirs).abs().max()))


def _checked_heads(heads: Collection[Head]) -> tuple[Head, ...]:
    listed = [heads] if isinstance(heads, str) else list(heads)
    unknown = [head for head in listed if head not in HEADS]
    if unknown or not listed:
        given = repr(unknown[0]) if unknown else "none"
        raise Fgclip2Error(f"head {given}: choose one or more of {', '.join(HEADS)}")
    return tuple(head for head in HEADS if head in listed)


def _checked(model: FGCLIP2, format: Format, opset: int) -> Path:
    """The directory of a model that can be exported so."""
    if format not in FORMATS:
        raise Fgclip2Error(f"format {format!r}: choose one of {', '.join(FORMATS)}")
    if opset not in OPSETS:
        raise Fgclip2Error(f"opset {opset!r}: give {OPSETS[0]} to {OPSETS[-1]}")
    if isinstance(model, ExportedModel):
        raise Fgclip2Error(f"{model.name} is an export itself; export the model that it was made of")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise Fgclip2Error(
            f"an export is made of float32 weights on the CPU, this model has {model.dtype} on {model.device}; load it "
            "with fgclip2.load(name, device='cpu', dtype='float32')"
        )
    if model.directory is None:
        raise Fgclip2Error("this model exists in memory only; save it and its tokenizer to a directory, and load that")
    need("export", "onnx", "onnxscript")
    require_runtime(format)
    return model.directory


def _noise(model: FGCLIP2, grids: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """A padded batch of noise."""
    processor = model.processor.image
    side, noise = processor.patch_size, np.random.default_rng(0)
    sizes = [(rows * side, columns * side, 3) for rows, columns in grids]
    images = [Image.fromarray(noise.integers(0, 256, size, np.uint8)) for size in sizes]
    patches = [processor.patches(image, rows * columns) for image, (rows, columns) in zip(images, grids, strict=True)]
    return processor.collate(patches)


def _vision_example(model: FGCLIP2) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inputs by name, and which of their dimensions may be any number."""
    inputs = _noise(model, _GRIDS[0])
    batch, patches = torch.export.Dim("batch"), torch.export.Dim("patches")
    return (
        {
            "pixel_values": inputs["pixel_values"],
            "pixel_attention_mask": inputs["pixel_attention_mask"].bool(),
            "spatial_shapes": inputs["spatial_shapes"],
        },
        {
            "pixel_values": {0: batch, 1: patches},
            "pixel_attention_mask": {0: batch, 1: patches},
            "spatial_shapes": {0: batch},
        },
    )


def _text_example(model: FGCLIP2) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inputs by name, and which of their dimensions may be any number."""
    texts = torch.export.Dim("texts")
    length = torch.export.Dim("length", max=model.processor.text.lengths["long"])
    return (
        {"input_ids": model.processor.text(_TEXTS, "short"), "kind": torch.zeros(1, dtype=torch.int64)},
        {"input_ids": {0: texts, 1: length}, "kind": {}},
    )


def _write_graph(
    graph: nn.Module, example: tuple[dict[str, Tensor], dict[str, Any]], path: Path, format: Format, opset: int
) -> None:
    """Record a graph and write it as ``path`` with the format's ending."""
    inputs, dynamic = example
    outputs = list(graph.heads) if isinstance(graph, VisionGraph) else ["text"]
    with torch.no_grad(), _quiet():
        recorded = torch.export.export(graph.eval(), (), kwargs=inputs, dynamic_shapes=dynamic)
        program = torch.onnx.export(
            recorded,
            (),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,  # for the dimensions' names
            opset_version=opset,
            custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    if format == "onnx":
        program.save(path.with_suffix(ENDING[format]), external_data=True)
        return
    import openvino

    # OpenVINO's own reader, not its converter: that one reports its use to its maker over the network.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder, "graph.onnx")
        program.save(file, external_data=True)
        openvino.save_model(
            openvino_core().read_model(os.fspath(file)), path.with_suffix(ENDING[format]), compress_to_fp16=False
        )


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention in ONNX's operators; torch's own translation passes over the scores three times more."""
    from onnxscript import opset18 as op

    scaled = op.Mul(query, op.Constant(value_float=int(query.shape[-1]) ** -0.5))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, op.Where(attn_mask, op.Constant(value_float=0.0), op.Constant(value_float=_MASKED)))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes to its developers; its errors are raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _publish(partial: Path, target: Path) -> None:
    for file in partial.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.chmod(0o644)
    if partial.parent == target:  # an empty folder stays the same one: a shell may be in it
        for file in sorted(partial.iterdir(), key=lambda file: file.name == EXPORT):  # which says that all is there
            file.replace(target / file.name)
        partial.rmdir()
        flush_folder(target)
        return
    partial.chmod(0o755)  # mkdtemp makes it private
    partial.replace(target)
    flush_folder(target.parent)

"""Exports against torch on dense features, base size, random weights: ``python -m benchmarks.export``.

int8 is here and not in ``fgclip2 export``: docs/export.md has the figures that decided it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._report import command, report
from fgclip2.config import preset
from fgclip2.cpu import has_bf16
from fgclip2.errors import Fgclip2Error
from fgclip2.export import export
from fgclip2.modeling import Fgclip2Model
from fgclip2.predictor import FGCLIP2
from fgclip2.pretrained import no_progress_bar, resolve
from fgclip2.processing import Processor
from fgclip2.runtime import ENDING, VISION, ExportedModel, load_export, open_onnx


@dataclass
class Arguments:
    """Measure one pass of the dense head."""

    rows: int = 32
    """Patches from top to bottom."""
    columns: int = 32
    """Patches from left to right."""
    runs: int = 5
    """Runs of each, in turn; the median counts."""


def base_model(directory: Path) -> FGCLIP2:
    """A base-size model of random weights with a small text tower, and the embedded tokenizer, saved and loaded."""
    embedded = resolve("tiny")
    config = preset("base")
    config.text_config.vocab_size = preset("tiny").text_config.vocab_size
    config.text_config.num_hidden_layers = 1
    torch.manual_seed(0)
    network = Fgclip2Model(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.03)
    network.save_pretrained(directory)
    for file in embedded.glob("tokenizer*.json"):
        (directory / file.name).write_bytes(file.read_bytes())
    return FGCLIP2(network, Processor.from_pretrained(directory), "base", directory)


def pass_of(network: Fgclip2Model, inputs: dict[str, Tensor], dtype: torch.dtype) -> Callable[[], Tensor]:
    """One pass of a network or an export of it, ``(1, N, D)`` float32."""
    grids, pixels = inputs["spatial_shapes"], inputs["pixel_values"].to(dtype)
    return lambda: network.dense(network.encode_image(pixels, None, grids)).float()


def pass_in_int8(exported: ExportedModel, inputs: dict[str, Tensor], file: Path) -> Callable[[], Tensor]:
    """The ONNX export with int8 weights, a scale a column, and activations quantised while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert exported.directory is not None
    quantize_dynamic(
        exported.directory / f"{VISION}{ENDING['onnx']}",
        file,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )
    run = open_onnx(file)
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    feed["pixel_attention_mask"] = feed["pixel_attention_mask"] > 0
    return lambda: torch.from_numpy(run(feed)["dense"])


def main(arguments: Arguments) -> None:
    """Measure torch, both formats and int8."""
    if min(arguments.runs, arguments.rows, arguments.columns) < 1:
        raise Fgclip2Error("--runs, --rows and --columns must be at least 1")
    with tempfile.TemporaryDirectory() as folder, no_progress_bar(), torch.no_grad():
        work = Path(folder)
        model = base_model(work / "model")
        count = arguments.rows * arguments.columns
        inputs = {
            "pixel_values": torch.randn(1, count, 768, generator=torch.Generator().manual_seed(1)).clamp(-1, 1),
            "pixel_attention_mask": torch.ones(1, count, dtype=torch.int32),
            "spatial_shapes": torch.tensor([[arguments.rows, arguments.columns]]),
        }
        onnx = export(model, work / "onnx", heads=["dense"])
        openvino = export(model, work / "openvino", format="openvino", heads=["dense"])
        assert openvino.directory is not None
        full = load_export(openvino.directory, dtype="float32")
        passes = {
            "torch float32": pass_of(model.model, inputs, torch.float32),
            "onnx float32": pass_of(onnx.model, inputs, torch.float32),
            "onnx int8": pass_in_int8(onnx, inputs, work / "int8.onnx"),
            "openvino float32": pass_of(full.model, inputs, torch.float32),
        }
        if has_bf16():
            half = Fgclip2Model.from_pretrained(work / "model", dtype=torch.bfloat16).eval().requires_grad_(False)
            low = load_export(openvino.directory, dtype="bfloat16")
            passes["torch bfloat16"] = pass_of(half, inputs, torch.bfloat16)
            passes["openvino bfloat16"] = pass_of(low.model, inputs, torch.float32)
        else:
            print("This processor has no bfloat16, and emulated it would take minutes a pass: its rows are left out.")
        usual = "torch bfloat16" if has_bf16() else "torch float32"  # what fgclip2.load takes here
        outputs = {name: run() for name, run in passes.items()}  # warms up
        seconds: dict[str, list[float]] = {name: [] for name in passes}
        for _ in range(arguments.runs):
            for name, run in passes.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        sizes = {
            "onnx float32": _size(onnx.directory, VISION),
            "onnx int8": _size(work, "int8"),
            "openvino float32": _size(openvino.directory, VISION),
        }
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    for name, median in medians.items():
        cosine = F.cosine_similarity(outputs[name], outputs["torch float32"], dim=-1)
        faster = medians[usual] / median
        rows.append(
            {
                "what": name,
                "patches": count,
                "ms": round(1000 * median),
                "against": usual,
                "times as fast": f"{faster:.2f}",
                "cosine mean": f"{float(cosine.mean()):.6f}",
                "cosine min": f"{float(cosine.min()):.6f}",
                "graph MB": round(sizes[name] / 1e6) if name in sizes else "",
            }
        )
        figures |= {f"{name} x {usual}": round(faster, 2), f"{name} cosine min": round(float(cosine.min()), 6)}
    report("export", rows, figures, case=("what", "patches"))


def _size(directory: Path | None, name: str) -> int:
    """Bytes of a graph and its weights."""
    assert directory is not None
    return sum(file.stat().st_size for file in directory.glob(f"{name}.*"))


if __name__ == "__main__":
    command(main, Arguments)

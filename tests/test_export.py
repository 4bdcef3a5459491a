"""Exports: every head equals torch on any grid, in any batch and language; and what cannot be had is an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fgclip2
from fgclip2.cli import main
from fgclip2.cpu import has_bf16
from fgclip2.errors import Fgclip2Error
from fgclip2.export import compare, export
from fgclip2.graphs import HEADS, position_weights
from fgclip2.positions import GridPositions
from fgclip2.predictor import FGCLIP2
from fgclip2.pretrained import resolve
from fgclip2.runtime import FORMATS, Agreement, ExportedModel, Format, Manifest
from fgclip2.samples import sample_images

# Both runtimes add in another order than torch; the largest difference that was seen between features is 4e-7.
SAME = 5e-6
# torch rounds the middles of cells, a position's weights by 1.3e-6; of entries up to 4, 6e-6 was seen.
POSITIONS = 1e-5
COSINE = 0.9999
NAMES = ("黑猫", "Red Car", "沙发")


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def unit(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features, dim=-1)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    ours, theirs = (item.as_subclass(torch.Tensor) for item in (ours, theirs))
    assert ours.shape == theirs.shape
    assert F.cosine_similarity(ours, theirs, dim=-1).min() >= COSINE
    assert (ours - theirs).abs().max() <= SAME


@pytest.fixture(scope="module")
def model(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> FGCLIP2:
    """The small model with positions that count beside the pixels."""
    directory = Path(shutil.copytree(tiny_dir, tmp_path_factory.mktemp("positions") / "model"))
    source = fgclip2.load(tiny_dir, device="cpu", dtype="float32").model
    with torch.no_grad():
        source.vision_model.embeddings.position_embedding.weight *= 5
    source.save_pretrained(directory)
    return fgclip2.load(directory, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exports(model: FGCLIP2, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One export with everything for each format, made once."""
    folder = tmp_path_factory.mktemp("exports")
    for format in FORMATS:
        export(model, folder / f"模型.{format}", format=format)
    return {format: folder / f"模型.{format}" for format in FORMATS}


@pytest.fixture(scope="module", params=FORMATS)
def exported(request: pytest.FixtureRequest, exports: dict[str, Path]) -> ExportedModel:
    """What ``load`` makes of it, in float32."""
    loaded = fgclip2.load(exports[request.param], dtype="float32")
    assert isinstance(loaded, ExportedModel)
    return loaded


@pytest.fixture(scope="module")
def dense_only(model: FGCLIP2, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """The dense head with baked classes and no text tower."""
    vocabulary = fgclip2.Vocabulary.build(model, NAMES, cache=False)
    return export(model, tmp_path_factory.mktemp("dense") / "d.onnx", heads=["dense"], vocabulary=vocabulary)


class TestPositions:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 3))
    def test_the_weights_are_those_of_torch(self, rows: int, columns: int, padding: int):
        table, grid = (
            torch.randn(16, 16, 8, generator=torch.Generator().manual_seed(0)),
            torch.tensor([[rows, columns]]),
        )
        expected = GridPositions.resize_positional_embeddings(table, grid, rows * columns)[0]
        weights = position_weights(grid, rows * columns + padding, 16)
        found = (weights @ table.flatten(0, 1))[0]
        assert torch.allclose(found[: rows * columns], expected, atol=POSITIONS, rtol=0)
        assert torch.allclose(found[rows * columns :], found[:1].expand(padding, -1), atol=POSITIONS, rtol=0)

    def test_a_strip_as_long_as_allowed(self):
        weights = position_weights(torch.tensor([[16_384, 1]]), 16_384, 16)
        assert torch.allclose(weights.sum(-1), torch.ones(1, 16_384))
        assert (weights[0, -1].nonzero() // 16 == 15).all()


class TestEqualsTorch:
    def test_what_was_measured_when_it_was_written(self, exported: ExportedModel, model: FGCLIP2):
        agreement = exported.manifest.agreement
        assert list(agreement) == ["image", "dense", "text"]
        for found in agreement.values():
            assert COSINE <= found.minimum <= found.mean <= 1 + 1e-9
            assert found.largest <= SAME
        assert compare(exported, model).keys() == agreement.keys()

    @pytest.mark.skipif(not has_bf16(), reason="no bfloat16 in this processor")
    def test_what_auto_computes_in_was_measured_too(self, exports: dict[str, Path], model: FGCLIP2):
        loaded = fgclip2.load(exports["openvino"], dtype="bfloat16")
        assert isinstance(loaded, ExportedModel)
        half, whole = loaded.manifest.half, loaded.manifest.agreement
        assert list(half) == list(whole)
        assert all(half[head].minimum < whole[head].minimum for head in half)
        auto = fgclip2.load(exports["openvino"]).dtype
        assert (auto == torch.bfloat16) == all(half[head].minimum >= 0.99 for head in half)
        again = compare(loaded, model)
        assert all(again[head].mean == pytest.approx(half[head].mean, abs=1e-4) for head in half)
        other = fgclip2.load(exports["onnx"])
        assert isinstance(other, ExportedModel)
        assert not other.manifest.half

    @pytest.mark.parametrize(
        ("minimum", "images", "heads", "taken"),
        [
            (0.995, 3, HEADS, torch.bfloat16),
            (0.99, 3, HEADS, torch.bfloat16),
            (0.9899, 3, HEADS, torch.float32),  # noise alone said 0.9992 of such an export
            (0.995, 0, HEADS, torch.float32),  # an older one, which was compared on noise
            (0.995, 3, ("image", "text"), torch.float32),
            (0.995, 3, (), torch.float32),  # written where there is no bfloat16
        ],
    )
    def test_bfloat16_is_a_default_only_where_it_is_close_on_images(
        self, exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimum: float, images: int,
        heads: tuple[Any, ...], taken: torch.dtype,
    ):  # fmt: skip
        monkeypatch.setattr("fgclip2.predictor.has_bf16", lambda: True)
        monkeypatch.setattr("fgclip2.cpu.has_bf16", lambda: True)
        directory = Path(shutil.copytree(exports["openvino"], tmp_path / "e"))
        half = {head: Agreement(0.9999, minimum if head == "dense" else 0.9999, 0.1) for head in heads}
        manifest = replace(Manifest.read(directory), half=half, images=images)
        (directory / "export.json").write_text(manifest.to_json(), encoding="utf-8")
        assert fgclip2.load(directory).dtype == taken
        assert fgclip2.load(directory, dtype="bf16").dtype == torch.bfloat16
        assert fgclip2.load(directory, dtype="float32").dtype == torch.float32

    def test_the_comparison_is_made_on_images_at_several_grids(self, exported: ExportedModel, model: FGCLIP2):
        """A graph that spoils only patches which resemble each other, as those of images do and noise does not."""
        assert exported.manifest.images == len(sample_images()) == 3
        seen: list[int] = []

        class Spoiled:
            def __getattr__(self, name: str) -> Any:
                return getattr(exported.model, name)

            def encode_image(self, pixel_values: torch.Tensor, *rest: Any, **named: Any) -> Any:
                encoding = exported.model.encode_image(pixel_values, *rest, **named)
                flat = pixel_values.std(-1) < 0.05
                seen.extend(flat.sum(1).tolist())
                encoding["dense"] = torch.where(flat[..., None], encoding["dense"].flip(-1), encoding["dense"])
                return encoding

        class Other:
            manifest, model, model_inputs = exported.manifest, Spoiled(), exported.model_inputs

        assert compare(Other(), model)["dense"].minimum < 0.9  # type: ignore[arg-type]
        assert sum(count > 10 for count in seen) >= 3

    def test_a_comparison_sees_another_model(self, exported: ExportedModel, tiny: FGCLIP2):
        assert compare(exported, tiny)["dense"].minimum < 0.99  # which differs in its positions only: 0.968

    @pytest.mark.parametrize("max_patches", [None, 1, 30, 1500])
    def test_dense_features_on_any_grid(self, exported: ExportedModel, model: FGCLIP2, max_patches: int | None):
        for size in ((224, 224), (97, 331), (640, 48)):
            ours, theirs = (m.dense_features(picture(*size), max_patches=max_patches) for m in (exported, model))
            assert ours.grid == theirs.grid
            assert_close(ours.map, theirs.map)
            torch.testing.assert_close(ours.norms, theirs.norms, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("batch_size", [None, 1, 3])
    def test_image_features_in_any_batch(self, exported: ExportedModel, model: FGCLIP2, batch_size: int | None):
        images = [
            picture(*size) for size in ((224, 224), (97, 131), (640, 200), (300, 1), (30, 30), (131, 97), (90, 90))
        ]
        assert_close(exported.image_features(images, batch_size=batch_size), model.image_features(images))
        assert exported.image_features([]).shape == (0, model.width)

    @pytest.mark.parametrize("kind", ["short", "long", "box"])
    def test_texts(self, exported: ExportedModel, model: FGCLIP2, kind: Any):
        texts = ["a red car", "红色的汽车", "A Red Car", "两个绿苹果在沙发上, " * 12]
        ours = exported.text_features(texts, kind=kind)
        assert ours.kind == kind
        assert_close(ours, model.text_features(texts, kind=kind))
        assert_close(exported.text_features("黑猫", kind=kind), model.text_features("黑猫", kind=kind))
        assert torch.equal(ours[0], ours[2])

    def test_all_that_is_made_of_them(self, exported: ExportedModel, model: FGCLIP2):
        image, box = picture(300, 200), [[10, 20, 150, 180], [0, 0, 300, 200]]
        assert_close(exported.region_features(image, box), model.region_features(image, box))
        maps = [m.similarity_map(image, ["黑猫", "a red car"]) for m in (exported, model)]
        assert maps[0].shape == (2, 200, 300)
        torch.testing.assert_close(*maps, atol=SAME, rtol=0)
        both = [
            sorted(m.image_and_dense_features([image, picture(64, 80)]), key=lambda x: x[0]) for m in (exported, model)
        ]
        for (row, pooled, dense), (_, expected, expected_dense) in zip(*both, strict=True):
            assert_close(pooled[None], expected[None])
            assert_close(dense.map, expected_dense.map)
            assert row < 2

    def test_vocabularies_and_hashes_go_with_both(self, exported: ExportedModel, model: FGCLIP2):
        assert exported.hash == model.hash
        ours, theirs = (fgclip2.Vocabulary.build(m, {"沙发": ["sofa"]}, cache=False) for m in (exported, model))
        ours.require(model)
        assert_close(ours.embeddings, theirs.embeddings)

    @pytest.mark.skipif(not has_bf16(), reason="no bfloat16 in this processor")
    def test_openvino_in_bfloat16(self, exports: dict[str, Path], model: FGCLIP2):
        loaded, low = (
            fgclip2.load(exports["openvino"], dtype="bfloat16"),
            fgclip2.load(model.directory, device="cpu", dtype="bfloat16"),
        )
        assert loaded.dtype == torch.bfloat16
        for size, patches in (((320, 240), 300), ((2000, 40), 600), ((700, 800), 3000)):
            maps = [m.dense_features(picture(*size), max_patches=patches).map for m in (loaded, low, model)]
            assert all(found.dtype == torch.float32 for found in maps)
            ours, theirs = (float(1 - (found * maps[2]).sum(-1).mean()) for found in maps[:2])
            assert theirs < 1e-3
            assert ours < 3e-3  # positions weigh five times as much here as the model's own


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_used_exports_outlives_them(exports: dict[str, Path]):
    """Cores that come and go left a process that the next signal ended with a segmentation fault."""
    code = f"""
import gc, os, signal, subprocess, sys
import fgclip2
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ in range(4):
    model = fgclip2.load({str(exports["openvino"])!r}, dtype="float32")
    model.text_features(["黑猫"])
    del model
    gc.collect()
assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).returncode == 0
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
child.terminate()
assert child.wait() == -signal.SIGTERM
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (7, "interrupted\n"), done.stderr[-2000:]


class TestGraphs:
    def test_anyone_can_run_them(self, exports: dict[str, Path], model: FGCLIP2):
        import onnx
        import onnxruntime

        file = exports["onnx"] / "vision.onnx"
        onnx.checker.check_model(file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert {item.name: item.shape for item in session.get_inputs()} == {
            "pixel_values": ["batch", "patches", 768],
            "pixel_attention_mask": ["batch", "patches"],
            "spatial_shapes": ["batch", 2],
        }
        assert [item.name for item in session.get_outputs()] == ["image", "dense"]
        inputs = model.processor.image([picture(50, 90), picture(33, 16)], max_patches=20)
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        image, dense = session.run(None, {**feed, "pixel_attention_mask": feed["pixel_attention_mask"] > 0})
        with torch.inference_mode():
            assert_close(unit(torch.from_numpy(image)), unit(model.model.get_image_features(**inputs)))
            real = inputs["pixel_attention_mask"].bool()
            expected = model.model.get_image_dense_feature(**inputs)[real]
            assert_close(unit(torch.from_numpy(dense)[real]), unit(expected))

    def test_another_opset(self, model: FGCLIP2, tmp_path: Path):
        import onnx

        export(model, tmp_path / "new", heads=["image"], opset=23)
        assert onnx.load(tmp_path / "new" / "vision.onnx", load_external_data=False).opset_import[0].version == 23


class TestHeads:
    def test_baked_classes_stand_for_the_text_head(self, dense_only: ExportedModel, model: FGCLIP2):
        assert dense_only.vocabulary is not None
        assert dense_only.vocabulary.names == NAMES
        texts = ["red car", "黑猫", "黑猫"]
        ours = dense_only.text_features(texts, kind="box")
        assert ours.kind == "box"
        assert_close(ours, model.text_features(texts, kind="box"))
        image = picture(120, 80)
        maps = [m.similarity_map(image, ["沙发", "黑猫"]) for m in (dense_only, model)]
        torch.testing.assert_close(*maps, atol=SAME, rtol=0)
        both = (m.dense_features_of([image, picture(64, 80)]) for m in (dense_only, model))
        for ours, theirs in zip(*both, strict=True):
            torch.testing.assert_close(ours.map, theirs.map, atol=SAME, rtol=0)
        with pytest.raises(Fgclip2Error, match="'绿苹果' is not among the 3 classes .*'黑猫', 'Red Car', '沙发'"):
            dense_only.text_features(["黑猫", "绿苹果"], kind="box")

    @pytest.mark.parametrize(
        ("call", "head"),
        [
            (lambda m: m.image_features([]), "image"),
            (lambda m: m.image_and_dense_features([]), "image"),
            (lambda m: m.text_features(["黑猫"]), "text"),
            (lambda m: m.text_features(["黑猫"], kind="long"), "text"),
        ],
    )
    def test_what_was_not_exported_is_refused(
        self, dense_only: ExportedModel, call: Callable[[ExportedModel], object], head: str
    ):
        with pytest.raises(Fgclip2Error, match=f"has no {head} head, only dense; .*fgclip2 export .*--head .*{head}"):
            call(dense_only)

    def test_texts_alone(self, model: FGCLIP2, tmp_path: Path):
        assert main([*self.command(model, tmp_path), "--head", "text"]) == 0
        loaded = fgclip2.load(tmp_path / "out")
        assert_close(loaded.text_features(["黑猫"]), model.text_features(["黑猫"]))
        assert not (tmp_path / "out" / "vision.onnx").exists()
        for call in (loaded.dense_features, loaded.image_features, lambda image: loaded.region_features(image, [])):
            with pytest.raises(Fgclip2Error, match="has no (dense|image) head, only text"):
                call(picture(32, 32))

    def test_blocks_have_no_outputs(self, dense_only: ExportedModel):
        inputs = dense_only.model_inputs(dense_only.processor.image(picture(32, 32)))
        with pytest.raises(Fgclip2Error, match=r"layers \(-1,\)"):
            dense_only.model.encode_image(**inputs, layers=[-1])

    @staticmethod
    def command(model: FGCLIP2, folder: Path) -> list[str]:
        return ["export", "--model", str(model.directory), "--out", str(folder / "out")]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"heads": ["boxes"]}, "head 'boxes': choose one or more of image, dense, text"),
            ({"heads": []}, "head none"),
            ({"format": "tflite"}, "format 'tflite': choose one of onnx, openvino"),
            ({"opset": 11}, "opset 11: give 18 to 23"),
        ],
    )
    def test_arguments(self, model: FGCLIP2, tmp_path: Path, arguments: dict[str, Any], message: str):
        with pytest.raises(Fgclip2Error, match=message):
            export(model, tmp_path / "out", **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_models(self, model: FGCLIP2, tiny: FGCLIP2, exported: ExportedModel, tmp_path: Path):
        with pytest.raises(Fgclip2Error, match="dtype='float32'"):
            export(fgclip2.load(tiny.directory, device="cpu", dtype="bf16"), tmp_path / "out")
        with pytest.raises(Fgclip2Error, match="in memory only"):
            export(FGCLIP2(model.model, model.processor), tmp_path / "out")
        with pytest.raises(Fgclip2Error, match="is an export itself"):
            export(exported, tmp_path / "out")
        with pytest.raises(Fgclip2Error, match="made by model"):
            export(model, tmp_path / "out", vocabulary=fgclip2.Vocabulary.build(tiny, NAMES, cache=False))

    def test_nothing_is_written_over(self, model: FGCLIP2, tmp_path: Path):
        (tmp_path / "mine.txt").write_text("kept")
        with pytest.raises(Fgclip2Error, match="exists; give a directory that does not"):
            export(model, tmp_path)
        assert (tmp_path / "mine.txt").read_text() == "kept"

    def test_an_empty_folder_is_filled(self, model: FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "空").mkdir()
        monkeypatch.chdir(tmp_path / "空")
        before = Path(".").stat().st_ino
        assert main(["export", "--model", str(model.directory), "--out", ".", "--head", "text"]) == 0
        assert Path(".").stat().st_ino == before == (tmp_path / "空").stat().st_ino
        assert {file.name for file in Path(".").iterdir()} >= {"export.json", "config.json", "text.onnx"}
        assert not any(file.is_dir() for file in Path(".").iterdir())
        assert_close(fgclip2.load(".").text_features(["黑猫"]), model.text_features(["黑猫"]))

    def test_a_bad_export_is_not_kept(self, model: FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("fgclip2.export.LEAST_COSINE", 1.1)
        with pytest.raises(Fgclip2Error, match=r"dense features differ from torch's: cosine (1\.0|0\.99999)"):
            export(model, tmp_path / "out", heads=["dense"])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
    def test_a_missing_package(self, model: FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str):
        monkeypatch.setattr("fgclip2.extras.find_spec", lambda name: None if name == package else object())
        with pytest.raises(Fgclip2Error, match=rf"the package {package} is missing; .*pip install 'fgclip2\[export\]'"):
            export(model, tmp_path / "out")

    @pytest.mark.parametrize(
        ("format", "arguments", "message"),
        [
            ("onnx", {"dtype": "bf16"}, "dtype 'bf16': exports of format onnx compute in 'float32'"),
            ("openvino", {"dtype": torch.float16}, "'float32' and 'bfloat16'"),
            ("onnx", {"dtype": "int8"}, "dtype 'int8' cannot be used"),
            ("openvino", {"device": "cuda"}, "exports run on the CPU"),
        ],
    )
    def test_loading(self, exports: dict[str, Path], format: Format, arguments: dict[str, Any], message: str):
        with pytest.raises(Fgclip2Error, match=message):
            fgclip2.load(exports[format], **arguments)


class TestDamage:
    @pytest.mark.parametrize(
        ("name", "kept", "message"),
        [
            ("vision.onnx.data", 100, "vision.onnx.data has 100 bytes, where .* were written; copy the whole"),
            ("vision.onnx", None, "vision.onnx is missing"),
            ("tokenizer.json", None, "tokenizer.json"),
            ("vocabulary.safetensors", 9, "vocabulary.safetensors has 9 bytes"),
            ("export.json", 20, "export.json cannot be read"),
            ("export.json", None, "is a part of an export: it lacks export.json"),
        ],
    )
    def test_a_directory_that_was_cut_short(
        self, dense_only: ExportedModel, tmp_path: Path, name: str, kept: int | None, message: str
    ):
        assert dense_only.directory is not None
        file = Path(shutil.copytree(dense_only.directory, tmp_path / "copy")) / name
        content = file.read_bytes()
        file.unlink() if kept is None else file.write_bytes(content[:kept])
        with pytest.raises(Fgclip2Error, match=message):
            fgclip2.load(tmp_path / "copy")

    def test_what_needs_weights_says_so(self, dense_only: ExportedModel):
        with pytest.raises(Fgclip2Error, match="is an export, which cannot be trained .* give the model itself"):
            resolve(dense_only.directory)

    @pytest.mark.parametrize("name", ["vision.onnx", "vision.xml"])
    def test_a_graph_that_was_overwritten(self, exports: dict[str, Path], tmp_path: Path, name: str):
        source = exports["onnx" if name.endswith("onnx") else "openvino"]
        copy = Path(shutil.copytree(source, tmp_path / "copy"))
        (copy / name).write_bytes(b"?" * (copy / name).stat().st_size)
        with pytest.raises(Fgclip2Error, match=r"vision\.(onnx|xml) cannot be opened") as caught:
            fgclip2.load(copy).dense_features(picture(32, 32))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("change", [{"version": 2}, {"format": "tflite"}, {"heads": ["boxes"]}, {"more": 1}])
    def test_another_manifest(self, dense_only: ExportedModel, tmp_path: Path, change: dict[str, Any]):
        assert dense_only.directory is not None
        fields = json.loads((dense_only.directory / "export.json").read_text(encoding="utf-8"))
        (tmp_path / "export.json").write_text(json.dumps({**fields, **change}), encoding="utf-8")
        with pytest.raises(Fgclip2Error, match="export the model again"):
            Manifest.read(tmp_path)


def test_the_command(model: FGCLIP2, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fgclip2.Vocabulary.build(model, NAMES, cache=False).save(tmp_path / "v.safetensors")
    command = ["export", "--model", str(model.directory), "--head", "dense", "--format", "openvino"]
    out = ["--out", str(tmp_path / "出")]
    assert main([*command, "--vocabulary", str(tmp_path / "v.safetensors"), *out]) == 0
    shown = capsys.readouterr().out
    assert "dense  in float32 : cosine to torch in float32 1.000000 on average, " in shown
    assert "3 classes" in shown
    loaded = fgclip2.load(tmp_path / "出")
    assert isinstance(loaded, ExportedModel)
    assert loaded.vocabulary is not None
    assert "format=openvino, heads=dense" in repr(loaded)
    assert main([*command, *out]) == 2
    assert "exists; give a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--out", "x", "--format", "tflite"])


def test_formats_are_those_of_the_type() -> None:
    assert get_args(Format) == FORMATS

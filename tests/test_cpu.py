"""A processor without bfloat16 computes in float32, unless it is told to emulate, which is said once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fgclip2
from fgclip2 import cpu
from fgclip2.predictor import choose_dtype
from fgclip2.tower import encode_maps
from fgclip2.train.recipe import RunConfig
from fgclip2.train.run import build_stage

PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    cpu._warn_of_emulation.cache_clear()
    yield
    cpu._warn_of_emulation.cache_clear()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROBES:
        monkeypatch.setattr(torch.cpu, name, lambda: False)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("name", ["bfloat16", "bf16", torch.bfloat16, "float16"])
def test_what_was_asked_for_is_done_and_said_once(name: object, caplog: pytest.LogCaptureFixture):
    for _ in range(3):
        assert choose_dtype(name, torch.device("cpu")) in (torch.bfloat16, torch.float16)  # type: ignore[arg-type]
    assert len(caplog.messages) == 1
    assert "float16 was asked for, but this processor has no instructions" in caplog.text
    assert "ask for float32 or auto" in caplog.text


@pytest.mark.usefixtures("without")
def test_auto_and_accelerators_say_nothing(tiny_dir: Path, caplog: pytest.LogCaptureFixture):
    assert fgclip2.load(tiny_dir, device="cpu").dtype == torch.float32
    assert choose_dtype("float32", torch.device("cpu")) == torch.float32
    assert choose_dtype("bfloat16", torch.device("cuda")) == torch.bfloat16
    assert caplog.messages == []


def test_a_processor_that_has_it_says_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(torch.cpu, PROBES[1], lambda: True)
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert caplog.messages == []


@pytest.mark.usefixtures("without")
def test_towers_of_detectors_and_segmentors(tiny: fgclip2.FGCLIP2, caplog: pytest.LogCaptureFixture):
    images = torch.zeros(1, 3, 32, 48)
    assert encode_maps(tiny.model, images).dense.shape == (1, 64, 2, 3)
    assert caplog.messages == []
    low = encode_maps(tiny.model, images, arithmetic=torch.bfloat16).dense
    assert "bfloat16 was asked for" in caplog.text
    torch.testing.assert_close(low, encode_maps(tiny.model, images).dense, atol=0.05, rtol=0.02)  # bf16 has 8 bits


@pytest.mark.usefixtures("without")
def test_pretraining(tiny: fgclip2.FGCLIP2, caplog: pytest.LogCaptureFixture):
    for precision, compute in (("auto", "float32"), ("fp32", "float32"), ("bf16", "cast")):
        assert caplog.messages == []
        assert build_stage(tiny.model, RunConfig(precision=precision)).compute == compute  # type: ignore[arg-type]
    assert "bfloat16 was asked for" in caplog.text

"""`import fgclip2` is cheap, and every public name arrives when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fgclip2

# Each takes longer to import than all of fgclip2: transformers' models bring distributed tensors and, where it is
# installed, scipy; torch's compiler brings sympy and triton; torchvision brings torch's compiler.
NOT_TO_INFER = ("transformers", "torchvision", "huggingface_hub", "accelerate", "scipy", "sympy", "triton", "sklearn",
                "pandas", "torch._dynamo", "torch._inductor", "torch.distributed.tensor")  # fmt: skip
HEAVY = ("torch", "torchvision", "transformers", "tokenizers", "mmdet", "mmengine", "gradio", "faiss", "ray", "PIL")


def loaded_after(statement: str, heavy: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of ``heavy`` are in ``sys.modules`` of a fresh interpreter after ``statement``."""
    code = f"import sys; {statement}; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    assert loaded_after("import fgclip2") == set()


def test_predictor_waits_for_transformers_until_a_model_is_loaded():
    assert loaded_after("from fgclip2 import load, Vocabulary, DenseFeatures, draw_boxes") == {"torch", "PIL"}


def test_features_need_torch_alone():
    picture = "numpy.zeros((48, 64, 3), numpy.uint8)"
    first = f"import fgclip2, numpy; model = fgclip2.load('tiny', device='cpu'); model.image_features({picture})"
    more = f"model.dense_features({picture}); model.text_features(['黑猫', 'a red car']); model.hash"
    assert loaded_after(f"{first}; {more}; import torch", ("torch", *NOT_TO_INFER)) == {"torch"}


@pytest.mark.parametrize("name", [name for name in fgclip2.__all__ if name != "losses"])
def test_every_public_name_can_be_had(name: str):
    value = getattr(fgclip2, name)
    assert value.__name__ == name
    assert value.__module__.startswith("fgclip2.")
    assert name in dir(fgclip2)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = fgclip2.no_such_name


def test_version():
    assert fgclip2.__version__.count(".") == 2

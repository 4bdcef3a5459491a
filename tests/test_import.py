"""`import fgclip2` is cheap, and every public name arrives when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fgclip2

HEAVY = ("torch", "torchvision", "transformers", "tokenizers", "mmdet", "mmengine", "gradio", "faiss", "ray", "PIL")


def loaded_after(statement: str) -> set[str]:
    """Heavy packages in ``sys.modules`` of a fresh interpreter after ``statement``."""
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    assert loaded_after("import fgclip2") == set()


def test_predictor_waits_for_transformers_until_a_model_is_loaded():
    assert loaded_after("from fgclip2 import load, Vocabulary, DenseFeatures, draw_boxes") == {"torch", "PIL"}


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

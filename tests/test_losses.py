"""Losses against the released code's values and against plain numpy; float32, 1e-5 relative as golden files allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.special import log_expit, log_softmax

from fgclip2 import losses


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(golden_dir / "golden.safetensors").items() if "loss." in name}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_sigmoid_agrees_with_the_released_code(golden):
    value = losses.sigmoid_loss(golden["loss.image"], golden["loss.text"], golden["loss.scale"], golden["loss.bias"])
    assert value.item() == pytest.approx(golden["loss.sigmoid"].item(), rel=1e-5)


def test_region_contrastive_agrees_with_the_released_code(golden):
    scale = golden["loss.region_log_scale"].exp()
    value = losses.region_contrastive_loss(golden["loss.region_image"], golden["loss.region_text"], scale)
    assert value.item() == pytest.approx(golden["loss.fgv"].item(), rel=1e-5)


def test_hard_negatives_agree_with_the_released_code(golden):
    texts = golden["loss.hard_text"].unflatten(0, (5, 11))
    value = losses.hard_negative_loss(golden["loss.hard_image"], texts, golden["loss.region_log_scale"].exp())
    assert value.item() == pytest.approx(golden["loss.hard_pair"].item(), rel=1e-5)


def test_sigmoid_is_the_formula_and_leaves_out_what_is_also_true():
    image, text, ignore = unit(4, 8), unit(4, 8, seed=1), torch.zeros(4, 4, dtype=torch.bool)
    ignore[0, 2] = ignore[3, 1] = True
    logits = 10 * image.numpy() @ text.numpy().T - 3
    terms = log_expit(np.where(np.eye(4), logits, -logits))
    scale, bias = torch.tensor(10.0), torch.tensor(-3.0)
    assert losses.sigmoid_loss(image, text, scale, bias).item() == pytest.approx(-terms.sum() / 4, rel=1e-5)
    kept = -terms[~ignore.numpy()].sum() / 4
    assert losses.sigmoid_loss(image, text, scale, bias, ignore=ignore).item() == pytest.approx(kept, rel=1e-5)


def test_region_contrastive_is_symmetric_and_leaves_out_what_is_also_true():
    region, text, scale = unit(5, 8), unit(5, 8, seed=1), torch.tensor(20.0)
    forth = losses.region_contrastive_loss(region, text, scale)
    assert forth.item() == pytest.approx(losses.region_contrastive_loss(text, region, scale).item(), rel=1e-6)
    ignore = torch.zeros(5, 5, dtype=torch.bool)
    ignore[1, 3] = True
    logits = np.where(ignore.numpy(), -np.inf, 20 * region.numpy() @ text.numpy().T)
    expected = -(np.diag(log_softmax(logits, 1)).mean() + np.diag(log_softmax(logits, 0)).mean()) / 2
    assert losses.region_contrastive_loss(region, text, scale, ignore).item() == pytest.approx(expected, rel=1e-5)
    assert losses.region_contrastive_loss(region[:1], text[:1], scale).item() == 0


def test_hard_negatives_with_ragged_rows_equal_each_row_alone():
    region, texts, scale = unit(2, 8), unit(2, 4, 8, seed=1), torch.tensor(15.0)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    together = losses.hard_negative_loss(region, texts, scale, mask)
    alone = [
        losses.hard_negative_loss(region[row : row + 1], texts[row : row + 1, : mask[row].sum()], scale).item()
        for row in range(2)
    ]
    assert together.item() == pytest.approx(np.mean(alone), rel=1e-6)


def test_gradients_are_finite_where_pairs_are_left_out():
    region, text = unit(3, 4).requires_grad_(), unit(3, 4, seed=1)
    ignore = ~torch.eye(3, dtype=torch.bool)
    losses.region_contrastive_loss(region, text, torch.tensor(100.0), ignore).backward()
    assert torch.isfinite(region.grad).all()

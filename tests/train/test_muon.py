"""Muon's updates where bfloat16 is emulated: the same directions, in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fgclip2.train import muon
from fgclip2.train.optim import build_optimizer, parameter_groups
from fgclip2.train.recipe import OptimConfig

GROUP = {"ns_steps": 5, "ns_coeffs": [(3.4445, -4.7750, 2.0315)], "ns_method": "newton_schulz"}


@pytest.mark.parametrize("shape", [(48, 48), (32, 96), (96, 32)])
def test_updates_are_orthogonal_in_float32(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Singular values become 0.7 to 1.2 (Muon's coefficients do not converge to 1), their vectors stay."""
    monkeypatch.setattr(muon, "has_bf16", lambda: False)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (got,) = muon.Muon._orthogonalize(GROUP, [given])
    assert got.dtype == torch.float32
    u, _, vt = torch.linalg.svd(given, full_matrices=False)
    values = u.T @ got @ vt.T
    assert values.diagonal().min() > 0.6
    assert values.diagonal().max() < 1.25
    # Off the diagonal float32 leaves nothing; with bfloat16 there is up to 1e-2.
    assert (values - values.diagonal().diag()).abs().max() < 1e-4


def test_both_ways_point_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 has 8 bits: cosine 0.999."""
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(40, 24, generator=generator), torch.randn(24, 40, generator=generator)]
    results = []
    for there in (True, False):
        monkeypatch.setattr(muon, "has_bf16", lambda there=there: there)
        results.append(muon.Muon._orthogonalize(GROUP, [each.clone() for each in given]))
    for half, whole in zip(*results, strict=True):
        assert half.dtype == torch.bfloat16
        assert F.cosine_similarity(half.float().flatten(), whole.flatten(), dim=0) > 0.999


def test_a_step_follows_the_formula_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nesterov momentum from zero: the update is the gradient's direction, at Moonlight's size 0.2 sqrt(max side)."""
    monkeypatch.setattr(muon, "has_bf16", lambda: False)
    module = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(12, 20, bias=False)])})
    config = OptimConfig(lr=1e-3, muon_lr=2e-2, weight_decay=0.0)
    optimizer = build_optimizer(parameter_groups(nn.ModuleDict({"x": module}), config), config)
    weight = module["layers"][0].weight
    before = weight.detach().clone()
    weight.grad = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    gradient = weight.grad.clone()
    optimizer.step()
    (direction,) = muon.Muon._orthogonalize(GROUP, [gradient])
    expected = before - 2e-2 * 0.2 * 20**0.5 * direction
    assert torch.allclose(weight, expected, atol=1e-6)

"""The cost aggregation head: what must not change its logits, and its loss by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2_detectron2.head import CostAggregationHead, segmentation_loss
from fgclip2_detectron2.segmentor import closeness

D, P = 12, 2


@pytest.fixture(scope="module")
def head() -> CostAggregationHead:
    torch.manual_seed(0)
    return CostAggregationHead(D, prompts=P, hidden=8, window=3, heads=2, guidance=6, decoder=(6, 4),
                               decoder_guidance=(3, 2), mlp_ratio=2).eval()  # fmt: skip


def inputs(classes: int, rows: int, columns: int, batch: int = 1, seed: int = 1) -> tuple[Tensor, list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(batch, D, rows, columns, generator=generator)
    tokens = [torch.randn(batch, D, rows, columns, generator=generator) * 3 for _ in range(2)]
    return dense, tokens, F.normalize(torch.randn(classes, P, D, generator=generator), dim=-1)


def test_logits_are_four_times_finer_than_patches(head: CostAggregationHead) -> None:
    dense, tokens, texts = inputs(5, 4, 7, batch=2)
    assert head.scale == 4
    assert head(dense, tokens, texts).shape == (2, 5, 16, 28)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 7), st.integers(1, 8), st.integers(1, 5), st.integers(0, 99))
def test_classes_permute_and_chunks_change_nothing(classes: int, rows: int, chunk: int, seed: int) -> None:
    torch.manual_seed(seed)
    head = CostAggregationHead(D, prompts=P, hidden=8, window=3, heads=2, guidance=6, decoder=(6, 4),
                               decoder_guidance=(3, 2), mlp_ratio=2)  # fmt: skip
    dense, tokens, texts = inputs(classes, rows, 4, batch=2, seed=seed)
    with torch.no_grad():
        whole = head(dense, tokens, texts)
        order = torch.randperm(classes)
        torch.testing.assert_close(head(dense, tokens, texts[order]), whole[:, order], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(head(dense, tokens, texts, class_chunk=chunk), whole, atol=1e-5, rtol=1e-5)


def test_another_class_changes_the_others(head: CostAggregationHead) -> None:
    """Chunks are exact although classes see each other: that they do is what this shows."""
    dense, tokens, texts = inputs(4, 4, 4)
    assert (head(dense, tokens, texts)[:, :3] - head(dense, tokens, texts[:3])).abs().max() > 1e-4


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_padding_has_no_influence(rows: int, columns: int, down: int, right: int) -> None:
    torch.manual_seed(0)
    head = CostAggregationHead(D, prompts=P, hidden=8, window=4, heads=2, guidance=6, decoder=(6, 4),
                               decoder_guidance=(3, 2), mlp_ratio=2)  # fmt: skip
    dense, tokens, texts = inputs(3, rows, columns)
    pads = (0, right, 0, down)
    inside = F.pad(torch.ones(1, 1, rows, columns), pads)
    with torch.no_grad():
        alone = head(dense, tokens, texts)
        padded = head(F.pad(dense, pads), [F.pad(maps, pads) for maps in tokens], texts, inside)
    torch.testing.assert_close(padded[..., : 4 * rows, : 4 * columns], alone, atol=1e-5, rtol=1e-5)


def test_every_weight_learns(head: CostAggregationHead) -> None:
    dense, tokens, texts = inputs(4, 5, 5)
    head.zero_grad()
    head(dense, tokens, texts, class_chunk=3).square().sum().backward()
    assert [name for name, parameter in head.named_parameters() if parameter.grad is None] == []
    head.zero_grad()


def test_pictures_of_a_batch_are_apart(head: CostAggregationHead) -> None:
    dense, tokens, texts = inputs(3, 5, 4, batch=2)
    with torch.no_grad():
        both = head(dense, tokens, texts)
        second = head(dense[1:], [maps[1:] for maps in tokens], texts)
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-5)


def test_loss_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 2, 3)).astype(np.float32)
    targets = rng.integers(0, 5, (2, 8, 12))
    targets[0, :4, :4] = 9  # a whole place that is ignored
    targets[1, 0, 0] = 9
    ids = np.array([0, 2, 3])
    total, weight = 0.0, 0.0
    for b, t, y, x in np.ndindex(2, 3, 2, 3):
        place = targets[b, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        known = (place != 9).mean()
        weight += known / 3
        if known:
            share = (place == ids[t]).sum() / (place != 9).sum()
            p = 1 / (1 + np.exp(-logits[b, t, y, x]))
            total -= known * (share * np.log(p) + (1 - share) * np.log(1 - p))
    found = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(targets), torch.from_numpy(ids), 9, chunk=2)
    assert found.item() == pytest.approx(total / (weight * 3), rel=1e-5)
    nothing = torch.full((2, 8, 12), 9)
    assert segmentation_loss(torch.from_numpy(logits), nothing, torch.from_numpy(ids), 9) == 0
    with pytest.raises(Fgclip2Error, match="whole multiple"):
        segmentation_loss(torch.from_numpy(logits), nothing[:, :7], torch.from_numpy(ids), 9)


def test_closeness_by_hand() -> None:
    dense, _, texts = inputs(6, 3, 4, batch=2)
    inside = torch.ones(2, 1, 3, 4)
    inside[0, :, :, 2:] = 0
    found = closeness(dense, texts, inside).numpy()
    mean = texts.mean(1).numpy()
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    best = np.full(6, -np.inf)
    for b, y, x in np.argwhere(inside[:, 0].numpy()):
        vector = dense[b, :, y, x].numpy()
        cosines = mean @ vector / np.linalg.norm(vector)
        best = np.maximum(best, [cosines[k] - np.delete(cosines, k).max() for k in range(6)])
    np.testing.assert_allclose(found, best, atol=1e-5)
    assert closeness(dense, texts[:1], inside).tolist() == [1]


def test_candidates_are_the_clearest_winners() -> None:
    """Sixteen patches, each won by a class of its own, by more and more: the last four lead, whatever their place."""
    texts = F.normalize(torch.eye(20)[:, None] + 0.1, dim=-1)
    dense = texts[:16, 0].T.clone()
    dense[16:] += torch.linspace(0.5, 0, 16)  # what all others like
    for order in (torch.arange(20), torch.arange(20).flip(0), torch.randperm(20, generator=torch.Generator())):
        found = closeness(dense.view(1, 20, 4, 4), texts[order])
        assert (found > 0).sum() == 16
        assert set(order[found.topk(4).indices].tolist()) == {12, 13, 14, 15}


def test_bad_input_is_named(head: CostAggregationHead) -> None:
    dense, tokens, texts = inputs(3, 4, 4)
    with pytest.raises(Fgclip2Error, match=r"\(T, 2, 12\)"):
        head(dense, tokens, texts[:, :1])
    with pytest.raises(Fgclip2Error, match="1 token maps; this head takes 2"):
        head(dense, tokens[:1], texts)
    with pytest.raises(Fgclip2Error, match="multiple of heads"):
        CostAggregationHead(D, hidden=10, heads=4)
    with pytest.raises(Fgclip2Error, match="for every doubling"):
        CostAggregationHead(D, decoder=(8,))

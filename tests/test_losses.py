"""Losses against the released code's values and against plain numpy; float32, 1e-5 relative as golden files allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.special import log_expit, log_softmax, logsumexp

from fgclip2 import losses
from fgclip2.errors import Fgclip2Error

EXAMPLES = settings(max_examples=25, deadline=None)
ANY = (float("-inf"), float("inf"))


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


def test_text_intra_agrees_with_the_released_code(golden):
    value = losses.text_intra_contrastive_loss(golden["loss.region_text"], filtered="zero", reduction="mean")
    assert value.item() == pytest.approx(golden["loss.tic"].item(), rel=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_the_hard_block_agrees_with_the_released_code(golden, threshold):
    region, texts = golden["loss.hard_image"], golden["loss.hard_text"].unflatten(0, (5, 11))
    scale = golden["loss.region_log_scale"].exp()
    scores = torch.einsum("md,mkd->mk", region, texts) * scale
    rank, following = losses.rank_loss(scores[:, 0], scores[:, 1:], torch.tensor([threshold]), bounds=ANY)
    if threshold == 0.7:
        assert rank.item() == pytest.approx(golden["loss.cmr_0.7"].item(), rel=1e-5)
    assert following.item() == pytest.approx(golden[f"loss.hard_next_threshold_{threshold}"].item(), rel=1e-5)
    itc, pair = losses.hard_itc_loss(region, texts, scale), losses.hard_negative_loss(region, texts, scale)
    total = 0.6 * itc + 3 * pair + 0.4 * rank
    assert total.item() == pytest.approx(golden[f"loss.hard_total_threshold_{threshold}"].item(), rel=1e-5)


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


def test_hard_itc_is_the_formula_with_every_negative_against_every_region():
    region, texts, mask = unit(3, 8), unit(3, 4, 8, seed=1), torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2:] = mask[2, 1:] = False
    positives, negatives = texts[:, 0].numpy(), texts[:, 1:][mask[:, 1:]].numpy()
    assert len(negatives) == 4
    forth = 7 * region.numpy() @ np.concatenate([positives, negatives]).T
    back = 7 * positives @ region.numpy().T
    expected = -(np.diag(log_softmax(forth, 1)[:, :3]).mean() + np.diag(log_softmax(back, 1)).mean()) / 2
    found = losses.hard_itc_loss(region, texts, torch.tensor(7.0), mask)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 12])
@pytest.mark.parametrize("filtered", ["remove", "zero"])
def test_text_intra_is_the_formula_for_any_number_of_texts(count, filtered):
    text = unit(count, 4)
    text[-1] = text[0]  # a pair to filter
    similarity = (text @ text.T).numpy()
    same = (similarity > 0.95) | np.eye(count, dtype=bool)
    expected = []
    for row, out in zip(similarity, same, strict=True):
        candidates = row[~out] if filtered == "remove" else np.where(out, 0, row)
        expected.append(logsumexp(np.sort(candidates)[::-1][:10]) if len(candidates) else 0)
    found = losses.text_intra_contrastive_loss(text, filtered=filtered)
    assert found.item() == pytest.approx(sum(expected), rel=1e-5)
    mean = losses.text_intra_contrastive_loss(text, filtered=filtered, reduction="mean")
    assert mean.item() == pytest.approx(sum(expected) / count, rel=1e-5)


def test_rank_is_the_formula_and_its_next_threshold_the_mean_margin():
    positive, negative = torch.tensor([0.5, 0.1]), torch.tensor([[0.2, 0.9], [0.0, 9.0]])
    mask = torch.tensor([[True, True], [True, False]])
    value, following = losses.rank_loss(positive, negative, torch.tensor(0.2), mask)
    assert value.item() == pytest.approx((0.0 + 0.6 + 0.1) / 3, rel=1e-5)
    assert following.item() == pytest.approx((0.3 - 0.4 + 0.1) / 3, abs=1e-6)
    _, following = losses.rank_loss(positive + 1, negative, torch.tensor(0.2), mask)
    assert following.item() == pytest.approx((1.3 + 0.6 + 1.1) / 3, rel=1e-5)
    assert not following.requires_grad
    assert losses.rank_loss(positive + 99, negative, torch.tensor(0.2))[1].item() == 10
    assert losses.rank_loss(positive - 99, negative, torch.tensor(0.2), bounds=ANY)[1].item() < -90


def test_rank_keeps_its_threshold_where_there_is_no_pair():
    for shape in ((0, 3), (2, 0)):
        value, following = losses.rank_loss(torch.ones(shape[0]), torch.ones(shape), torch.tensor(0.25))
        assert (value.item(), following.item()) == (0, 0.25)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    value, following = losses.rank_loss(torch.ones(2), torch.ones(2, 3), torch.tensor(0.25), nothing)
    assert (value.item(), following.item()) == (0, 0.25)


@EXAMPLES
@given(count=st.integers(1, 9), chunk=st.integers(1, 10), seed=st.integers(0, 99), some=st.booleans())
def test_sigmoid_and_its_gradients_are_the_plain_ones_whatever_the_chunk(count, chunk, seed, some):
    ignore = (torch.rand(count, count, generator=torch.Generator().manual_seed(seed)) < 0.3) if some else None
    # In float64: the bias's gradient is a small difference of large sums, of which float32 keeps no 5 digits.
    found, expected = ([item.detach().double().requires_grad_() for item in _sigmoid_inputs(count, seed)] for _ in "12")
    value = losses.sigmoid_loss(*found, chunk_size=chunk, ignore=ignore)
    (3 * value).backward()
    image, text, scale, bias = expected
    terms = F.logsigmoid((2 * torch.eye(count) - 1).double() * (image @ text.T * scale + bias))
    left_out = torch.zeros(count, count, dtype=torch.bool) if ignore is None else ignore & ~torch.eye(count).bool()
    plain = -terms.masked_fill(left_out, 0).sum() / count
    (3 * plain).backward()
    assert value.item() == pytest.approx(plain.item(), rel=1e-10)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-10)


@EXAMPLES
@given(count=st.integers(1, 7), seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(count, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    region, texts, scale = unit(count, 8, seed=seed), unit(count, 4, 8, seed=seed + 1), torch.tensor(9.0)
    mask = torch.rand(count, 4, generator=generator) < 0.6
    mask[:, 0] = True
    ignore = torch.rand(count, count, generator=generator) < 0.3

    def every(rows: torch.Tensor) -> list[float]:
        image, text, phrases, kept = region[rows], texts[rows, 0], texts[rows], mask[rows]
        among, scores = ignore[rows][:, rows], (image[:, None] * phrases).sum(-1)
        return [
            losses.sigmoid_loss(image, text, scale, torch.tensor(-2.0), ignore=among).item(),
            losses.region_contrastive_loss(image, text, scale, ignore=among).item(),
            losses.hard_negative_loss(image, phrases, scale, kept).item(),
            losses.hard_itc_loss(image, phrases, scale, kept).item(),
            losses.text_intra_contrastive_loss(text, top_k=3).item(),
            *(item.item() for item in losses.rank_loss(scores[:, 0], scores[:, 1:], scale / 9, kept[:, 1:])),
        ]

    assert every(order) == pytest.approx(every(torch.arange(count)), rel=1e-5, abs=1e-6)


@EXAMPLES
@given(negatives=st.lists(st.integers(0, 3), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_what_is_masked_does_not_matter(negatives, seed):
    mask = torch.arange(4) <= torch.tensor(negatives)[:, None]
    region, texts, scale = unit(len(mask), 8, seed=seed), unit(len(mask), 4, 8, seed=seed + 1), torch.tensor(9.0)
    other = torch.where(mask[..., None], texts, unit(len(mask), 4, 8, seed=seed + 2))
    for loss in (losses.hard_negative_loss, losses.hard_itc_loss):
        assert loss(region, texts, scale, mask).item() == pytest.approx(
            loss(region, other, scale, mask).item(), rel=1e-6
        )
    alone = [
        losses.hard_negative_loss(region[row : row + 1], texts[row : row + 1, : 1 + count], scale).item()
        for row, count in enumerate(negatives)
    ]
    assert losses.hard_negative_loss(region, texts, scale, mask).item() == pytest.approx(
        np.mean(alone), rel=1e-5, abs=1e-6
    )
    scores, threshold = torch.einsum("md,mkd->mk", region, texts), torch.tensor(0.3)
    value, following = losses.rank_loss(scores[:, 0], scores[:, 1:], threshold, mask[:, 1:], bounds=ANY)
    pairs = [scores[row, 0] - scores[row, 1 + k] for row, count in enumerate(negatives) for k in range(count)]
    if pairs:
        margins = torch.stack(pairs)
        assert value.item() == pytest.approx((0.3 - margins).relu().mean().item(), rel=1e-5, abs=1e-6)
        assert following.item() == pytest.approx(margins.mean().item(), rel=1e-5, abs=1e-6)


def test_gradients_are_those_of_finite_differences():
    def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()

    image, text, texts = leaf(4, 3), leaf(4, 3, seed=1), leaf(4, 3, 3, seed=2)
    scale, bias = torch.tensor([2.0, -1.0], dtype=torch.float64).requires_grad_().unbind()
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False], [True, True, True]])
    ignore = torch.zeros(4, 4, dtype=torch.bool)
    ignore[0, 1] = ignore[2, 3] = ignore[1, 1] = True

    def rank(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        return losses.rank_loss(positive, negative, torch.tensor(0.4), mask[:, 1:])[0]

    def intra(*given: torch.Tensor) -> torch.Tensor:
        return losses.text_intra_contrastive_loss(F.normalize(*given, dim=1), top_k=2)

    check = torch.autograd.gradcheck
    assert check(lambda *it: losses.sigmoid_loss(*it, chunk_size=3, ignore=ignore), (image, text, scale, bias))
    assert check(lambda *it: losses.region_contrastive_loss(*it, ignore=ignore), (image, text, scale))
    assert check(lambda *it: losses.hard_negative_loss(*it, mask=mask), (image, texts, scale))
    assert check(lambda *it: losses.hard_itc_loss(*it, mask=mask), (image, texts, scale))
    assert check(intra, (text,))
    assert check(rank, (leaf(4, seed=3), leaf(4, 2, seed=4)))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_give_zero_and_finite_gradients(count):
    image, text, texts = (unit(count, *more, 8).requires_grad_() for more in ((), (), (1,)))
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    values = [
        losses.region_contrastive_loss(image, text, scale),
        losses.hard_negative_loss(image, texts, scale),
        losses.hard_itc_loss(image, texts, scale),
        losses.text_intra_contrastive_loss(text),
        losses.text_intra_contrastive_loss(text, filtered="zero", reduction="mean"),
        losses.rank_loss(image[:, 0], texts[:, :0, 0], torch.tensor(1.0))[0],
    ]
    if count == 0:
        values.append(losses.sigmoid_loss(image, text, scale, bias))
    assert [value.item() for value in values] == [0] * len(values)
    torch.stack(values).sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (image, text, texts, scale))


def test_texts_that_all_say_the_same_have_nothing_to_be_pushed_from():
    text = unit(1, 8).repeat(4, 1).requires_grad_()
    value = losses.text_intra_contrastive_loss(text)
    value.backward()
    assert value.item() == 0
    assert text.grad.tolist() == torch.zeros(4, 8).tolist()


def test_half_precision_and_autocast_sum_in_float32():
    image, text, texts = (unit(*shape, 16).bfloat16() for shape in ((40,), (40,), (40, 3)))
    scale, bias = torch.tensor(20.0), torch.tensor(-10.0)
    scores = torch.einsum("md,mkd->mk", image.float(), texts.float())

    def every(*given: torch.Tensor) -> list[float]:
        image, text, texts = given
        return [
            losses.sigmoid_loss(image, text, scale, bias, chunk_size=16).item(),
            losses.region_contrastive_loss(image, text, scale).item(),
            losses.hard_negative_loss(image, texts, scale).item(),
            losses.hard_itc_loss(image, texts, scale).item(),
            losses.text_intra_contrastive_loss(text).item(),
            losses.rank_loss(scores[:, 0], scores[:, 1:], scale)[0].item(),
        ]

    expected = every(image.float(), text.float(), texts.float())
    assert every(image, text, texts) == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert every(image.float(), text.float(), texts.float()) == expected
    image.requires_grad_()
    losses.sigmoid_loss(image, text, scale, bias).backward()
    assert image.grad.dtype == torch.bfloat16


def test_a_confident_sigmoid_keeps_its_precision():
    image = torch.eye(2)
    found = losses.sigmoid_loss(image, image, torch.tensor(30.0), torch.tensor(-15.0))
    assert found.item() == pytest.approx(2 * np.log1p(np.exp(-15.0)), rel=1e-5)


def test_frozen_features_get_no_gradient():
    image, text, scale, bias = _sigmoid_inputs(5, 0)
    expected = torch.autograd.grad(losses.sigmoid_loss(image, text, scale, bias), image)[0]
    losses.sigmoid_loss(image, text.detach(), scale, bias).backward()
    assert text.grad is None
    torch.testing.assert_close(image.grad, expected, rtol=1e-6, atol=1e-8)
    with torch.no_grad():
        assert not losses.sigmoid_loss(image, text, scale, bias).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.sigmoid_loss(unit(3, 4), unit(2, 4), torch.ones(()), torch.ones(())), r"\(3, 4\).*\(2, 4\)"),
        (lambda: losses.sigmoid_loss(*_sigmoid_inputs(2, 0), chunk_size=0), "chunk_size 0"),
        (lambda: losses.sigmoid_loss(*_sigmoid_inputs(2, 0), exchange="tree"), "'tree' is unknown"),
        (lambda: losses.text_intra_contrastive_loss(unit(3, 4), top_k=0), "top_k 0"),
        (lambda: losses.text_intra_contrastive_loss(unit(3, 4), filtered="none"), "'none' is unknown"),
        (lambda: losses.text_intra_contrastive_loss(unit(3, 4), reduction="max"), "'max' is unknown"),
    ],
)
def test_what_cannot_be_used_is_said(call, message):
    with pytest.raises(Fgclip2Error, match=message):
        call()


def _sigmoid_inputs(count: int, seed: int) -> tuple[torch.Tensor, ...]:
    image, text = unit(count, 8, seed=seed).requires_grad_(), unit(count, 8, seed=seed + 100).requires_grad_()
    return image, text, torch.tensor([10.0]).requires_grad_(), torch.tensor(-3.0).requires_grad_()

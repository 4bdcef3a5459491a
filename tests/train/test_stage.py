"""A stage's embeddings and terms against the model's own methods and the losses called by hand; float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from fgclip2 import losses
from fgclip2.data.collate import Collator, TrainBatch, TrainingDataset
from fgclip2.errors import Fgclip2Error
from fgclip2.train.adapt import add_lora
from fgclip2.train.recipe import RECIPES, LoraConfig, LossWeights, Recipe, recipe
from fgclip2.train.stage import Embedded, Stage, _few_lengths, pool_regions

MakeStage = Callable[..., Stage]
ENGLISH, CHINESE = (0, 2, 4, 6), (1, 3, 5, 7)


@pytest.fixture(params=[ENGLISH, CHINESE], ids=["en", "zh"])
def batch(request: pytest.FixtureRequest, dataset: TrainingDataset, collate: Collator) -> TrainBatch:
    return collate([dataset[0, row] for row in request.param]).to("cpu")


def test_embeddings_are_the_models_own(make_stage: MakeStage, batch: TrainBatch) -> None:
    stage = make_stage()
    model, embedded = stage.model, stage.embed(batch)
    image = F.normalize(model.get_image_features(batch.patches, batch.mask, batch.grids), dim=-1)
    # float32 through two layers: 1e-6 leaves room for another order of sums
    torch.testing.assert_close(embedded.image, image, atol=1e-6, rtol=0)
    short = F.normalize(model.get_text_features(batch.texts, walk_type="short"), dim=-1)
    box = F.normalize(model.get_text_features(batch.texts, walk_type="box"), dim=-1)
    long = F.normalize(model.get_text_features(batch.long_texts, walk_type="long"), dim=-1)
    torch.testing.assert_close(embedded.short, short[batch.short], atol=1e-6, rtol=0)
    torch.testing.assert_close(embedded.text, box[batch.region_text], atol=1e-6, rtol=0)
    torch.testing.assert_close(embedded.long, long[batch.long], atol=1e-6, rtol=0)
    sides = [(64, 64)] * len(batch)
    boxes = [(64 * batch.boxes[batch.boxes[:, 0] == row, 1:]).tolist() for row in range(len(batch))]
    regions = model.get_image_region_features(batch.patches, batch.mask, batch.grids, sides, boxes)
    torch.testing.assert_close(embedded.labelled, F.normalize(torch.cat(regions), dim=-1), atol=2e-6, rtol=0)


def test_regions_of_pictures_of_many_shapes_equal_each_alone() -> None:
    """A map ends at its own edge, not at the padding's."""
    generator = torch.Generator().manual_seed(0)
    grids = torch.tensor([[3, 5], [5, 2], [1, 1]])
    tokens = torch.randn(3, 15, 8, generator=generator)
    boxes = torch.tensor([[0, 0.1, 0.2, 1, 1], [1, 0, 0, 1, 1], [1, 0.5, 0.5, 0.9, 0.95], [2, 0, 0, 1, 1]])
    together = pool_regions(tokens, grids, boxes)
    for row in range(3):
        own = boxes[boxes[:, 0] == row].clone()
        own[:, 0] = 0
        alone = pool_regions(tokens[row : row + 1, : grids[row].prod()], grids[row : row + 1], own)
        torch.testing.assert_close(together[boxes[:, 0] == row], alone, atol=1e-6, rtol=0)
    assert pool_regions(tokens, grids, boxes[:0]).shape == (0, 8)


@pytest.mark.parametrize("name", ["paper", "released"])
def test_terms_are_the_losses_of_the_recipe(name: str, make_stage: MakeStage, batch: TrainBatch) -> None:
    stage = make_stage(recipe(name, 2))
    with torch.no_grad():
        stage.log_scales["hard"].fill_(3.0)
        stage.threshold.fill_(0.05)
    e = stage.embed(batch)
    before = stage.threshold.clone()
    terms = stage.terms(e)
    hard = torch.tensor(3.0).exp()
    unit = hard if name == "released" else torch.tensor(1.0)
    # Pictures with their captions stand below regions with their phrases, filled up to the same width.
    assert len(e.hard_region) > 0
    assert len(e.hard_picture) > 0
    width = max(e.hard.shape[1], e.hard_caption.shape[1])
    visual = torch.cat([e.hard_region, e.hard_picture])
    texts = torch.cat([F.pad(part, [0, 0, 0, width - part.shape[1]]) for part in (e.hard, e.hard_caption)])
    mask = torch.cat([F.pad(part, [0, width - part.shape[1]]) for part in (e.hard_mask, e.hard_caption_mask)])
    scores = torch.einsum("md,mkd->mk", visual, texts) * unit
    rank, threshold = losses.rank_loss(
        scores[:, 0], scores[:, 1:], before, mask[:, 1:], bounds=(-2, 2) if name == "paper" else (0, 10)
    )
    expected = {
        "short": losses.sigmoid_loss(e.image, e.short, stage.model.logit_scale.exp(), stage.model.logit_bias),
        "long": losses.sigmoid_loss(e.long_image, e.long, stage.model.logit_scale.exp(), stage.model.logit_bias),
        "region": losses.region_contrastive_loss(e.region, e.text, torch.tensor(100.0)),
        "hard": losses.hard_negative_loss(visual, texts, hard, mask),
        "rank": rank,
        "intra": losses.text_intra_contrastive_loss(
            e.text,
            filtered="zero" if name == "released" else "remove",
            reduction="mean" if name == "released" else "sum",
        ),
    }
    if name == "released":  # contrasts rows with each other, so pictures with texts of another head are not among them
        expected["hard_itc"] = losses.hard_itc_loss(e.hard_region, e.hard, hard, e.hard_mask)
    assert terms.keys() == expected.keys()
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], value, rtol=1e-6, atol=1e-7)
    assert torch.equal(stage.threshold, before)
    stage.after_step()
    torch.testing.assert_close(stage.threshold, threshold)
    stage.after_step()  # without a further batch nothing moves
    torch.testing.assert_close(stage.threshold, threshold)
    weights = vars(stage.recipe.weights)
    assert stage.total(terms).item() == pytest.approx(sum(weights[k] * v.item() for k, v in expected.items()), rel=1e-6)


def test_the_released_hard_block_has_its_effective_weights() -> None:
    """0.5 (3 hard + 0.6 ITC + 0.4 CMR), as PAPER's table counts it."""
    weights = RECIPES["released"][2].weights
    assert (weights.hard, weights.hard_itc, weights.rank) == pytest.approx((0.5 * 3, 0.5 * 0.6, 0.5 * 0.4))


def test_batches_without_regions_texts_or_pictures_have_finite_gradients(
    make_stage: MakeStage, dataset: TrainingDataset, collate: Collator
) -> None:
    samples = [dataset[0, row] for row in ENGLISH]
    bare = [replace(sample, regions=[], long=None) for sample in samples]
    for chosen in (bare, bare[:1], []):
        stage = make_stage()
        stage(collate(chosen).to("cpu"))["loss"].backward()
        gradients = {name: item.grad for name, item in stage.named_parameters() if item.requires_grad}
        assert not [name for name, gradient in gradients.items() if gradient is None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)


@pytest.mark.parametrize("compute", ["cast", "autocast"])
def test_bf16_is_near_float32(compute: str, make_stage: MakeStage, batch: TrainBatch) -> None:
    exact, near = make_stage().embed(batch), make_stage(compute=compute).embed(batch)
    for field in ("image", "short", "long", "labelled", "text"):
        cosine = (getattr(exact, field) * getattr(near, field)).sum(-1)
        assert cosine.min() > 0.999, field  # bf16 has 8 bits: 2**-9 an operation, over two layers


def test_gradient_checkpointing_changes_nothing(make_stage: MakeStage, batch: TrainBatch) -> None:
    plain, thrifty = make_stage(), make_stage()
    thrifty.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for stage in (plain, thrifty):
        stage(batch)["loss"].backward()
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, msg=name)


def test_gradients_through_cached_embeddings_are_those_of_the_whole(
    make_stage: MakeStage, dataset: TrainingDataset, collate: Collator
) -> None:
    """GradCache's identity; float32, 1e-5 of a tensor's largest gradient for sums in another order, and 1e-6 for those
    of key biases, which are 0 but for rounding."""
    samples = [dataset[0, row] for row in range(0, 16, 2)]
    parts = [collate(samples[:3]).to("cpu"), collate(samples[3:]).to("cpu")]
    whole, cached = make_stage(), make_stage()
    whole.total(whole.terms(Embedded.cat([whole.embed(part) for part in parts]))).backward()
    with torch.no_grad():
        leaves = [cached.embed(part) for part in parts]
    leaves = [leaf.leaf() for leaf in leaves]
    cached.total(cached.terms(Embedded.cat(leaves))).backward()
    for part, leaf in zip(parts, leaves, strict=True):
        cached(part, leaf.gradient())["loss"].backward()
    for (name, one), other in zip(whole.named_parameters(), cached.parameters(), strict=True):
        if one.grad is not None:
            tolerance = max(1e-6, 1e-5 * float(one.grad.abs().max()))
            torch.testing.assert_close(other.grad, one.grad, atol=tolerance, rtol=0, msg=name)


def test_texts_come_in_few_numbers_of_rows() -> None:
    """Eight to an octave, up to an eighth more than asked for and at least one; what was there stays in its place."""
    rows = {count: _few_lengths(torch.ones(count, 3, dtype=torch.long)) for count in range(257)}
    assert len(rows[0]) == 1
    for count, padded in list(rows.items())[1:]:
        assert count <= len(padded) < 1.125 * count
        assert padded[:count].all()
        assert not padded[count:].any()
    for octave in (16, 32, 64, 128):
        assert len({len(rows[count]) for count in range(octave + 1, 2 * octave + 1)}) == 8


def test_stage_one_trains_no_region_head(make_stage: MakeStage) -> None:
    stage = make_stage(recipe("paper", 1))
    frozen = {name for name, item in stage.named_parameters() if not item.requires_grad}
    for head in ("boxtext_head", "dense_feature_head"):
        assert any(head in name for name in frozen)
    assert not any("vision_model" in name or "text_model" in name for name in frozen)


def test_unknown_recipes_and_weights_are_refused() -> None:
    with pytest.raises(Fgclip2Error, match="there are paper, released, tiny"):
        recipe("papers", 2)
    with pytest.raises(Fgclip2Error, match="stages 1, 2"):
        recipe("paper", 3)
    with pytest.raises(Fgclip2Error, match="loss weight hard -1"):
        LossWeights(hard=-1)
    assert {field.name for field in fields(Recipe)} >= {"weights", "mask_true"}


def test_the_threshold_is_the_mean_margin_of_all_parts_of_a_step(make_stage: MakeStage, batch: TrainBatch) -> None:
    """Of pairs, not of parts: one part has all hard negatives, one half of them, one none. float32, 1e-6."""
    stage = make_stage(recipe("paper", 2))
    e = stage.embed(batch)
    # True texts that fit altogether: tau is kept at 0 or more part by part, and the margins must lie above that.
    e.hard[:, 0], e.hard_caption[:, 0] = e.hard_region, e.hard_picture
    half = replace(e, hard_mask=e.hard_mask.clone())
    half.hard_mask[::2, 1:] = False
    none = replace(e, hard_mask=e.hard_mask.clone(), hard_caption_mask=e.hard_caption_mask.clone())
    none.hard_mask[:, 1:] = none.hard_caption_mask[:, 1:] = False
    margins = []
    for part in (e, half, none):
        stage.terms(part)
        for visual, texts, mask in (
            (part.hard_region, part.hard, part.hard_mask),
            (part.hard_picture, part.hard_caption, part.hard_caption_mask),
        ):
            scores = torch.einsum("md,mkd->mk", visual, texts)
            margins.append((scores[:, :1] - scores[:, 1:])[mask[:, 1:]].detach())
    stage.after_step()
    assert all(part.mean() > 0 for part in margins if len(part))
    assert stage.threshold.item() == pytest.approx(torch.cat(margins).mean().item(), abs=1e-6)


def test_learned_scales_stay_below_100_but_a_released_one_above_it_stays(make_stage: MakeStage) -> None:
    stage = make_stage()
    with torch.no_grad():
        for scale in (stage.model.logit_scale, *stage.log_scales.values(), *stage.label_head.log_scales.values()):
            scale.fill_(6.0)
    stage.after_step()
    bound = pytest.approx(100, rel=1e-5)
    assert [stage.learned()[name] for name in ("scale", "scale_region", "scale_hard")] == [bound] * 3
    assert all(scale.exp().item() == bound for scale in stage.label_head.log_scales.values())

    model = stage.model
    with torch.no_grad():
        model.logit_scale.fill_(4.7215)  # 112.3, as in SigLIP's So400m
    released = Stage(model, recipe("paper", 1))
    released.after_step()
    assert released.learned()["scale"] == pytest.approx(112.34, abs=0.01)
    with torch.no_grad():
        model.logit_scale.fill_(5.0)
    released.after_step()
    assert released.learned()["scale"] == pytest.approx(112.34, abs=0.01)


def test_a_further_stage_goes_on_with_what_one_has_learned(make_stage: MakeStage) -> None:
    stage, other = make_stage(), make_stage()
    with torch.no_grad():
        stage.log_scales["region"].fill_(2.0)
        stage.threshold.fill_(0.25)
    other.carry(stage.learned())
    assert other.learned() == pytest.approx(stage.learned(), rel=1e-6)
    with pytest.raises(Fgclip2Error, match="scale_hard -1.0: what an earlier stage left must be above 0"):
        other.carry({"scale_hard": -1.0})
    with pytest.raises(Fgclip2Error, match="threshold nan: what an earlier stage left must be a number"):
        other.carry({"threshold": float("nan")})


def test_stage_1_computes_no_regions(make_stage: MakeStage, batch: TrainBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage(recipe("paper", 1))
    expected = make_stage(recipe("paper", 2)).embed(batch)
    monkeypatch.setattr(type(stage.model), "dense", None)  # fails where it is called
    e = stage.embed(batch)
    torch.testing.assert_close(e.image, expected.image)
    assert e.labelled.shape == expected.labelled.shape
    assert stage(batch)["terms"].keys() == {"short", "long"}


@pytest.mark.parametrize("parts", [1, 3])
def test_a_sum_over_texts_counts_the_parts_whose_losses_are_averaged(
    make_stage: MakeStage, batch: TrainBatch, parts: int
) -> None:
    """The mean over parts of what each adds is then the sum over all; other terms are means already."""
    stage = make_stage(recipe("paper", 2))
    before = stage.terms(stage.embed(batch))
    stage.parts = parts
    after = stage.terms(stage.embed(batch))
    assert after["intra"].item() == pytest.approx(parts * before["intra"].item(), rel=1e-6)
    assert {name: value for name, value in after.items() if name != "intra"} == {
        name: value for name, value in before.items() if name != "intra"
    }


def test_the_papers_threshold_may_be_negative(make_stage: MakeStage, batch: TrainBatch) -> None:
    """The released code keeps it at 0 or above."""
    for name, least in (("paper", -2.0), ("released", 0.0)):
        stage = make_stage(recipe(name, 2))
        e = stage.embed(batch)
        worse = replace(e, hard=e.hard.flip(1).contiguous(), hard_mask=torch.ones_like(e.hard_mask))
        worse.hard[:, 0] = -worse.hard_region  # the true text is the farthest there is
        stage.terms(worse)
        stage.after_step()
        assert least <= stage.threshold.item()
        assert (stage.threshold.item() < 0) == (name == "paper")


def test_a_pass_without_gradients_drops_what_the_pass_with_them_does(make_stage: MakeStage) -> None:
    """With pictures of several grids, which inference packs."""
    pytest.importorskip("peft")
    model = make_stage().model
    add_lora(model, LoraConfig(rank=4, dropout=0.3))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    grids = torch.tensor([[4, 4], [2, 3]])
    mask = torch.arange(16)[None] < grids.prod(1, keepdim=True)
    patches = torch.randn(2, 16, 768, generator=torch.Generator().manual_seed(0))
    outputs = []
    for gradients in (True, False):
        torch.manual_seed(1)
        with torch.set_grad_enabled(gradients):
            outputs.append(model.pool(model.encode_image(patches, mask, grids)).detach())
    # float32; the sums run over padded and unpadded keys in one order
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)

"""DenseFeatures against the released code's region features, and what both value types refuse."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torchvision.ops import roi_align

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures, check_boxes, roi_grids, roi_means
from fgclip2.spaces import Features, ImageFeatures, RegionFeatures, TextFeatures


def dense(rows: int = 4, columns: int = 6, width: int = 8, size: tuple[int, int] = (96, 64)) -> DenseFeatures:
    generator = torch.Generator().manual_seed(0)
    return DenseFeatures.from_tokens(torch.randn(rows * columns + 3, width, generator=generator), (rows, columns), size)


def test_regions_agree_with_the_released_code(golden_dir: Path):
    golden = load_file(golden_dir / "golden.safetensors")
    facts = json.loads((golden_dir / "golden.json").read_text())
    for index, image in enumerate(facts["images"]):
        grid = tuple(golden["batch.spatial_shapes"][index].tolist())
        features = DenseFeatures.from_tokens(golden["out.dense"][index], grid, (image["width"], image["height"]))
        regions = features.regions(facts["boxes_xyxy_pixels"][index])
        assert torch.allclose(regions, F.normalize(golden["out.regions"][index], dim=-1), atol=1e-5)


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    boxes=st.lists(st.tuples(*[st.floats(-1, 10, width=32)] * 2, *[st.floats(0.03125, 12, width=32)] * 2), max_size=6),
    held=st.sampled_from([1, 100, 1 << 24]),
)
@settings(max_examples=100, deadline=None)
def test_regions_are_torchvisions_roi_align(
    grid: tuple[int, int], boxes: list[tuple[float, float, float, float]], held: int
) -> None:
    """Also for boxes that leave the map, and however many are taken at a time."""
    values = torch.randn(*grid, 3, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([(x, y, x + width, y + height) for x, y, width, height in boxes]).reshape(-1, 4)
    expected = roi_align(values.permute(2, 0, 1)[None], [corners], output_size=1, aligned=True).flatten(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fgclip2.features._WEIGHTS", held)
        torch.testing.assert_close(roi_means(values, corners), expected, atol=1e-5, rtol=1e-5)


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    boxes=st.lists(st.tuples(*[st.floats(-1, 10, width=32)] * 2, *[st.floats(0.03125, 12, width=32)] * 2), max_size=6),
    size=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_grids_and_their_gradients_are_torchvisions(
    grid: tuple[int, int], boxes: list[tuple[float, float, float, float]], size: int
) -> None:
    own = torch.randn(*grid, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    other = own.detach().permute(2, 0, 1)[None].clone().requires_grad_()
    # 1/7 is no sum of powers of two: no bin is a whole number of cells long, where rounding decides how many points
    corners = torch.tensor([(x, y, x + w + 1 / 7, y + h + 1 / 7) for x, y, w, h in boxes], dtype=torch.float64)
    corners = corners.reshape(-1, 4)
    got = roi_grids(own, corners, size)
    expected = roi_align(other, [corners], output_size=size, aligned=True).permute(0, 2, 3, 1)
    assert got.shape == (len(boxes), size, size, 3)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(own.grad, other.grad[0].permute(1, 2, 0))


class TestDenseFeatures:
    def test_the_map_is_of_unit_length_and_leaves_padding_out(self):
        features = dense()
        assert features.map.shape == (4, 6, 8)
        assert features.grid == (4, 6)
        assert torch.allclose(features.map.norm(dim=-1), torch.ones(4, 6))

    def test_a_zero_vector_stays_zero(self):
        assert not DenseFeatures.from_tokens(torch.zeros(4, 8), (2, 2), (32, 32)).map.any()

    def test_the_whole_picture_as_a_box_is_the_mean(self):
        features = dense(size=(600, 50))  # aspect of the picture must not matter
        mean = F.normalize((features.map * features.norms[..., None]).mean((0, 1)), dim=0)
        assert torch.allclose(features.regions([[0, 0, 600, 50]])[0], mean, atol=1e-6)

    def test_one_patch_as_a_box(self):
        features = dense()
        assert torch.allclose(features.regions([[32, 16, 48, 32]])[0], features.map[1, 2], atol=1e-6)

    def test_without_norms_all_patches_weigh_the_same(self):
        features = dense()
        plain = DenseFeatures(features.map, features.image_size)
        expected = F.normalize(features.map.mean((0, 1)), dim=0)
        assert torch.allclose(plain.regions([[0, 0, 96, 64]])[0], expected, atol=1e-6)

    @pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), torch.zeros(0, 4)])
    def test_no_box_gives_no_row(self, boxes: object):
        assert dense().regions(boxes).shape == (0, 8)

    @pytest.mark.parametrize("convert", [list, np.array, torch.tensor])
    def test_boxes_of_any_type(self, convert: type):
        boxes = [[0, 0, 50, 40], [10.5, 3, 96, 64]]
        assert torch.equal(dense().regions(convert(boxes)), dense().regions(boxes))

    def test_similarity_is_the_cosine(self):
        features, text = dense(), F.normalize(torch.randn(3, 8), dim=-1)
        similarity = features.similarity(text)
        assert similarity.shape == (3, 4, 6)
        assert torch.allclose(similarity[2, 1, 5], features.map[1, 5] @ text[2])
        assert torch.equal(features.similarity(text[1])[0], features.similarity(text[1:2])[0])

    def test_similarity_map_has_the_pictures_size(self):
        features, text = dense(), torch.eye(8)[:2]
        enlarged = features.similarity_map(text)
        assert enlarged.shape == (2, 64, 96)
        # 16 pixels a patch: a corner pixel lies beyond the centre of the corner patch and takes its value.
        assert torch.allclose(enlarged[:, 0, 0], features.similarity(text)[:, 0, 0])

    def test_numpy_sees_the_map(self):
        features = dense()
        assert np.array_equal(np.asarray(features), features.map.numpy())
        assert np.asarray(features, dtype=np.float64).dtype == np.float64

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((torch.zeros(4, 8), (9, 9)), r"\(h, w, D\)"),
            ((torch.zeros(2, 2, 8, dtype=torch.bfloat16), (9, 9)), "bfloat16"),
            ((torch.zeros(2, 2, 8), (0, 9)), "image_size"),
            ((torch.zeros(2, 2, 8), (9, 9), torch.zeros(3, 2)), "norms"),
        ],
    )
    def test_it_checks_itself(self, arguments: tuple[object, ...], message: str):
        with pytest.raises(Fgclip2Error, match=message):
            DenseFeatures(*arguments)  # type: ignore[arg-type]


class TestPairing:
    @pytest.mark.parametrize("kind", ["short", "long"])
    def test_the_wrong_head_is_refused(self, kind: str):
        text = TextFeatures.of(torch.eye(8), kind)  # type: ignore[arg-type]
        for marked in (text, text[:2], text[0], text.float().to("cpu").clone(), copy.deepcopy(text)):
            with pytest.raises(Fgclip2Error, match=f"kind {kind!r} live in two spaces.*kind='box'"):
                dense().similarity(marked)

    def test_the_box_head_and_plain_tensors_are_taken(self):
        text = TextFeatures.of(torch.eye(8), "box")
        result = dense().similarity(text)
        assert type(result) is torch.Tensor
        assert torch.equal(result, dense().similarity(torch.eye(8)))

    def test_another_models_width_is_refused(self):
        with pytest.raises(Fgclip2Error, match=r"shape \(2, 9\).*\(T, 8\)"):
            dense().similarity(torch.zeros(2, 9))

    def test_scores_are_plain_and_embeddings_keep_their_kind(self):
        text = TextFeatures.of(torch.eye(4), "short")
        for result in (text @ text.T, text + 2, text.sum(), text.mean(0), text.softmax(-1), text * text):
            assert type(result) is torch.Tensor
        kept = [text[1:], text.T, text.mT, text * 2, 2 * text, text / text.norm(dim=-1, keepdim=True), text[None]]
        kept += [torch.cat([text, text]), torch.stack([text, text]), F.normalize(text, dim=-1), *text, *text.split(2)]
        for result in kept:
            assert type(result) is TextFeatures
            assert (result.kind, result.space) == ("short", "image")
        assert type(torch.cat([text, TextFeatures.of(torch.eye(4), "box")])) is torch.Tensor
        assert np.array_equal(np.asarray(text), np.eye(4))

    @pytest.mark.parametrize("kind", ["short", "long", "box"])
    @pytest.mark.parametrize("space", [ImageFeatures, RegionFeatures])
    def test_every_product_across_the_two_spaces_is_refused(self, space: type[Features], kind: str):
        rng = torch.Generator().manual_seed(0)
        values, texts = torch.randn(3, 4, generator=rng), torch.randn(2, 4, generator=rng)
        ours, text = values.as_subclass(space), TextFeatures.of(texts, kind)  # type: ignore[arg-type]
        products: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [
            lambda a, b: a @ b.T,
            lambda a, b: (b @ a.T).T,
            lambda a, b: 100 * a @ b.t(),
            lambda a, b: torch.matmul(a / a.norm(dim=-1, keepdim=True), b.mT),
            lambda a, b: torch.einsum("ij,kj->ik", a, b),
            lambda a, b: torch.einsum("ij,kj->ik", [a, b]),
            lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=-1),
            lambda a, b: F.linear(a, b),
            lambda a, b: (a[:, None] * b[None]).sum(-1),
            lambda a, b: torch.stack([torch.stack([row.dot(other) for other in b]) for row in a]),
            lambda a, b: torch.cdist(F.normalize(torch.cat([a]), dim=-1), b),
            lambda a, b: torch.tensordot(a, b, dims=([1], [1])),
        ]
        fits = (space is RegionFeatures) == (kind == "box")
        for product in products:
            if fits:
                found = product(ours, text)
                assert type(found) is torch.Tensor
                assert torch.equal(found, product(values, texts))
                continue
            with pytest.raises(Fgclip2Error, match=f"text features of kind {kind!r} .*live in two spaces"):
                product(ours, text)
            assert torch.equal(product(values, text), product(values, texts))  # a plain tensor is taken at its word

    def test_what_the_model_gives_knows_its_space(self, tiny: fgclip2.FGCLIP2):
        image = np.zeros((64, 64, 3), np.uint8)
        short, box = (tiny.text_features(["狗", "dog"], kind=kind) for kind in ("short", "box"))
        dense = tiny.dense_features(image)
        region = tiny.region_features(image, [[0, 0, 32, 32]])
        whole = tiny.image_features(image)
        assert [tuple(scores.shape) for scores in (whole @ short.T, region @ box.T, dense.map @ box.T)] == [
            *((1, 2), (1, 2)),
            (*dense.grid, 2),
        ]
        assert torch.equal(dense.similarity(region)[0], dense.similarity(region.as_subclass(torch.Tensor))[0])
        for one, other in (
            (whole, box),
            (region, short),
            (dense.map, short),
            (whole, region),
            (dense.map[0, 0], whole),
        ):
            with pytest.raises(Fgclip2Error, match="live in two spaces"):
                one @ other.T
        with pytest.raises(Fgclip2Error, match="image features and region features|region features and image features"):
            dense.similarity(whole)

    def test_saving_needs_no_class_of_ours(self):
        stream = io.BytesIO()
        torch.save(TextFeatures.of(torch.eye(4), "short"), stream)
        stream.seek(0)
        loaded = torch.load(stream, weights_only=True)
        assert type(loaded) is torch.Tensor
        assert torch.equal(loaded, torch.eye(4))


class TestCheckBoxes:
    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([1, 2, 3, 4], "put the single box in a list"),
            ([[1, 2, 3]], r"shape \(1, 3\)"),
            ([[0, 0, 5, 5], [8, 8, 8, 9]], r"box 1 \[8, 8, 8, 9\] has no area"),
            ([[50, 40, 20, 10]], "is it x, y, width, height"),
            ([[0, 0, 98, 64]], "leaves the picture of 96 x 64"),
            ([[-2, 0, 5, 5]], "leaves the picture"),
            ([[0, 0, float("nan"), 5]], "not finite"),
            ("boxes", "not numbers"),
            (None, "not numbers"),
        ],
    )
    def test_a_wrong_box_is_named(self, boxes: object, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            check_boxes(boxes, (96, 64))  # type: ignore[arg-type]

    def test_a_pixel_of_rounding_is_let_through_unchanged(self):
        assert check_boxes([[-0.5, 0, 96.9, 64]], (96, 64)).tolist() == [[-0.5, 0, pytest.approx(96.9), 64]]


def test_texts_in_place_of_their_features_are_refused_with_the_call_to_make() -> None:
    features = DenseFeatures(F.normalize(torch.randn(2, 3, 8), dim=-1), (48, 32))
    with pytest.raises(Fgclip2Error, match=r"takes text features, not list; give model.text_features"):
        features.similarity(["黑猫"])  # type: ignore[arg-type]

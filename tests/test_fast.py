"""What is faster is the same: packed weights, packed pictures, blocks of attention, kept tables, the path of a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from transformers.models.siglip2.modeling_siglip2 import Siglip2MLP

import fgclip2
from fgclip2 import attention as attention_module
from fgclip2 import cpu
from fgclip2.ahead import map_ahead
from fgclip2.attention import attention
from fgclip2.config import Fgclip2Config, preset
from fgclip2.cpu import has_bf16, keep_freed_memory, linear, mlp
from fgclip2.layers import Fgclip2MLP
from fgclip2.modeling import Fgclip2Model
from fgclip2.packing import lengths_of, pack, unpack
from fgclip2.positions import GridPositions

HALF = {"atol": 8e-2, "rtol": 0}  # bf16 through three blocks
BF16 = {"atol": 3e-2, "rtol": 2e-2}  # 8 bits of values of order 1
SAME = {"atol": 1e-5, "rtol": 0}  # float32 by kernels that add in another order


def frozen_linear(inputs: int = 24, outputs: int = 40, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).bfloat16().requires_grad_(False)


def by_hand(tokens: Tensor, layer: nn.Linear, gelu: bool = False) -> np.ndarray:
    """In float64, without torch."""
    values = tokens.double().numpy() @ layer.weight.double().numpy().T + layer.bias.double().numpy()
    return values / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (values + 0.044715 * values**3))) if gelu else values


class TestLinear:
    @pytest.mark.parametrize("gelu", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(24,), (1, 24), (2, 7, 24), (0, 24)])
    @torch.no_grad()
    def test_it_is_the_layer(self, gelu: bool, dtype: torch.dtype, shape: tuple[int, ...]):
        layer = frozen_linear().to(dtype)
        tokens = torch.randn(shape).to(dtype)
        output = linear(tokens, layer, gelu)
        assert output.dtype == dtype
        tolerance = BF16 if dtype == torch.bfloat16 else SAME
        np.testing.assert_allclose(output.double().numpy(), by_hand(tokens, layer, gelu), **tolerance)

    @torch.no_grad()
    def test_it_follows_the_weight(self):
        layer, tokens = frozen_linear(), torch.randn(5, 24).bfloat16()
        linear(tokens, layer)
        changes: list[Callable[[], object]] = [
            lambda: layer.weight.mul_(-2),
            lambda: layer.load_state_dict(frozen_linear(seed=1).state_dict()),
            lambda: setattr(layer, "weight", frozen_linear(seed=2).weight),
            lambda: setattr(layer.weight, "data", torch.ones_like(layer.weight)),
            lambda: layer.requires_grad_(),
        ]
        for change in changes:
            change()
            output = linear(tokens, layer)
            np.testing.assert_allclose(output.double().numpy(), by_hand(tokens, layer), **BF16)

    @pytest.mark.parametrize("gelu", [False, True])
    @torch.no_grad()
    def test_a_frozen_float32_layer_under_autocast(self, gelu: bool):
        """As the towers of detectors and segmentors are; what is trained keeps autocast's own way."""
        layer, tokens = frozen_linear().float(), torch.randn(2, 5, 24)
        for change in (lambda: None, lambda: layer.weight.mul_(-2), lambda: layer.requires_grad_()):
            change()
            with torch.autocast("cpu", torch.bfloat16):
                output = linear(tokens, layer, gelu)
            assert output.dtype == torch.bfloat16
            assert (layer in cpu._packed) == has_bf16()
            np.testing.assert_allclose(output.double().numpy(), by_hand(tokens, layer, gelu), **BF16)
            torch.testing.assert_close(linear(tokens, layer), layer(tokens), **SAME)  # outside, float32 stays

    @torch.no_grad()
    def test_it_follows_what_is_written_past_the_version(self):
        """As a merge of LoRA does it."""
        layer, tokens = frozen_linear(), torch.randn(5, 24).bfloat16()
        with torch.no_grad():
            linear(tokens, layer)
            layer.weight.data += 1
            np.testing.assert_allclose(linear(tokens, layer).float().numpy(), by_hand(tokens, layer), **BF16)

    def test_a_hook_is_called(self):
        layer, seen = frozen_linear(), []
        layer.register_forward_hook(lambda *given: seen.append(given))
        with torch.no_grad():
            linear(torch.randn(5, 24).bfloat16(), layer)
        assert len(seen) == 1

    def test_nothing_gives_nothing(self):
        layers = frozen_linear(24, 40), frozen_linear(40, 8)
        with torch.no_grad():
            assert mlp(torch.empty(0, 7, 24).bfloat16(), layers[0], nn.GELU(), layers[1], "gelu").shape == (0, 7, 8)
            assert attention(*(torch.empty(0, 2, 5, 8).bfloat16() for _ in range(3))).shape == (0, 2, 5, 8)

    def test_an_adapter_around_a_layer_is_called(self):
        layer = nn.Sequential(frozen_linear(), nn.Tanh())
        tokens = torch.randn(3, 24).bfloat16()
        assert torch.equal(linear(tokens, layer), layer(tokens))

    @pytest.mark.parametrize("rows", [1, 2048, 2500])
    @torch.no_grad()
    def test_an_mlp_in_parts(self, rows: int):
        first, second = frozen_linear(8, 16).float(), frozen_linear(16, 8).float()
        tokens = torch.randn(1, rows, 8)
        for name, activation in (("gelu_pytorch_tanh", nn.GELU(approximate="tanh")), ("relu", nn.ReLU())):
            torch.testing.assert_close(
                mlp(tokens, first, activation, second, name), second(activation(first(tokens))), **SAME
            )

    @pytest.mark.parametrize("rows", [2, 3, 8, 9])
    @torch.no_grad()
    def test_counts_of_tokens_that_are_slow_in_one_piece(self, monkeypatch: pytest.MonkeyPatch, rows: int):
        """They are cut where the table says, and the products are those of the layer."""
        layer, tokens = frozen_linear(), torch.randn(1, rows, 24).bfloat16()
        monkeypatch.setattr(cpu, "has_amx", lambda: True)
        monkeypatch.setattr(cpu, "_SLOW_ROWS", {(torch.get_num_threads(), 24, 40): range(3, 9)})
        monkeypatch.setattr(cpu, "_QUICK_ROWS", 2)
        assert cpu._at_a_time(tokens[0], layer) == (2 if rows in (3, 8) else rows)
        np.testing.assert_allclose(linear(tokens, layer).double().numpy(), by_hand(tokens, layer), **BF16)
        first = frozen_linear(32, 24).float()  # an MLP is cut by its second layer
        inner, second = torch.randn(1, rows, 32), layer.float()
        parted = mlp(inner, first, nn.ReLU(), second, "relu")
        torch.testing.assert_close(parted, second(first(inner).relu()), **SAME)


class TestTraining:
    def test_an_mlp_in_bf16_has_the_gradients_of_float32(self):
        config = preset("tiny").vision_config
        torch.manual_seed(0)
        rounded = Fgclip2MLP(Siglip2MLP(config)).bfloat16()
        exact = copy.deepcopy(rounded).float()
        tokens = torch.randn(50, config.hidden_size).bfloat16()
        for layer in (exact, rounded):
            inputs = tokens.to(layer.fc1.weight.dtype).requires_grad_()
            layer(inputs).square().sum().backward()
            assert inputs.grad is not None
        for one, other in zip(exact.parameters(), rounded.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            # Three roundings to 8 bits, each of up to 0.4 %, lie between.
            assert (one.grad - other.grad.float()).norm() < 0.012 * one.grad.norm()

    def test_passes_of_training_agree_with_and_without_gradients(self):
        """As gradients through cached embeddings need it, which are first made without a graph."""
        layer = Fgclip2MLP(Siglip2MLP(preset("tiny").vision_config)).bfloat16().train()
        tokens = torch.randn(50, 192).bfloat16()
        with torch.no_grad():
            cached = layer(tokens)
        assert torch.equal(layer(tokens), cached)

    def test_float32_keeps_the_tanh_form(self):
        layer = Fgclip2MLP(Siglip2MLP(preset("tiny").vision_config))
        tokens = torch.randn(5, 192, requires_grad=True)
        expected = layer.fc2(nn.functional.gelu(layer.fc1(tokens), approximate="tanh"))
        assert torch.equal(layer(tokens), expected)

    def test_a_c_library_that_refuses_a_threshold_gets_its_highest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Older versions of glibc take 32 MB at most, and say no by 0."""
        taken: dict[int, int] = {}

        class Old:
            @staticmethod
            def mallopt(option: int, value: int) -> int:
                if option == -3 and value > 2**25:
                    return 0
                taken[option] = value
                return 1

        monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.31"))
        monkeypatch.setattr("ctypes.CDLL", lambda name: Old)
        keep_freed_memory()
        assert taken == {-1: 2**31 - 1, -2: 2**26, -3: 2**25}

    def test_memory_that_is_kept_holds_right_numbers(self):
        keep_freed_memory()
        for size in (1, 1 << 10, 1 << 24):  # the last one of 64 MiB, beyond what glibc keeps by itself
            assert torch.arange(size, dtype=torch.float32).sum(dtype=torch.float64) == size * (size - 1) / 2


class TestAttention:
    @pytest.fixture(autouse=True, params=[False, True], ids=["blocks", "amx"])
    def amx(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention_module, "has_amx", lambda: request.param)

    @pytest.mark.parametrize(("scores", "queries"), [(1, (4, 8)), (200, (2, 64)), (1 << 22, (64, 512))])
    @pytest.mark.parametrize("lengths", [(1, 9), (65, 65), (70, 33)])
    @torch.no_grad()
    def test_blocks_of_any_size(
        self, monkeypatch: pytest.MonkeyPatch, scores: int, queries: tuple[int, int], lengths: tuple[int, int]
    ):
        monkeypatch.setattr(attention_module, "_SCORES", scores)
        monkeypatch.setattr(attention_module, "_QUERIES", queries)
        queried, seen = lengths
        sizes = (queried, seen, seen)
        query, key, value = (torch.randn(2, 5, size, 3, 16).transpose(2, 3).bfloat16() for size in sizes)
        expected = nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float())
        torch.testing.assert_close(attention(query, key, value).float(), expected, **BF16)

    @torch.no_grad()
    def test_a_mask_of_its_own_for_every_query(self):
        query, key, value = (torch.randn(1, 2, 130, 16).bfloat16() for _ in range(3))
        mask = torch.rand(130, 130) < 0.5
        mask.fill_diagonal_(True)
        expected = nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
        torch.testing.assert_close(attention(query, key, value, mask).float(), expected, **BF16)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @torch.no_grad()
    def test_packed_sequences_see_themselves(self, dtype: torch.dtype):
        query, key, value = (torch.randn(1, 2, 12, 16).to(dtype) for _ in range(3))
        packed = attention(query, key, value, (5, 1, 6))
        for start, end in ((0, 5), (5, 6), (6, 12)):
            alone = attention(*(part[:, :, start:end] for part in (query, key, value)))
            torch.testing.assert_close(packed[:, :, start:end], alone)


class TestPacking:
    @given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 3))
    @settings(max_examples=30, deadline=None)
    def test_there_and_back(self, lengths: list[int], more: int):
        size = max(lengths) + more
        mask = torch.arange(size) < torch.tensor(lengths)[:, None]
        tokens = torch.randn(len(lengths), size, 2)
        assert lengths_of(mask.int()) == tuple(lengths)
        packed = pack(tokens, lengths)
        assert packed.shape == (1, sum(lengths), 2)
        assert torch.equal(unpack(packed, lengths, size), tokens * mask[..., None])

    def test_gradients_come_back(self):
        tokens = torch.randn(1, 5, 4, requires_grad=True)
        unpack(tokens, (2, 3), 4).square().sum().backward()
        torch.testing.assert_close(tokens.grad, 2 * tokens.detach())

    @pytest.mark.parametrize("mask", [[[1, 0, 1]], [[0, 1, 1], [1, 1, 1]], [[0, 0], [1, 1]]])
    def test_other_masks_are_not_packed(self, mask: list[list[int]]):
        assert lengths_of(torch.tensor(mask)) is None


class TestAhead:
    def test_order_and_how_far_it_reads(self):
        taken: list[int] = []

        def source() -> Iterator[int]:
            for number in range(20):
                taken.append(number)
                yield number

        for index, square in enumerate(map_ahead(lambda number: number**2, source(), threads=3, ahead=4)):
            assert square == index**2
            assert len(taken) <= index + 5
        assert index == 19

    def test_an_error_comes_in_its_turn_and_ends_the_reading(self):
        taken: list[int] = []

        def source() -> Iterator[int]:
            for number in range(100):
                taken.append(number)
                yield number

        results = map_ahead(lambda number: 1 // (3 - number), source(), threads=2, ahead=2)
        assert [next(results) for _ in range(3)] == [0, 0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert len(taken) <= 6

    def test_nothing_gives_nothing(self):
        assert list(map_ahead(str, [], threads=1, ahead=0)) == []


@pytest.fixture(scope="module")
def model() -> Fgclip2Model:
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = Fgclip2Config(text_config={**tower, "vocab_size": 60}, vision_config=tower)
    return Fgclip2Model(config).eval().requires_grad_(False)


def ragged() -> dict[str, Tensor]:
    """Three pictures of different grids, padded with what must not be seen."""
    grids = torch.tensor([[3, 5], [2, 2], [4, 4]])
    mask = torch.arange(18) < grids.prod(1)[:, None]
    patches = torch.randn(3, 18, 768, generator=torch.Generator().manual_seed(0)).masked_fill(~mask[..., None], 9.0)
    return {"pixel_values": patches, "pixel_attention_mask": mask.int(), "spatial_shapes": grids}


def outputs(model: Fgclip2Model, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Pooled, and what is real of the last and of a middle block and of the dense head."""
    encoding = model.encode_image(**inputs, layers=(1,))
    real = inputs["pixel_attention_mask"].bool()
    tokens = (encoding.last_hidden_state, *encoding.hidden_states, model.dense(encoding))
    return [model.pool(encoding), *(part[real] for part in tokens)]


class TestThePathOfAGpu:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SAME), (torch.bfloat16, HALF)])
    def test_it_gives_what_the_processor_gives(
        self, model: Fgclip2Model, dtype: torch.dtype, tolerance: dict[str, float]
    ):
        """With gradients on, a batch is padded and masked as on a GPU, and nothing is packed, fused or kept."""
        model = model.to(dtype)
        inputs = ragged()
        with torch.enable_grad():
            padded = outputs(model, inputs)
        with torch.inference_mode():
            packed = outputs(model, inputs)
            assert model.encode_image(**inputs).lengths == (15, 4, 16)
        model.float()
        for theirs, ours in zip(padded, packed, strict=True):
            torch.testing.assert_close(ours, theirs, **tolerance)

    @torch.no_grad()
    def test_the_host_never_waits_for_a_value(self, model: Fgclip2Model):
        """Tensors on ``meta`` have none: looking at one raises. Grids alone are on the host."""
        with torch.device("meta"):
            empty = Fgclip2Model(model.config)
        inputs = {name: part if name == "spatial_shapes" else part.to("meta") for name, part in ragged().items()}
        encoding = empty.encode_image(**inputs, layers=(0, -1))
        assert empty.pool(encoding).shape == (3, 32)
        assert empty.dense(encoding).shape == (3, 18, 32)
        for kind, length in (("short", 64), ("box", 64), ("long", 196)):
            ids = torch.zeros(2, length, dtype=torch.int64, device="meta")
            assert empty.get_text_features(ids, walk_type=kind).shape == (2, 32)  # type: ignore[arg-type]

    @torch.no_grad()
    def test_towers_and_heads_compile_to_one_graph_each(self, model: Fgclip2Model):
        inputs = ragged()
        tokens = model.vision_model.embeddings(inputs["pixel_values"], inputs["spatial_shapes"])
        mask = inputs["pixel_attention_mask"].bool()[:, None, None, :]
        ids = torch.arange(128).reshape(2, 64) % 60
        parts: list[tuple[Callable[..., object], tuple[object, ...]]] = [
            (model.vision_model.run_blocks, (tokens, mask, (0,))),
            (model.vision_model.head.pool, (tokens, mask)),
            (model.dense_feature_head.dense, (tokens, mask)),
            (model.get_text_features, (ids,)),
        ]
        for part, arguments in parts:
            torch._dynamo.reset()
            found = torch._dynamo.explain(part)(*arguments)
            assert (found.graph_count, found.graph_break_count) == (1, 0), part
            compiled = torch.compile(part, fullgraph=True, backend="eager")(*arguments)
            expected = part(*arguments)
            real = mask[:, 0, 0]
            for ours, plain in zip(*(x if isinstance(x, list) else [x] for x in (compiled, expected)), strict=True):
                whole = ours.shape[:2] != real.shape
                torch.testing.assert_close(*((ours, plain) if whole else (ours[real], plain[real])), **SAME)

    def test_compiled_it_gives_the_same_from_one_graph_a_bucket(self, tiny_dir: Path):
        random = np.random.default_rng(0)
        sizes = [(224, 224), (96, 128), (640, 192), (208, 240), (100, 120), (500, 200)]  # two of each of three buckets
        images = [Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]
        model = fgclip2.load(tiny_dir, device="cpu", dtype="float32")
        features, dense = model.image_features(images), model.dense_features(images[1]).map
        texts = model.text_features(["黑猫", "a red car"])
        torch._dynamo.reset()
        counter = CompileCounter()
        assert model.compile(backend=counter, fullgraph=True, dynamic=False) is model
        torch.testing.assert_close(model.image_features(images), features, **SAME)
        assert counter.frame_count == 3
        torch.testing.assert_close(model.image_features(images), features, **SAME)
        assert counter.frame_count == 3
        torch.testing.assert_close(model.dense_features(images[1]).map, dense, **SAME)
        torch.testing.assert_close(model.text_features(["黑猫", "a red car"]), texts, **SAME)

    def test_compiled_a_full_grid_and_other_numbers_of_pictures_need_few_graphs(self, tiny_dir: Path):
        """A grid that fills its bucket has a mask too; after the second number of pictures, any number will do."""
        random = np.random.default_rng(0)
        images = [Image.fromarray(random.integers(0, 256, (256, 256, 3), np.uint8)) for _ in range(9)]
        images += [Image.fromarray(random.integers(0, 256, (208, 240, 3), np.uint8)) for _ in range(9)]
        model = fgclip2.load(tiny_dir, device="cpu", dtype="float32")
        expected = model.image_features(images)
        torch._dynamo.reset()
        counter = CompileCounter()
        model.compile(backend=counter, fullgraph=True)
        for count in (4, 3, 2, 5, 6):
            torch.testing.assert_close(model.image_features(images, batch_size=count), expected, **SAME)
        assert counter.frame_count == 2


class TestPositionTables:
    @torch.no_grad()
    @pytest.mark.parametrize(("rows", "columns"), [(128, 1), (1, 128), (16, 1), (3, 1), (1, 1), (20, 31)])
    def test_each_axis_is_averaged_under_a_triangle(self, rows: int, columns: int):
        """Written out in numpy; torch's own kernel gives every row of a single column the first one's values."""
        table = np.random.default_rng(0).standard_normal((16, 16, 8))

        def along(cells: int) -> np.ndarray:
            reach = max(16 / cells, 1)
            middles = (np.arange(cells) + 0.5) * 16 / cells
            weights = np.maximum(1 - abs(np.arange(16) + 0.5 - middles[:, None]) / reach, 0)
            return weights / weights.sum(1, keepdims=True)

        expected = np.einsum("rh,cw,hwd->rcd", along(rows), along(columns), table).reshape(-1, 8)
        given = torch.tensor(table, dtype=torch.float32), torch.tensor([[rows, columns]]), rows * columns
        resized = GridPositions.resize_positional_embeddings(*given)[0]
        np.testing.assert_allclose(resized.numpy(), expected, atol=1e-5)  # float32 sums of up to 256 terms

    def test_kept_ones_are_the_resized_ones_and_follow_the_weight(self, model: Fgclip2Model):
        embeddings = model.vision_model.embeddings
        inputs = ragged()
        arguments = inputs["pixel_values"], inputs["spatial_shapes"]
        for _ in range(3):
            for _ in range(2):
                with torch.enable_grad():
                    expected = embeddings(*arguments)
                torch.testing.assert_close(embeddings(*arguments), expected, **SAME)
            embeddings.position_embedding.weight.mul_(-1.5)

    @torch.no_grad()
    def test_few_are_kept(self, model: Fgclip2Model, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("fgclip2.positions._ROWS_KEPT", 30)
        embeddings = model.vision_model.embeddings
        for rows in range(1, 12):
            table = embeddings._table(rows, 2)
            assert table.shape == (2 * rows, 32)
            assert embeddings._table(rows, 2) is table
            assert sum(len(kept) for kept in embeddings._kept[3].values()) <= 30

"""The tower, and a LLaVA around it.

transformers' LLaVA takes pictures of different sizes if its tower answers as Pixtral's does: it is given
``image_sizes`` in pixels, returns the tokens of all pictures one after the other, ``(1, sum of tokens, D)``, and LLaVA
cuts them apart again by ``image_sizes // patch_size``. `Fgclip2Tower` does that with NaFlex patches, so that LLaVA's
own code runs unchanged: padding never reaches the projector, and h x w patches take h * w image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import AutoConfig, AutoModel, LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.siglip2.modeling_siglip2 import Siglip2PreTrainedModel

from fgclip2.attention import NAME as ATTENTION
from fgclip2.config import Fgclip2VisionConfig
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2AttentionHead, Fgclip2Model, Fgclip2VisionModel
from fgclip2.packing import pack, unpack
from fgclip2.pretrained import no_progress_bar

if TYPE_CHECKING:
    from .processing import LlavaProcessor

DENSE: Final = -1
"""``vision_feature_layer`` of the dense head's tokens, the last of what the tower returns."""

_PROJECTOR: Final = "model.multi_modal_projector."


@strict
class Fgclip2TowerConfig(Fgclip2VisionConfig):
    """FG-CLIP 2's vision tower with its dense head, under a ``model_type`` of its own."""

    model_type = "fgclip2_tower"


class Fgclip2Tower(Siglip2PreTrainedModel):
    """FG-CLIP 2's vision tower and dense head, as LLaVA calls a tower.

    Its ``hidden_states`` are numbered as transformers numbers them: 0 is the embedded patches, k the output of block k,
    and one more comes behind the last block, the dense head's tokens. So ``vision_feature_layer`` -1 (`DENSE`) is what
    box texts are compared with, -2 the last block, -3 what LLaVA-1.5 takes of CLIP; a list puts several side by side.
    """

    config: Fgclip2TowerConfig
    config_class = Fgclip2TowerConfig
    main_input_name = "pixel_values"

    def __init__(self, config: Fgclip2TowerConfig) -> None:
        config._attn_implementation = ATTENTION  # whatever the language model runs on
        super().__init__(config)
        self.vision_model = Fgclip2VisionModel(config)
        del self.vision_model.head  # pools whole pictures, which nobody asks for here
        self.dense_feature_head = Fgclip2AttentionHead(config)
        self.patch_size = int(config.patch_size)
        self.post_init()

    @classmethod
    def of(cls, model: Fgclip2Model) -> Fgclip2Tower:
        """A tower with copies of a model's weights, in their precision."""
        fields = model.config.vision_config.to_dict()
        fields.pop("model_type")
        own = cls(Fgclip2TowerConfig(**fields)).to(model.dtype)
        weights = model.state_dict()
        own.load_state_dict({name: weights[name] for name in own.state_dict()})
        return own.eval()

    def forward(self, pixel_values: Tensor, image_sizes: Tensor | None = None, **_: Any) -> BaseModelOutputWithPooling:
        """Tokens of a batch of pictures, without padding, one picture after the other.

        Args:
            pixel_values: patches ``(B, N, 3 * 16 * 16)``, values -1..1; what is behind a picture's own is padding.
            image_sizes: ``(B, 2)``, height and width of every picture in pixels, multiples of 16.

        Returns:
            ``last_hidden_state`` ``(1, T, D)`` after the final norm, T the patches of all pictures, and
            ``hidden_states``, each ``(1, T, D)``: embedded patches, every block, dense head.

        Raises:
            Fgclip2Error: sizes are missing, no multiples of 16, or do not fit the patches.
        """
        grids = self._grids(pixel_values, image_sizes)
        lengths = tuple(grids.prod(dim=1).tolist())
        count = pixel_values.shape[1]
        mask = torch.arange(count)[None] < torch.tensor(lengths)[:, None]
        pixels = pixel_values.to(self.dtype)
        # A frozen tower leaves no graph behind; its features are all that the projector needs.
        trained = torch.is_grad_enabled() and any(item.requires_grad for item in self.parameters())
        with torch.set_grad_enabled(trained):
            depth = len(self.vision_model.encoder.layers)
            encoding = self.vision_model.encode(pixels, mask.to(pixels.device), grids, layers=range(depth))
            last = encoding.last_hidden_state
            if encoding.lengths is None:
                dense = self.dense_feature_head.dense(last, encoding.key_mask)
            else:
                dense = unpack(self.dense_feature_head.dense(pack(last, lengths), lengths), lengths, count)
            states = (self.vision_model.embeddings(pixels, grids), *encoding.hidden_states, dense)
        return BaseModelOutputWithPooling(
            last_hidden_state=pack(last, lengths), hidden_states=tuple(pack(state, lengths) for state in states)
        )

    def _grids(self, pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
        """Rows and columns ``(B, 2)`` int64 on the CPU."""
        if image_sizes is None:
            raise Fgclip2Error(
                "image_sizes is needed: height and width of every resized picture, (B, 2); "
                "fgclip2_llava.LlavaProcessor makes it beside pixel_values"
            )
        sizes = torch.as_tensor(image_sizes).cpu().long()
        if pixel_values.ndim != 3 or sizes.shape != (len(pixel_values), 2):
            raise Fgclip2Error(
                f"pixel_values {tuple(pixel_values.shape)} and image_sizes {tuple(sizes.shape)}; give NaFlex patches "
                "(B, N, 768) and (B, 2), as fgclip2_llava.LlavaProcessor does"
            )
        grids = sizes // self.patch_size
        counts = grids.prod(dim=1)
        if bool((sizes % self.patch_size).any()) or int(counts.min()) < 1 or int(counts.max()) > pixel_values.shape[1]:
            raise Fgclip2Error(
                f"image_sizes {sizes.tolist()}: sides must be multiples of {self.patch_size}, and no picture may have "
                f"more than the {pixel_values.shape[1]} patches of the batch"
            )
        return grids


def build(
    language_model: Any, vision: Fgclip2Model, image_token_id: int, feature_layer: int | Sequence[int] = DENSE
) -> LlavaForConditionalGeneration:
    """A LLaVA of a language model and FG-CLIP 2, with a new projector (two layers, GELU).

    Args:
        language_model: any ``...ForCausalLM`` of transformers; its weights are taken, not copied.
        vision: FG-CLIP 2; its vision tower is copied.
        image_token_id: id of the placeholder in the text, a row of the language model's table.
        feature_layer: which tokens the projector gets, one or several side by side; see `Fgclip2Tower`.

    Raises:
        Fgclip2Error: a layer that the tower does not have, or an id without a row.
    """
    layers = [feature_layer] if isinstance(feature_layer, int) else list(feature_layer)
    states = int(vision.config.vision_config.num_hidden_layers) + 2
    wrong = [layer for layer in layers if not -states <= layer < states]
    if wrong or not layers:
        raise Fgclip2Error(
            f"feature layers {layers}: this tower has {states} outputs, 0 the embedded patches to {states - 1} the "
            f"dense tokens, or {-states} to -1"
        )
    rows = language_model.get_input_embeddings().weight.shape[0]
    if not 0 <= image_token_id < rows:
        raise Fgclip2Error(f"image token {image_token_id}: the language model has rows 0 to {rows - 1}; enlarge it")
    tower = Fgclip2Tower.of(vision)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language_model.config,
        image_token_index=image_token_id,
        vision_feature_layer=layers[0] if len(layers) == 1 else layers,
        vision_feature_select_strategy="full",  # there is no class token to drop
        tie_word_embeddings=bool(language_model.config.tie_word_embeddings),
    )
    with torch.device("meta"):  # the language model would be made, and initialised, a second time
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    projector = LlavaMultiModalProjector(config)
    for layer in (projector.linear_1, projector.linear_2):
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    model.model.multi_modal_projector = projector.to(language_model.device)
    tower.to(language_model.device)
    model.generation_config = language_model.generation_config
    return model.eval()


def freeze(model: LlavaForConditionalGeneration) -> dict[str, Tensor]:
    """Leave the projector alone to be trained, in float32; returns its parameters by state-dict name."""
    model.requires_grad_(False)
    model.model.multi_modal_projector.float().requires_grad_(True)
    return projector_of(model)


def projector_of(model: LlavaForConditionalGeneration) -> dict[str, Tensor]:
    """The projector's parameters by state-dict name."""
    return {name: tensor for name, tensor in model.named_parameters() if name.startswith(_PROJECTOR)}


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, directory: Path) -> None:
    """Write a directory that `load` reads: weights and configuration of transformers, tokenizer, and how to ask."""
    with no_progress_bar():
        model.save_pretrained(directory)
    processor.save(directory)


def load(directory: Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Any:
    """What `save` has written, in evaluation mode.

    Raises:
        Fgclip2Error: it is no such directory, or tensors are missing.
    """
    if not (directory / "config.json").is_file():
        raise Fgclip2Error(
            f"{directory} holds no model; apps/llava_train.py writes one to OUT/model, with config.json in it"
        )
    found = AutoConfig.from_pretrained(directory)
    if found.model_type != "llava" or not isinstance(found.vision_config, Fgclip2TowerConfig):
        raise Fgclip2Error(
            f"{directory} holds a {found.model_type} without FG-CLIP 2 as its tower; give what "
            "apps/llava_train.py wrote"
        )
    with no_progress_bar():
        model, info = LlavaForConditionalGeneration.from_pretrained(directory, dtype=dtype, output_loading_info=True)
    lacking = sorted(info["missing_keys"]) + sorted(str(item) for item in info["mismatched_keys"])
    if lacking:
        raise Fgclip2Error(
            f"{directory} is incomplete: {len(lacking)} tensors lack, such as {lacking[0]}; copy it again"
        )
    return model.to(device).eval()


AutoConfig.register(Fgclip2TowerConfig.model_type, Fgclip2TowerConfig, exist_ok=True)
AutoModel.register(Fgclip2TowerConfig, Fgclip2Tower, exist_ok=True)

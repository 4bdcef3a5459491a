"""The first, simple training loop: makes the embedded model from scratch on OpenMoji scenes.

Crops grow from one object in 64 pixels to whole scenes: at a small crop a picture is 16 tokens and the region is the
picture, so words meet shapes early and cheaply. Without this curriculum nothing is learned in the same time.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.ops import roi_align
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.losses import hard_negative_loss, region_contrastive_loss, sigmoid_loss
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import TextProcessor
from fgclip2.train.patches import patchify
from fgclip2.train.scene_batches import BatchConfig, SceneBatch, scene_batches

Save = Callable[[Fgclip2Model], None]


@dataclass(frozen=True)
class Phase:
    """One step of the curriculum: how many batches of what."""

    name: str
    steps: int
    batch: BatchConfig


def curriculum(steps: Sequence[int]) -> tuple[Phase, ...]:
    """The embedded model's four phases with so many steps each; phases of 0 steps are left out."""
    # More tints than scenes usually have: they take the colours away, so that shapes must be learned.
    styles = (0.3, 0.35, 0.35)
    crop = SceneConfig(size=64, objects=(1, 1), scale=(0.7, 1.0), styles=styles)
    pair = SceneConfig(size=112, objects=(1, 2), scale=(0.4, 0.7), styles=styles)
    scene = SceneConfig(size=224, objects=(3, 6), styles=styles)
    large = SceneConfig(size=320, objects=(4, 8), styles=styles)
    batches = {
        "one object, 64 px": BatchConfig(256, crop, text_regions=64, hard_regions=8, captions=8),
        "two objects, 112 px": BatchConfig(128, pair, text_regions=64, hard_regions=8, captions=16),
        "scenes, 224 px": BatchConfig(64, scene, captions=48, long_captions=8),
        "scenes, 320 px": BatchConfig(32, large, long_captions=8),
    }
    phases = (Phase(name, count, batch) for count, (name, batch) in zip(steps, batches.items(), strict=True))
    return tuple(phase for phase in phases if phase.steps)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about the run but the curriculum."""

    learning_rate: float = 1e-3  # of AdamW: embeddings, norms, biases, output heads
    matrix_learning_rate: float = 2e-3  # of Muon: the matrices of encoder blocks and attention heads
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up: int = 100  # steps
    ema: float = 0.998  # decay a step
    clip: float = 1.0  # gradient norm
    max_scale: float = 100.0  # bound on every logit scale
    class_weight: float = 1.0
    token_weight: float = 0.5
    name_weight: float = 0.5
    region_weight: float = 1.0
    hard_weight: float = 0.5
    global_weight: float = 0.5
    long_weight: float = 0.3
    seed: int = 0
    save_every: int = 200  # steps


class TrainingHeads(nn.Module):
    """What training needs beside the model and throws away after it.

    One unit vector a class, a *proxy*, stands for all texts that name the class: regions and names are both classified
    among all proxies, which costs one small matrix product where encoding every name at every step would cost more
    than the pictures. Text and picture meet in the contrastive terms, and through the proxies.

    The token head classifies the tower's own tokens: the dense head has no residual path, so until it has learned to
    look at its own place, little of what it is told reaches the tower.

    Args:
        classes: number of classes C.
        width: of the embeddings, D.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.token_head = nn.Linear(width, width)
        self.proxies = nn.Parameter(torch.randn(classes, width) / width**0.5)
        self.log_scales = nn.ParameterDict(
            {name: torch.tensor(3.0) for name in ("class", "tokens", "name", "region", "hard")}
        )

    def scale(self, name: str) -> Tensor:
        """Multiplier of one term's cosines."""
        return self.log_scales[name].exp()


def step_losses(
    model: Fgclip2Model, heads: TrainingHeads, batch: SceneBatch, text_processor: TextProcessor
) -> dict[str, Tensor]:
    """The unweighted loss terms of a batch.

    ``class``: regions among the class proxies, and ``tokens``: the same for the tower's tokens. ``name``: class names
    among them. ``region``: regions against texts.
    ``hard``: phrases against hard negatives. ``global`` and, given long captions, ``long``: pictures against captions.
    Every distinct text goes through the text tower once; region and caption heads read the same last state.
    """
    device = batch.pixels.device
    patches, grids = patchify(batch.pixels)
    encoding = model.encode_image(patches, None, grids)
    last = model.text_model.encode(text_processor(batch.texts, "box").to(device))
    box_text, short_text = _unit(model.boxtext_head(last)), _unit(model.text_model.head(last))
    image = _unit(model.pool(encoding))

    rows, columns = grids[0].tolist()

    def pooled(tokens: Tensor) -> Tensor:
        grid = tokens.float().transpose(1, 2).unflatten(2, (rows, columns))
        return roi_align(grid, batch.boxes, output_size=1, spatial_scale=1 / 16, aligned=True).flatten(1)

    region = _unit(pooled(model.dense(encoding)))
    tokens = _unit(heads.token_head(pooled(encoding.last_hidden_state)))

    scale, bias = model.logit_scale.exp(), model.logit_bias
    proxies = _unit(heads.proxies)
    described, text = batch.text_of, box_text[batch.region_text]
    caption, captioned = short_text[batch.caption], image[batch.caption_of]
    terms = {
        "class": F.cross_entropy(heads.scale("class") * region @ proxies.T, batch.category),
        "tokens": F.cross_entropy(heads.scale("tokens") * tokens @ proxies.T, batch.category),
        "region": region_contrastive_loss(region[described], text, heads.scale("region"), ignore=batch.also_true),
        "hard": hard_negative_loss(region[batch.hard_of], box_text[batch.hard_text], heads.scale("hard")),
        "global": sigmoid_loss(captioned, caption, scale, bias, ignore=_equal(batch.caption)),
    }
    if batch.bare.any():
        logits = heads.scale("name") * text[batch.bare] @ proxies.T
        terms["name"] = F.cross_entropy(logits, batch.category[described][batch.bare])
    if len(batch.long_of):
        ids = text_processor(batch.long_texts, "long").to(device)
        long_text = _unit(model.longtext_head(model.text_model.encode(ids, long=True)))
        terms["long"] = sigmoid_loss(image[batch.long_of], long_text, scale, bias)
    return terms


def train(
    model: Fgclip2Model,
    text_processor: TextProcessor,
    world: World,
    phases: Sequence[Phase],
    config: TrainingConfig,
    save: Save,
    log_file: Path,
    first_batch: int = 0,
) -> Fgclip2Model:
    """Run the curriculum and return the averaged model.

    Args:
        model: float32 weights to start from, on the device to train on.
        text_processor: texts to ids for this model.
        world: where scenes come from.
        phases: the curriculum, in order.
        config: optimiser, weights, averaging.
        save: called with the averaged model every ``config.save_every`` steps and at the end.
        log_file: one JSON line every ten steps is appended to it.
        first_batch: number of the first batch in the stream of scenes, so that a second run sees new ones.
    """
    torch.manual_seed(config.seed)
    device = next(model.parameters()).device
    heads = TrainingHeads(len(world.categories), model.config.vision_config.hidden_size).to(device)
    _start_proxies(heads, model, text_processor, world)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizers = _optimizers(model, heads, config)
    working = _bf16_copy(model)
    total = sum(phase.steps for phase in phases)
    schedules = [get_cosine_schedule_with_warmup(optimizer, config.warm_up, total) for optimizer in optimizers]
    weights = {
        "class": config.class_weight,
        "tokens": config.token_weight,
        "name": config.name_weight,
        "region": config.region_weight,
        "hard": config.hard_weight,
        "global": config.global_weight,
        "long": config.long_weight,
    }
    bounded = (model.logit_scale, *heads.log_scales.values())
    ceiling = float(torch.tensor(config.max_scale).log())
    done, started = 0, time.monotonic()
    with tqdm(total=total, unit="step", mininterval=5) as bar, log_file.open("a", encoding="utf-8") as log:
        for phase in phases:
            bar.set_description(phase.name)
            for batch in scene_batches(world, phase.batch, range(first_batch + done, first_batch + done + phase.steps)):
                terms = step_losses(working, heads, batch.to(device), text_processor)
                loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
                working.zero_grad(set_to_none=True)
                heads.zero_grad(set_to_none=True)
                loss.backward()
                _hand_over_gradients(working, model)
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                for optimizer, schedule in zip(optimizers, schedules, strict=True):
                    optimizer.step()
                    schedule.step()
                with torch.no_grad():
                    for scale in bounded:
                        scale.clamp_(max=ceiling)
                _copy_weights(model, working)
                averaged.update_parameters(model)
                done += 1
                bar.update()
                if done % 10 == 0:
                    values = {name: round(term.item(), 4) for name, term in terms.items()}
                    bar.set_postfix(values, refresh=False)
                    record = {"step": done, "phase": phase.name, "seconds": round(time.monotonic() - started, 1)}
                    record |= values | {"gradient_norm": round(norm.item(), 3), "scale": heads.scale("region").item()}
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                if done % config.save_every == 0 or done == total:
                    save(cast(Fgclip2Model, averaged.module))
    return cast(Fgclip2Model, averaged.module)


def _bf16_copy(model: Fgclip2Model) -> Fgclip2Model:
    """A copy to run forward and backward in bf16; the scale and bias of the logits keep float32."""
    working = copy.deepcopy(model).bfloat16()
    for name in ("logit_scale", "logit_bias"):
        parameter = getattr(working, name)
        parameter.data = parameter.data.float()
    return working


def _hand_over_gradients(working: nn.Module, master: nn.Module) -> None:
    for copied, parameter in zip(working.parameters(), master.parameters(), strict=True):
        parameter.grad = None if copied.grad is None else copied.grad.float()


@torch.no_grad()
def _copy_weights(master: nn.Module, working: nn.Module) -> None:
    for parameter, copied in zip(master.parameters(), working.parameters(), strict=True):
        copied.copy_(parameter)


@torch.no_grad()
def _start_proxies(heads: TrainingHeads, model: Fgclip2Model, text_processor: TextProcessor, world: World) -> None:
    """Let every proxy start where the model already puts the class's English and Chinese names."""
    names = [[getattr(category, f"name_{language}") for category in world.categories] for language in ("en", "zh")]
    for texts in names:
        for rows in torch.arange(len(texts), device=heads.proxies.device).split(256):
            ids = text_processor([texts[row] for row in rows.tolist()], "box").to(heads.proxies.device)
            heads.proxies[rows] += _unit(model.get_text_features(ids, walk_type="box"))


def _optimizers(model: nn.Module, heads: TrainingHeads, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks and attention heads, AdamW for all else; weight decay on matrices only."""
    named = dict(model.named_parameters())
    inner = {name for name, item in named.items() if item.ndim == 2 and (".layers." in name or "head." in name)}
    outer = [item for name, item in named.items() if name not in inner]
    groups = [
        {"params": [item for item in outer if item.ndim == 2], "weight_decay": config.weight_decay},
        {"params": [item for item in outer if item.ndim != 2], "weight_decay": 0.0},
        {"params": [heads.proxies, *heads.token_head.parameters()], "weight_decay": 0.0},
        # Single numbers, which must travel far in few steps.
        {"params": list(heads.log_scales.values()), "weight_decay": 0.0, "lr": 5 * config.learning_rate},
    ]
    return [
        torch.optim.Muon(
            [named[name] for name in sorted(inner)],
            lr=config.matrix_learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=1e-6),
    ]


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _equal(index: Tensor) -> Tensor:
    """Pairs off the diagonal with the same caption."""
    return (index[:, None] == index[None]) & ~torch.eye(len(index), dtype=torch.bool, device=index.device)

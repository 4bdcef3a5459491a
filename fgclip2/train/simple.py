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
    crop = SceneConfig(size=64, objects=(1, 1), scale=(0.7, 1.0))
    pair = SceneConfig(size=112, objects=(1, 2), scale=(0.4, 0.7))
    scene = SceneConfig(size=224, objects=(3, 6))
    large = SceneConfig(size=320, objects=(4, 8))
    batches = {
        "one object, 64 px": BatchConfig(256, crop, hard_regions=16, name_fraction=0.7),
        "two objects, 112 px": BatchConfig(128, pair, hard_regions=24),
        "scenes, 224 px": BatchConfig(64, scene, long_captions=12),
        "scenes, 320 px": BatchConfig(32, large, long_captions=12),
    }
    phases = (Phase(name, count, batch) for count, (name, batch) in zip(steps, batches.items(), strict=True))
    return tuple(phase for phase in phases if phase.steps)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about the run but the curriculum."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up: int = 100  # steps
    ema: float = 0.998  # decay a step
    clip: float = 1.0  # gradient norm
    max_scale: float = 100.0  # bound on every logit scale
    hard_weight: float = 0.5
    global_weight: float = 0.5
    long_weight: float = 0.3
    seed: int = 0
    save_every: int = 200  # steps


class RegionScales(nn.Module):
    """Learnable log scales of the two region losses; the model itself keeps only the global one."""

    def __init__(self) -> None:
        super().__init__()
        self.region = nn.Parameter(torch.tensor(2.7))
        self.hard = nn.Parameter(torch.tensor(2.7))


def step_losses(
    model: Fgclip2Model, scales: RegionScales, batch: SceneBatch, text_processor: TextProcessor
) -> dict[str, Tensor]:
    """The unweighted loss terms of a batch: ``region``, ``hard``, ``global`` and, given long captions, ``long``.

    Every distinct text goes through the text tower once; region and caption heads read the same last state.
    """
    device = batch.pixels.device
    patches, grids = patchify(batch.pixels)
    encoding = model.encode_image(patches, None, grids)
    last = model.text_model.encode(text_processor(batch.texts, "box").to(device))
    box_text, short_text = _unit(model.boxtext_head(last)), _unit(model.text_model.head(last))
    image = _unit(model.pool(encoding))

    rows, columns = grids[0].tolist()
    dense = model.dense(encoding).float().transpose(1, 2).unflatten(2, (rows, columns))
    region = _unit(roi_align(dense, batch.boxes, output_size=1, spatial_scale=1 / 16, aligned=True).flatten(1))

    scale, bias = model.logit_scale.exp(), model.logit_bias
    terms = {
        "region": region_contrastive_loss(
            region, box_text[batch.region_text], scales.region.exp(), ignore=batch.also_true
        ),
        "hard": hard_negative_loss(region[batch.hard_of], box_text[batch.hard_text], scales.hard.exp()),
        "global": sigmoid_loss(image, short_text[batch.caption], scale, bias, ignore=_equal(batch.caption)),
    }
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
    scales = RegionScales().to(device)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = torch.optim.AdamW(
        _parameter_groups(nn.ModuleList([model, scales]), config.weight_decay),
        lr=config.learning_rate,
        betas=config.betas,
        eps=1e-6,
    )
    working = _bf16_copy(model)
    total = sum(phase.steps for phase in phases)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warm_up, total)
    weights = {
        "region": 1.0,
        "hard": config.hard_weight,
        "global": config.global_weight,
        "long": config.long_weight,
    }
    bounded = (model.logit_scale, scales.region, scales.hard)
    ceiling = float(torch.tensor(config.max_scale).log())
    done, started = 0, time.monotonic()
    with tqdm(total=total, unit="step", mininterval=5) as bar, log_file.open("a", encoding="utf-8") as log:
        for phase in phases:
            bar.set_description(phase.name)
            for batch in scene_batches(world, phase.batch, range(first_batch + done, first_batch + done + phase.steps)):
                terms = step_losses(working, scales, batch.to(device), text_processor)
                loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
                working.zero_grad(set_to_none=True)
                scales.zero_grad(set_to_none=True)
                loss.backward()
                _hand_over_gradients(working, model)
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
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
                    record |= values | {"gradient_norm": round(norm.item(), 3), "scale": scales.region.exp().item()}
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


def _parameter_groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices only: none on biases, norms, probes and scales."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [item for item in parameters if item.ndim == 2], "weight_decay": decay},
        {"params": [item for item in parameters if item.ndim != 2], "weight_decay": 0.0},
    ]


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _equal(index: Tensor) -> Tensor:
    """Pairs off the diagonal with the same caption."""
    return (index[:, None] == index[None]) & ~torch.eye(len(index), dtype=torch.bool, device=index.device)

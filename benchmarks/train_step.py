"""A training step of ours against a plain loop over transformers' Siglip2: ``python -m benchmarks.train_step``.

Both loops take the same batch of scenes through the same losses and AdamW. The plain one is what is written first:
every text of the batch encoded where it stands, in float32, pictures under their attention mask, and memory as the C
library gives and takes it. It has no dense head, so it even has a little less to do. As a third row it keeps freed
memory, as the trainer here does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Siglip2TextConfig, Siglip2TextModel, Siglip2VisionConfig, Siglip2VisionModel

from benchmarks._measure import give_back_freed_memory, matmul, medians
from benchmarks._report import command, report
from fgclip2.config import Fgclip2Config, preset
from fgclip2.cpu import keep_freed_memory
from fgclip2.data.collate import Collator, TrainBatch, TrainingDataset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.data.samples import TextShares
from fgclip2.pretrained import resolve
from fgclip2.processing import Processor
from fgclip2.train.optim import build_optimizer, parameter_groups
from fgclip2.train.recipe import OptimConfig, RunConfig, recipe
from fgclip2.train.run import FIRST_TRAINING_SEED, build_stage
from fgclip2.train.stage import Embedded, Stage, pool_regions
from fgclip2.train.tiny import curriculum, fresh_model


@dataclass
class Arguments:
    """Seconds of a step and pictures a second of both loops, in turn, in one process."""

    pictures: int = 64
    """A batch."""
    size: int = 224
    """Side of a scene in pixels; it shows 3 to 7 objects."""
    repeats: int = 5
    """Steps of each loop, in turn, of whose times the median counts; one more before each is not counted."""


class PlainTowers(nn.Module):
    """transformers' two towers and the linear heads that FG-CLIP 2 adds to the text."""

    def __init__(self, config: Fgclip2Config) -> None:
        super().__init__()
        vision, text = config.vision_config.to_dict(), config.text_config.to_dict()
        long = text["longtext_len"]
        for given in (vision, text):
            given.pop("model_type")
        self.vision = Siglip2VisionModel(Siglip2VisionConfig(**vision))
        # One tower reads both lengths of text: its position table has the rows of the longer.
        self.text = Siglip2TextModel(Siglip2TextConfig(**text | {"max_position_embeddings": long}))
        self.box_head = nn.Linear(text["hidden_size"], text["projection_size"])
        self.long_head = nn.Linear(text["hidden_size"], text["projection_size"])

    def forward(self, batch: TrainBatch) -> Embedded:
        """Every text of the batch as often as it stands there."""
        mask = batch.mask
        if mask is None:
            mask = torch.ones(batch.patches.shape[:2], dtype=torch.bool)
        seen = self.vision(pixel_values=batch.patches, pixel_attention_mask=mask, spatial_shapes=batch.grids)
        image = F.normalize(seen.pooler_output, dim=-1)
        regions = F.normalize(pool_regions(seen.last_hidden_state, batch.grids, batch.boxes), dim=-1)
        hard = self._box(batch.texts[batch.hard_text])
        captions = self._short(batch.texts[batch.hard_caption])
        text = self._box(batch.texts[batch.region_text])
        return Embedded(
            image=image[batch.short_of],
            short=self._short(batch.texts[batch.short]),
            same=batch.short[:, None].eq(batch.short).fill_diagonal_(False),
            long_image=image[batch.long_of],
            long=F.normalize(self.long_head(self._last(batch.long_texts[batch.long])), dim=-1),
            region=regions[batch.text_of],
            text=text,
            also_true=batch.also_true,
            hard_region=regions[batch.hard_of],
            hard=hard,
            hard_mask=batch.hard_mask,
            hard_picture=image[batch.hard_picture],
            hard_caption=captions,
            hard_caption_mask=batch.hard_caption_mask,
            labelled=regions,
            tokens=regions,
            around=image[batch.boxes[:, 0].long()],
            labels=batch.labels,
            names=text,
            name_labels=batch.labels[batch.text_of].masked_fill(~batch.bare, -1),
        )

    def _last(self, ids: Tensor) -> Tensor:
        state: Tensor = self.text(input_ids=ids.flatten(0, -2)).last_hidden_state[:, -1]
        return state.unflatten(0, ids.shape[:-1])

    def _short(self, ids: Tensor) -> Tensor:
        return F.normalize(self.text.head(self._last(ids)), dim=-1)

    def _box(self, ids: Tensor) -> Tensor:
        return F.normalize(self.box_head(self._last(ids)), dim=-1)


def make_batch(arguments: Arguments, shares: TextShares, negatives: int) -> TrainBatch:
    """English scenes, collated as for training, on the CPU."""
    config = SceneConfig(size=arguments.size, objects=(3, 7))
    source = SceneSource(World(), config, FIRST_TRAINING_SEED, arguments.pictures, ("en",))
    dataset = TrainingDataset(source, max_regions=None, negatives=negatives, prefix_english="", shares=shares)
    collator = Collator(Processor.from_pretrained(resolve("tiny")))
    return collator([dataset[0, index] for index in range(arguments.pictures)]).to("cpu")


def stepper(embed: Callable[[TrainBatch], Embedded], stage: Stage, module: nn.Module) -> Callable[[TrainBatch], None]:
    """One whole step: towers, losses, backward, clipping, AdamW."""
    config = OptimConfig(lr=1e-4)
    optimizer = build_optimizer(parameter_groups(module, config), config)

    def step(batch: TrainBatch) -> None:
        optimizer.zero_grad()
        stage.total(stage.terms(embed(batch))).backward()
        nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()

    return step


def _after(prepare: Callable[[], None], run: Callable[[], None]) -> None:
    prepare()
    run()


def main(arguments: Arguments) -> None:
    """Measure with the texts of the embedded model's training, and with every text of every picture."""
    config = preset("tiny")
    phase = curriculum((1,) * 6)[3]  # the first of whole scenes
    shares = {"as make tiny": (phase.shares, phase.negatives), "all of them": (TextShares(), 10)}
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for name, (share, negatives) in shares.items():
        batch = make_batch(arguments, share, negatives)
        classes = len(World().categories)
        ours = build_stage(fresh_model(0), RunConfig(recipe=recipe("tiny", 2)), classes=classes)
        plain_losses = build_stage(fresh_model(0), RunConfig(recipe=recipe("tiny", 2), precision="fp32"), classes)
        towers = PlainTowers(config)
        trained = nn.ModuleList([towers, plain_losses.label_head or nn.Identity(), plain_losses.log_scales])
        plain = partial(stepper(towers, plain_losses, trained), batch)
        steps = {
            "ours": (keep_freed_memory, partial(stepper(ours.embed, ours, ours), batch)),
            "plain": (give_back_freed_memory, plain),
            "plain, memory kept": (keep_freed_memory, plain),
        }
        runs: dict[str, Callable[[], object]] = {}
        for loop, (prepare, step) in steps.items():
            # What a step finds free is what the one before left: so each loop takes a step that is not counted first.
            runs |= {f"{loop}, first": partial(_after, prepare, step), loop: step}
        dtypes = dict.fromkeys(steps, torch.float32)
        if ours.compute != "float32":
            dtypes["ours"] = torch.bfloat16
        products = {loop: matmul(dtype, torch.device("cpu")) for loop, dtype in dtypes.items()}
        runs |= {f"{loop}, product": product for loop, (product, _) in products.items()}
        times = medians(runs, arguments.repeats, warm=0)
        used = len(batch.short) + len(batch.long) + len(batch.region_text)
        used += int(batch.hard_mask.sum() + batch.hard_caption_mask.sum())
        for loop in steps:
            spent = times[loop] / 1000
            rows.append({"texts": name, "loop": loop, "computes in": ours.compute if loop == "ours" else "float32"})
            distinct = len(batch.texts) + len(batch.long_texts)
            rows[-1] |= {"texts encoded": distinct if loop == "ours" else used}
            rows[-1] |= {"seconds a step": round(spent, 2), "pictures a second": round(arguments.pictures / spent, 1)}
            rows[-1]["matmul GFLOP/s"] = round(products[loop][1] / times[f"{loop}, product"] * 1000)
        for loop in list(steps)[1:]:
            figures[f"{loop} to ours, {name}"] = round(times[loop] / times["ours"], 2)
    report("train_step", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)

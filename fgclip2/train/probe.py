"""What a model knows of the embedded world, measured on held-out scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor
from torchvision.ops import roi_align

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.modeling import Fgclip2Model, TextKind
from fgclip2.processing import TextProcessor
from fgclip2.train.patches import patchify

_CHUNK = 128  # texts or regions at a time


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies in percent by measure and language (``en``, ``zh``)."""

    figures: dict[str, dict[str, float]]

    def table(self) -> Table:
        """One row a measure."""
        table = Table("held-out scenes", "EN", "ZH")
        for name, by_language in self.figures.items():
            table.add_row(name, *(f"{by_language[language]:.1f}" for language in ("en", "zh")))
        return table


@torch.no_grad()
def probe(
    model: Fgclip2Model,
    text_processor: TextProcessor,
    world: World,
    scenes: int = 500,
    scene_config: SceneConfig | None = None,
) -> ProbeResult:
    """Measure on scenes ``0 .. scenes - 1``, which no training stream contains.

    Args:
        model: any device; put into evaluation mode.
        text_processor: texts to ids for this model.
        world: where the scenes come from.
        scenes: how many; also the size of the retrieval gallery.
        scene_config: what they look like; 224 px with 3 to 6 objects when not given.

    Returns:
        ``T2I R@1``: captions that find their scene first. ``long T2I R@1``: the same for long captions. ``box top-1``:
        ground-truth boxes given the right one of all class names, also apart by how the object is drawn. ``1 of 11``:
        phrases preferred to all of their ten hard negatives, which are random swaps, or near ones (similar category,
        neighbouring colour, opposite size or place); and short captions of whole pictures preferred to ten with near
        swaps (one more or less, left for right, larger for smaller, ...). ``against KIND``: the true one preferred to
        a single negative of that kind.
    """
    model.eval()
    config = scene_config or SceneConfig(size=224, objects=(3, 6))
    images, regions, items, drawn = [], [], [], []
    for seed in range(scenes):
        scene = world.scene(seed, config)
        drawn.append((scene.short, scene.long))
        items += scene.objects
        patches, grid = patchify(torch.from_numpy(scene.pixels)[None])
        encoding = model.encode_image(patches.to(model.device), None, grid)
        dense = model.dense(encoding).float().transpose(1, 2).unflatten(2, grid[0].tolist())
        boxes = torch.tensor([item.box for item in scene.objects], device=model.device)
        images.append(F.normalize(model.pool(encoding).float(), dim=-1))
        regions.append(F.normalize(roi_align(dense, [boxes], 1, 1 / 16, aligned=True).flatten(1), dim=-1))
    image, region = torch.cat(images), torch.cat(regions)

    def embed(texts: list[str], kind: TextKind) -> Tensor:
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids = text_processor(list(rows), kind).to(model.device)
        parts = [model.get_text_features(chunk, walk_type=kind) for chunk in ids.split(_CHUNK)]
        return F.normalize(torch.cat(parts).float(), dim=-1)[[rows[text] for text in texts]]

    figures: dict[str, dict[str, float]] = {}

    def record(name: str, language: str, right: Tensor) -> None:
        if len(right):
            figures.setdefault(name, {})[language] = 100 * right.float().mean().item()

    labels = torch.tensor([item.category.id for item in items], device=region.device)
    own = torch.arange(scenes, device=image.device)
    asked = {mode: _asked(world, scenes, replace(config, negatives=mode)) for mode in ("random", "near")}
    for language in ("en", "zh"):
        short = embed([captions[language][0] for captions, _ in drawn], "short")
        record("T2I R@1", language, (short @ image.T).argmax(1) == own)
        long = embed([captions[language] for _, captions in drawn], "long")
        record("long T2I R@1", language, (long @ image.T).argmax(1) == own)
        names = embed([getattr(category, f"name_{language}") for category in world.categories], "box")
        right = (region @ names.T).argmax(1) == labels
        record("box top-1", language, right)
        for style in ("plain", "badge", "tint"):
            record(f"box top-1, {style}", language, right[[item.style == style for item in items]])
        small = [item.box[2] - item.box[0] < 0.2 * scene.pixels.shape[1] for item in items]
        record("box top-1, small", language, right[small])
        for mode, questions in asked.items():
            choices = _choices(questions["phrase", language], region, embed, "box")
            record(f"phrase 1 of 11, {mode}", language, _preferred(choices))
        near = asked["near"]
        for name, right in _by_kind(near["phrase", language], choices).items():
            record(f"phrase against {name}", language, right)
        choices = _choices(near["caption", language], image, embed, "short")
        record("caption 1 of 11, near", language, _preferred(choices))
        for name, right in _by_kind(near["caption", language], choices).items():
            record(f"caption against {name}", language, right)
    return ProbeResult(figures)


# True text, false ones, and how each of those was made.
_Asked = list[tuple[str, list[str], list[str]]]


def _asked(world: World, scenes: int, config: SceneConfig) -> dict[tuple[str, str], _Asked]:
    """By ``"phrase"`` (of regions) or ``"caption"`` (of pictures), and language."""
    asked: dict[tuple[str, str], _Asked] = defaultdict(list)
    for seed in range(scenes):
        scene = world.scene(seed, config)
        hard = scene.hard_caption
        for language in ("en", "zh"):
            asked["phrase", language] += [
                (thing.phrases[language], thing.negatives[language], thing.negative_kinds) for thing in scene.objects
            ]
            asked["caption", language].append((hard.text[language], hard.negatives[language], hard.kinds))
    return asked


def _choices(asked: _Asked, features: Tensor, embed: Callable[[list[str], TextKind], Tensor], kind: TextKind) -> Tensor:
    """Cosines ``(M, 1 + K)``, those of the true texts first."""
    texts = embed([text for true, false, _ in asked for text in (true, *false)], kind)
    return torch.einsum("md,mkd->mk", features, texts.unflatten(0, (len(asked), -1)))


def _preferred(choices: Tensor) -> Tensor:
    """Whether the true text beats all others; a tie is no answer, and nan is none either."""
    return choices[:, 0] > choices[:, 1:].amax(1)


def _by_kind(asked: _Asked, choices: Tensor) -> dict[str, Tensor]:
    """Whether the true text beats a single false one, by how that was made."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, (_, _, kinds) in zip((choices[:, :1] > choices[:, 1:]).tolist(), asked, strict=True):
        for won, made in zip(row, kinds, strict=True):
            right[made].append(won)
    return {made: torch.tensor(right[made]) for made in sorted(right)}

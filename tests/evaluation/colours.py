"""Coloured squares, and a model that knows their colours and nothing else, so that figures can be worked out by hand.

A picture, region or text is the one-hot vector of its colour, red, green or blue, in English and Chinese.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
ZH = {"red": "红色", "green": "绿色", "blue": "蓝色"}


class ColourEncoder:
    """Stands in for `fgclip2.evaluation.encoder.Encoder`; vectors (N, 3)."""

    model: Any = None
    kept: Any = None

    def images(self, paths: list[Path], max_patches: int | None = None) -> tuple[Tensor, Tensor]:
        return self.regions([(path, None) for path in paths])

    def regions(self, places: list[tuple[Path, Any]], max_patches: int | None = None) -> tuple[Tensor, Tensor]:
        rows, usable = [], []
        for path, box in places:
            try:
                picture = open_image(path)
                pixels = np.asarray(picture if box is None else picture.crop(tuple(map(int, box))), np.float32)
                inside = box is None or (box[0] < picture.width and box[1] < picture.height)
            except Fgclip2Error:
                inside = False
            usable.append(inside)
            rows.append(np.eye(3)[int(pixels.mean((0, 1)).argmax())] if inside else np.zeros(3))
        return torch.tensor(np.array(rows), dtype=torch.float32), torch.tensor(usable)

    def texts(self, texts: list[str], kind: str) -> Tensor:
        said = [(text, re.findall("[a-z]+", text.lower())) for text in texts]
        rows = [[float(name in words or ZH[name] in text) for name in COLOURS] for text, words in said]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)

    def reason(self, path: Path, box: Any = None) -> str:
        return "broken"


def picture(path: Path, *colours: str, size: int = 32) -> Path:
    """Squares of these colours side by side; no real colour compression, so JPEG is good enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = [np.full((size, size, 3), COLOURS[colour], np.uint8) for colour in colours]
    Image.fromarray(np.concatenate(row, 1)).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_labels(path: Path, labels: Any, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype)).save(path)

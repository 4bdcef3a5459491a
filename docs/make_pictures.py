"""Draw the README's two pictures from the embedded model: ``make ovd``, then ``python docs/make_pictures.py``."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import fgclip2
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2_mmdet.inference import OpenVocabInferencer

IMAGES = Path(__file__).parent / "images"
WORK_DIR = Path("work_dirs/ovd")
SCENE_SEED = 20  # held out: the embedded model's scenes have seeds from 1,000,000 on
SIDE = 400  # px of every picture
MARGIN = 8  # px between pictures


def in_a_row(pictures: list[Image.Image], file: Path) -> None:
    """Write pictures of one size side by side."""
    row = Image.new("RGB", ((SIDE + MARGIN) * len(pictures) - MARGIN, SIDE), "white")
    for column, picture in enumerate(pictures):
        row.paste(picture, (column * (SIDE + MARGIN), 0))
    row.save(file, optimize=True)
    print(file)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    scene = World().scene(SCENE_SEED, SceneConfig())
    picture = Image.fromarray(scene.pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    detector = OpenVocabInferencer.from_checkpoint(WORK_DIR)
    found = []
    for language in ("en", "zh"):
        detector.set_classes(list(dict.fromkeys(item.names[language] for item in scene.objects)))
        [detections] = detector([picture])
        found.append(
            fgclip2.draw_boxes(picture, detections.boxes, detections.labels, detections.scores, names=detections.names)
        )
    in_a_row([picture, *found], IMAGES / "detection.png")

    model = fgclip2.load("tiny", dtype="float32")
    first, second, *_ = scene.objects
    phrases = [first.phrases["en"], first.phrases["zh"], second.phrases["en"]]
    maps = model.similarity_map(picture, phrases)
    drawn = [fgclip2.heat_map(picture, values, label=text) for values, text in zip(maps, phrases, strict=True)]
    in_a_row(drawn, IMAGES / "heatmap.png")


if __name__ == "__main__":
    try:
        main()
    except fgclip2.Fgclip2Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

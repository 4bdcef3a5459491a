"""What a model knows of the embedded world, on held-out scenes: ``python -m benchmarks.tiny``."""

from __future__ import annotations

from dataclasses import dataclass

import fgclip2
from benchmarks._report import command, report
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.train.probe import probe


@dataclass
class Arguments:
    """Retrieval, box classification and hard negatives on held-out scenes, in both languages."""

    model: str = "tiny"
    """What ``fgclip2.load`` takes."""
    scenes: int = 500
    """Held-out scenes, and so the size of the retrieval gallery."""
    size: int = 224
    """Side of a scene in pixels; it shows 3 to 6 objects."""


def main(arguments: Arguments) -> None:
    """Measure in float32, so that figures do not depend on the processor."""
    model = fgclip2.load(arguments.model, dtype="float32")
    scene_config = SceneConfig(size=arguments.size, objects=(3, 6))
    result = probe(model.model, model.processor.text, World(), arguments.scenes, scene_config)
    rows = [
        {"measure": name, **{language.upper(): round(value, 1) for language, value in values.items()}}
        for name, values in result.figures.items()
    ]
    figures = {
        f"{name} {language}": round(value, 2)
        for name, values in result.figures.items()
        for language, value in values.items()
    }
    report("tiny", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)

"""What a model knows of the embedded world, on held-out scenes: ``python -m benchmarks.tiny``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import fgclip2
from benchmarks._report import command, report
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.train.probe import probe

_COMPOSED = ("box top-1", "phrase 1 of 11, random", "phrase 1 of 11, near")


@dataclass
class Arguments:
    """Retrieval, box classification and hard negatives on held-out scenes, in both languages."""

    model: str = "tiny"
    """What ``fgclip2.load`` takes."""
    scenes: int = 1000
    """Held-out scenes, and so the size of the retrieval gallery."""
    size: int = 224
    """Side of a scene in pixels; it shows 3 to 6 objects."""


def main(arguments: Arguments) -> None:
    """Measure in float32, so that figures do not depend on the processor."""
    model = fgclip2.load(arguments.model, dtype="float32")
    usual = SceneConfig(size=arguments.size, objects=(3, 6))
    # Every object on a badge or tinted: in colours that training has shown it in, or only in withheld ones.
    coloured = replace(usual, styles=(0.0, 0.5, 0.5))
    asked = {"": usual, "seen pairs: ": coloured, "withheld pairs: ": replace(coloured, withheld="only")}
    measured: dict[str, dict[str, float]] = {}
    for prefix, config in asked.items():
        result = probe(model.model, model.processor.text, World(), arguments.scenes, config)
        kept = [name for name in result.figures if not prefix or name in _COMPOSED]
        measured |= {prefix + name: result.figures[name] for name in kept}
    rows = [
        {"measure": name, **{language.upper(): round(value, 1) for language, value in values.items()}}
        for name, values in measured.items()
    ]
    figures = {
        f"{name} {language}": round(value, 2) for name, values in measured.items() for language, value in values.items()
    }
    report("tiny", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)

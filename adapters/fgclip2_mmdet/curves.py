"""Precision over recall at IoU 0.50, for base, novel and all classes: a picture, and numbers with every class's AP."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from fgclip2.evaluation.average_precision import Evaluation
from fgclip2.files import write_atomically
from fgclip2.fonts import font_for

_STYLES: Final = {  # told apart without colours too
    "base": ("base 基础类", "#1a85ff", "-"),
    "novel": ("novel 新类", "#e66100", "-"),
    "all": ("all 全部", "#222222", ":"),
}
_AXES: Final = ("recall 召回率", "precision 精确率")
_RECALL: Final = np.linspace(0, 1, 101)
_PANEL: Final = 4.0  # inches


def draw_curves(file: Path, evaluations: Mapping[str, Evaluation], titles: Mapping[str, str]) -> None:
    """Write a PNG with a panel for every vocabulary; the area under a line is its AP50.

    Args:
        file: where to.
        evaluations: by vocabulary.
        titles: of vocabularies, English or Chinese; one without is called by its name.

    Raises:
        Fgclip2Error: there is no font with Chinese letters, or the file cannot be written.
    """
    figure = Figure(figsize=(_PANEL * len(evaluations), _PANEL), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(evaluations), sharey=True, squeeze=False)[0]
    path = getattr(font_for("".join(_AXES), 10), "path", None)
    font, heading = FontProperties(fname=path, size=9), FontProperties(fname=path, size=11)
    for panel, (vocabulary, evaluation) in zip(panels, evaluations.items(), strict=True):
        for group, (label, colour, line) in _STYLES.items():
            ap = evaluation.figures[f"AP50_{group}"]
            if not np.isnan(ap):
                curve = evaluation.table.curve(evaluation.groups[group])
                panel.plot(_RECALL, curve, color=colour, linestyle=line, label=f"{label}  AP50 {ap:.1f}")
        panel.set_title(titles.get(vocabulary, vocabulary), fontproperties=heading)
        panel.set_xlabel(_AXES[0], fontproperties=font)
        panel.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        panel.grid(alpha=0.3)
        panel.legend(prop=font, loc="best")
    panels[0].set_ylabel(_AXES[1], fontproperties=font)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(file, picture.getvalue())


def curve_numbers(evaluation: Evaluation, names: Mapping[int, str]) -> dict[str, Any]:
    """What the picture shows of one vocabulary, and the AP of every class, for a JSON file.

    Args:
        evaluation: of this vocabulary.
        names: category id -> name.

    Returns:
        ``figures`` (0..100), ``recall`` and ``precision`` (101 numbers 0..1 for each of base, novel and all, at IoU
        0.50), and ``classes``: name, novel or not, number of objects, ``AP50`` and ``AP``, lowest AP50 first. What
        does not exist, for want of objects, is nan.
    """
    counts = Counter(item["category_id"] for item in evaluation.truth["annotations"] if not item.get("iscrowd"))
    table = evaluation.table
    classes = []
    for index, number in enumerate(table.category_ids.tolist()):
        one = np.arange(len(table.category_ids)) == index
        classes.append(
            {
                "name": names[number],
                "novel": number in evaluation.novel_ids,
                "objects": counts[number],
                "AP50": round(table.average(one, iou50=True), 2),
                "AP": round(table.average(one), 2),
            }
        )
    return {
        "figures": evaluation.figures,
        "recall": [round(value, 2) for value in _RECALL.tolist()],
        "precision": {
            group: [round(value, 4) for value in table.curve(chosen).tolist()]
            for group, chosen in evaluation.groups.items()
        },
        "classes": sorted(classes, key=lambda entry: (np.isnan(entry["AP50"]), entry["AP50"])),
    }

"""Say how good any detector's results are, under COCO's or LVIS's protocol, and show where they are wrong.

    python apps/ovd_report.py results.json --annotations instances_val.json --images val2017 --novel "cat, 伞"
    python apps/ovd_report.py ours=ours.json theirs=theirs.json --annotations lvis_v1_val.json --images coco \\
        --image-ids minival.json

Prints AP over base, novel and all classes, and writes metrics.json, curves.png and curves.json (precision over recall,
AP of every class) and errors.html (the worst errors, with crops, to be filtered). An annotation file with LVIS's fields
is evaluated by LVIS's protocol, and its rare classes are the novel ones unless others are named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.data.coco import CocoDataset, load_coco
from fgclip2.data.coco_results import read_results
from fgclip2.errors import Fgclip2Error
from fgclip2.vocabulary import parse_names


@dataclass
class Arguments:
    """Evaluate results of one or several detectors on the same pictures."""

    results: Annotated[tuple[str, ...], tyro.conf.Positional]
    """COCO results JSON: FILE, or NAME=FILE."""
    annotations: Path
    """COCO or LVIS instance JSON that the results speak of."""
    images: Path
    """Folder that its file names are relative to."""
    novel: str = ""
    """Classes that the detectors did not learn, separated by commas: "cat, 伞"."""
    image_ids: Path | None = None
    """Only these pictures: JSON list of ids, or an annotation file, such as LVIS's minival."""
    out: Path = Path("report")
    """Where the report goes."""


def run(arguments: Arguments) -> None:
    """Do what the command line says; everything is checked before anything is written."""
    files = _files(arguments.results)
    from fgclip2_mmdet.annotations import read_annotations

    truth = read_annotations(arguments.annotations, arguments.image_ids)
    chosen = {image["id"] for image in truth["images"]}
    dataset = load_coco(arguments.annotations, arguments.images, image_ids=chosen if arguments.image_ids else None)
    others = set()
    if arguments.image_ids:
        others = {image["id"] for image in read_annotations(arguments.annotations)["images"]} - chosen
    found = {name: _read(file, dataset, others) for name, file in files.items()}

    from rich.console import Console

    from fgclip2.evaluation.average_precision import evaluate_boxes, is_lvis
    from fgclip2_mmdet.experiment import DetectionData
    from fgclip2_mmdet.report import figures_table, judged_classes, write_metrics, write_reports

    federated = is_lvis(truth)
    novel = list(dataset.checked_names(parse_names(arguments.novel, dataset.names))) if arguments.novel else None
    evaluations = {
        name: evaluate_boxes(
            truth, [item for item in entries if item["image_id"] in chosen], novel, federated=federated
        )
        for name, entries in found.items()
    }
    novel_ids = next(iter(evaluations.values())).novel_ids
    data = DetectionData(
        classes=list(dataset.names),
        novel=[category.name for category in dataset.categories if category.id in novel_ids],
        vocabularies={"names": list(dataset.names)} | _translations(truth, dataset),
        train_annotations=arguments.annotations,  # nothing is trained: all data is that of the results
        val_annotations=arguments.annotations,
        train_images=arguments.images,
        val_images=arguments.images,
    )
    print(f"{len(chosen)} pictures, {len(data.classes)} classes, {'LVIS' if federated else 'COCO'}'s protocol")
    reports = write_reports(evaluations, data, arguments.out, titles={})
    figures = {name: evaluation.figures for name, evaluation in evaluations.items()}
    write_metrics(arguments.out / "metrics.json", {"metrics": figures})
    judged = judged_classes(next(iter(evaluations.values())))
    Console(width=120 if federated else 100).print(figures_table(figures, data, titles={}, judged=judged))
    print(f"report: {arguments.out}{os.sep} (metrics.json, {', '.join(file.name for file in reports)})")


def _files(results: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in results:
        name, separator, file = text.partition("=")
        name, path = (name, Path(file)) if separator and not Path(text).exists() else (Path(text).stem, Path(text))
        if name in files:
            raise Fgclip2Error(f"two results are called {name!r}; give NAME=FILE for one of them")
        files[name] = path
    if not files:
        raise Fgclip2Error("no results; give at least one COCO results JSON")
    return files


def _read(file: Path, dataset: CocoDataset, others: set[int]) -> list[dict[str, Any]]:
    """The checked entries as they stand, since AP depends on every digit."""
    return read_results(file, dataset, others, any_score=True)


def _translations(truth: Mapping[str, Any], dataset: CocoDataset) -> dict[str, list[str]]:
    """Chinese names, when the file gives every category one as ``name_zh``."""
    names = {category["id"]: category.get("name_zh") for category in truth["categories"]}
    chinese = [names[category.id] for category in dataset.categories]
    return {"zh": chinese} if all(isinstance(name, str) for name in chinese) else {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: run(parse(Arguments, argv, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())

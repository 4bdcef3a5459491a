"""What fusion adds to a detector that was trained on base classes: ``python -m benchmarks.fusion`` after ``make ovd``.

Three ways to name the same held-out scenes: the detector's own head, which has seen base classes only; that head joined
with the dense map, as ``make ovd`` reports it; and no head at all, the detector's class-agnostic proposals named by
training-free fusion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks._report import command, report
from fgclip2.fusion import Detections, FusionConfig, FusionInferencer
from fgclip2.images import open_image


@dataclass
class Arguments:
    """AP50 over base and novel classes, with names in both languages."""

    work_dir: Path = Path("work_dirs/ovd")
    """Of ``make ovd``."""
    pictures: int | None = None
    """Held-out scenes; all of them when not given."""
    batch_size: int = 8
    """Pictures computed together."""


def main(arguments: Arguments) -> None:
    """Detect and evaluate."""
    from fgclip2_mmdet.average_precision import open_vocabulary_ap
    from fgclip2_mmdet.embedded import EmbeddedConfig, prepare
    from fgclip2_mmdet.inference import OpenVocabInferencer, raw_picture

    data = prepare(arguments.work_dir / "scenes", EmbeddedConfig())
    truth = json.loads(data.val_annotations.read_text(encoding="utf-8"))
    truth["images"] = truth["images"][: arguments.pictures]
    shown = {image["id"] for image in truth["images"]}
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] in shown]
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    trained = OpenVocabInferencer.from_checkpoint(arguments.work_dir)
    detector, model = trained.detector, trained.detector.backbone.predictor
    joined = detector.roi_head.ensemble

    @torch.inference_mode()
    def proposals(images: Sequence[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        packed = [trained.pipeline(raw_picture(image)) for image in images]
        batch = detector.data_preprocessor({key: [item[key] for item in packed] for key in ("inputs", "data_samples")})
        x = detector.extract_feat(batch["inputs"], batch["data_samples"])
        found = detector.rpn_head.predict(x[:-1], batch["data_samples"], rescale=True)
        return [(item.bboxes.float().cpu(), item.scores.float().cpu().clamp(0, 1)) for item in found]

    def of_head(ensemble: object) -> Callable[[list[str]], Callable[[Sequence[Image.Image]], list[Detections]]]:
        def choose(names: list[str]) -> Callable[[Sequence[Image.Image]], list[Detections]]:
            detector.roi_head.ensemble = ensemble
            trained.set_classes(names, contrast=False)
            return lambda images: trained(images, 0.0)

        return choose

    def of_fusion(names: list[str]) -> Callable[[Sequence[Image.Image]], list[Detections]]:
        inferencer = FusionInferencer(proposals, model, FusionConfig(nms_iou=0.5, max_detections=100))
        inferencer.set_classes(names)
        return lambda images: inferencer(images, 0.0)

    ways = {
        "head alone": of_head(replace(joined, alpha=0.0, beta=0.0)),
        "head and dense map": of_head(joined),
        "proposals and fusion": of_fusion,
    }
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for way, choose in ways.items():
        for language, names in data.names.items():
            find = choose(names)
            english = dict(zip(names, data.names["en"], strict=True))
            results = []
            for start in tqdm(range(0, len(truth["images"]), arguments.batch_size), desc=f"{way}, {language}"):
                batch = truth["images"][start : start + arguments.batch_size]
                pictures = [open_image(arguments.work_dir / "scenes" / "val" / item["file_name"]) for item in batch]
                for item, found in zip(batch, find(pictures), strict=True):
                    for (x1, y1, x2, y2), score, label in zip(
                        found.boxes.tolist(), found.scores.tolist(), found.labels, strict=True
                    ):
                        box = [x1, y1, x2 - x1, y2 - y1]
                        results.append({"image_id": item["id"], "bbox": box, "score": score})
                        results[-1]["category_id"] = ids[english[label]]
            ap = open_vocabulary_ap(truth, results, data.novel)
            row = {name: round(ap[f"AP50_{name}"], 1) for name in ("base", "novel", "all")}
            rows.append({"classes by": way, "names": language, **row})
            figures |= {f"{way}, {language}, {name}": value for name, value in row.items()}
    report("fusion", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)

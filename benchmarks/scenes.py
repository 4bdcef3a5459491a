"""Scenes of the embedded world a second, one process: ``python -m benchmarks.scenes``."""

from __future__ import annotations

import time

from benchmarks._report import report
from fgclip2.data.openmoji import SceneConfig, World

WARM_UP = 150  # scenes: glyphs are drawn when they are first needed, and kept
SCENES = 200


def main() -> None:
    """Measure whole scenes: picture, masks, boxes and texts in both languages."""
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    world = World()
    for size, objects in ((224, (3, 6)), (320, (4, 8)), (640, (6, 12))):
        config = SceneConfig(size=size, objects=objects)
        for seed in range(WARM_UP):
            world.scene(seed, config)
        start = time.perf_counter()
        for seed in range(WARM_UP, WARM_UP + SCENES):
            scene = world.scene(seed, config)
            _ = (scene.pixels, scene.objects, scene.short, scene.long)
        rate = SCENES / (time.perf_counter() - start)
        rows.append({"size": size, "objects": f"{objects[0]}-{objects[1]}", "scenes a second": round(rate, 1)})
        figures[f"scenes_per_second_{size}"] = round(rate, 1)
    report("scenes", rows, figures)


if __name__ == "__main__":
    main()

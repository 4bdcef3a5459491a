"""A vocabulary of 1,203 names: ours, from the cache, and plain: ``python -m benchmarks.text``."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import fgclip2
from benchmarks._measure import matmul, milliseconds
from benchmarks._models import Attention, Plain, random_model
from benchmarks._report import command, report
from fgclip2 import identity
from fgclip2.data.openmoji import World
from fgclip2.pretrained import resolve
from fgclip2.text_cache import cache_dir

_WORDS: Final = 256_000  # of the released tokenizer; they are half of the files that are hashed


@dataclass
class Arguments:
    """Box embeddings of class names; the list is cut into parts, which all ways take in turn."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model, whose weights are random."""
    names: int = 1203
    """Of classes, English and Chinese in turn; LVIS has 1,203."""
    attention: Attention = "eager"
    """Of the plain ways: as it is written first, or torch's fused one."""
    parts: int = 5
    """Of the list, of whose times a name the median counts."""
    plain_names: int = 48
    """Of every part that the plain ways embed, one by one and in one batch."""


def saved(model: fgclip2.FGCLIP2, directory: Path) -> fgclip2.FGCLIP2:
    """The same model from files, as users have it: its hash is that of the files."""
    model.model.save_pretrained(directory)
    for file in resolve("tiny").glob("tokenizer*.json"):
        shutil.copy(file, directory)
    return fgclip2.load(directory)


def one_by_one(plain: Plain, ids: Tensor) -> Tensor:
    """A forward pass for every text."""
    return torch.cat([plain.box_text(row) for row in ids.split(1)])


def main(arguments: Arguments) -> None:
    """Measure milliseconds a name, and the second making of a vocabulary."""
    words = [name for category in World().categories for name in (category.name_en, category.name_zh)]
    names = list(dict.fromkeys(words))[: arguments.names]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        random = random_model(arguments.size, _WORDS)
        plain, model = Plain(random.model, arguments.attention), saved(random, Path(folder) / "model")
        del random
        ways: dict[str, Callable[[list[str]], Tensor]] = {
            "ours": lambda part: fgclip2.Vocabulary.build(model, part).embeddings,
            "plain, one by one": lambda part: one_by_one(plain, model.processor.text(part, "box")),
            "plain, at once": lambda part: plain.box_text(model.processor.text(part, "box")),
        }
        product, product_flops = matmul(model.dtype, model.device)
        model.text_features(names[:64], kind="box")  # warms up without filling the cache
        plain.box_text(model.processor.text(names[:4], "box"))
        times: dict[str, list[float]] = {name: [] for name in (*ways, "product")}
        cosines: list[Tensor] = []
        for start in range(arguments.parts):
            part = names[start :: arguments.parts]
            some = part[: arguments.plain_names]
            found: dict[str, Tensor] = {}
            for name, way in ways.items():
                given = part if name == "ours" else some
                begun = time.perf_counter()
                found[name] = way(given)
                times[name].append(1000 * (time.perf_counter() - begun) / len(given))
            times["product"].append(milliseconds(product))
            cosines.append(F.cosine_similarity(found["ours"][: len(some)], found["plain, one by one"]))
        whole = partial(fgclip2.Vocabulary.build, model, names)
        again = statistics.median(milliseconds(whole) for _ in range(5))
        identity._remembered.cache_clear()  # as in a new process
        anew = milliseconds(whole)
        identity._remembered.cache_clear()
        shutil.rmtree(cache_dir() / "hashes")  # as in the first one, which reads the model's files
        hashed = milliseconds(whole)
    medians = {name: statistics.median(values) for name, values in times.items()}
    spent = {name: medians[name] for name in ways}
    spent |= {"from the cache": again / len(names), "from the cache, in a new process": anew / len(names)}
    spent |= {"from the cache, files hashed": hashed / len(names)}
    together = torch.cat(cosines)
    rows: list[dict[str, object]] = []
    for name, value in spent.items():
        rows.append({"model": arguments.size, "way": name, "names": len(names), "plain by": arguments.attention})
        rows[-1]["ms a name"] = round(value, 4)
        rows[-1]["plain, one by one, to it"] = round(medians["plain, one by one"] / value, 2)
        rows[-1]["cosine, mean"] = f"{together.mean():.6f}" if name == "ours" else ""
        rows[-1]["cosine, min"] = f"{together.min():.6f}" if name == "ours" else ""
        rows[-1]["matmul GFLOP/s"] = round(product_flops / medians["product"] * 1000)
    figures = {
        "text_plain_to_ours": round(medians["plain, one by one"] / medians["ours"], 3),
        "text_ours_to_cached": round(medians["ours"] * len(names) / again, 1),
        "text_ours_to_cached_in_a_new_process": round(medians["ours"] * len(names) / anew, 1),
        "text_ours_to_cached_with_hash": round(medians["ours"] * len(names) / hashed, 1),
    }
    report("text", rows, figures, case=("model", "way", "names", "plain by"))


if __name__ == "__main__":
    command(main, Arguments)

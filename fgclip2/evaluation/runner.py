"""One run over any benchmarks: open them, encode what they want once, judge, write results and a table.

    OUT/NAME.json              figures, intervals, breakdown, protocol, model, versions
    OUT/NAME.failures.jsonl    what could not be used, where there is something
    OUT/NAME.worst.html        pictures of what was answered wrongly by most, where there is something
    OUT/table.md               all that OUT has results of by this model and protocol, beside the paper's figures
    CACHE/MODEL/*.safetensors  features; in pictures/ there what label maps and detections came to, picture by picture

A benchmark whose result is there without a failure, by the same model, protocol, files and pictures, is not run again.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch.distributed as dist

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.benchmark import Benchmark, Reader
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.fingerprint import RESULT, fingerprint
from fgclip2.evaluation.paper import PUBLISHED, SIZES
from fgclip2.evaluation.report import table
from fgclip2.evaluation.scores import Scores, Settings, Shared, Task
from fgclip2.evaluation.sizes import Extent, extent
from fgclip2.evaluation.store import VectorStore
from fgclip2.evaluation.worst import page
from fgclip2.files import write_atomically

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_log = logging.getLogger(__name__)

_PACKAGES: Final = ("torch", "torchvision", "transformers", "numpy", "pillow", "faster-coco-eval")


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        results: by benchmark, as in the files, of those that were asked for.
        reused: names of those that were found from earlier runs.
        left_out: benchmark to the reason why it could not be run.
        encoded: pictures that this process ran through the vision tower.
        embedded: texts that this process ran through the text tower.
        table: Markdown, of these results and, in the first process, of the others in the folder by this model and
            protocol.
    """

    results: dict[str, dict[str, Any]]
    reused: tuple[str, ...]
    left_out: dict[str, str]
    encoded: int
    embedded: int
    table: str


def run(
    benchmarks: Sequence[Benchmark],
    model: FGCLIP2,
    root: Path,
    out: Path,
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    strict: bool = True,
) -> Report:
    """Run benchmarks; under torchrun all processes encode, and share label maps and detections; the first one judges.

    Args:
        benchmarks: which.
        model: what is judged.
        root: data root.
        out: for results.
        settings: how they are judged.
        cache: for features; ``out/features`` when not given. Runs may share one.
        strict: a benchmark that cannot be run is an error; else it is named in the report.

    Raises:
        Fgclip2Error: a benchmark lacks files and ``strict``, none can be run, or ``root`` or the predictions
            are no folder.
    """
    if not root.is_dir():
        raise Fgclip2Error(f"the data root {str(root)!r} is no folder; give the one that holds coco/, LIT-CN/, ...")
    settings = settings or Settings()
    if settings.predictions is not None and not settings.predictions.is_dir():
        raise Fgclip2Error(f"the folder of predictions {str(settings.predictions)!r} does not exist")
    first, model_hash = is_first(), model.hash
    results: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    tasks: dict[str, tuple[Benchmark, Task, Extent, str]] = {}
    wants = Wants()
    for benchmark in benchmarks:
        try:
            records = read_records(benchmark, root)
            key = fingerprint(benchmark, records, model, model_hash, root, settings)
            earlier = _earlier(out / f"{benchmark.name}.json", key)
            if earlier is not None:
                results[benchmark.name] = earlier
                continue
            task = open_task(replace(benchmark, read=_given(records)), root, settings)
        except Fgclip2Error as error:
            if strict:
                raise
            left_out[benchmark.name] = str(error)
            continue
        tasks[benchmark.name] = (benchmark, task, extent(benchmark.name, records), key)
        wants.merge(task.wants())
    reused = tuple(results)
    if not tasks and not results:
        reasons = "; ".join(left_out.values())
        raise Fgclip2Error(f"none of the benchmarks can be run with the data in {root}: {reasons:.600}")
    encoder = Encoder(model, VectorStore.of(cache or out / "features", model))
    encoder.prepare(wants)
    for name, (benchmark, task, size, key) in tasks.items():
        try:
            if isinstance(task, Shared):
                task.share(encoder)
            if not first:
                continue
            scores = task.score(encoder)
        except Fgclip2Error as error:
            if strict:
                raise
            left_out[name] = str(error)
            continue
        results[name] = _result(benchmark, scores, size, model, model_hash, settings, key)
        _write(out, benchmark, results[name], scores)
    others, strangers = _others(out, results, model, model_hash, settings) if first else ([], [])
    text = table([*results.values(), *others], left_out, strangers)
    if first:
        write_atomically(out / "table.md", text.encode())
    if dist.is_initialized():
        dist.barrier()
    return Report(results, reused, left_out, encoder.encoded, encoder.embedded, text)


def is_first() -> bool:
    """Whether this process judges and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def read_records(benchmark: Benchmark, root: Path) -> list[Any]:
    """All of a benchmark's records.

    Raises:
        Fgclip2Error: files are missing (the message names them and where they come from) or damaged.
    """
    _need_parts(benchmark, root)
    return list(benchmark.read(root))


def _given(records: Sequence[Any]) -> Reader:
    """A reader of what was read before."""
    return lambda root: iter(records)


def open_task(benchmark: Benchmark, root: Path, settings: Settings) -> Task:
    """A benchmark with its records, ready to be judged.

    Raises:
        Fgclip2Error: files are missing (the message names them and where they come from) or damaged.
    """
    _need_parts(benchmark, root)
    task: Task = _task_class(benchmark)(benchmark, root, settings)
    return task


def _need_parts(benchmark: Benchmark, root: Path) -> None:
    missing = [part for part in benchmark.parts if part.missing(root)]
    if missing:
        named = "; ".join(f"{part.path} ({part.source})" for part in missing)
        raise Fgclip2Error(f"{benchmark.name} lacks in {root}: {named}")


def _task_class(benchmark: Benchmark) -> Any:
    if benchmark.task == "fine_grained":
        from fgclip2.evaluation.fine_grained import FineGrained

        return FineGrained
    if benchmark.task == "box_classification":
        from fgclip2.evaluation.box_classification import BoxClassification

        return BoxClassification
    if benchmark.task == "detection":
        from fgclip2.evaluation.detection import Detection

        return Detection
    if benchmark.task == "classification":
        from fgclip2.evaluation.classification import Classification

        return Classification
    if benchmark.task == "segmentation":
        from fgclip2.evaluation.segmentation import Segmentation

        return Segmentation
    if benchmark.task == "answers":
        from fgclip2.evaluation.answers import Answers

        return Answers
    from fgclip2.evaluation.retrieval import Retrieval

    return Retrieval


def _earlier(file: Path, key: str) -> dict[str, Any] | None:
    """The result of an earlier run when it is of the same fingerprint; not one with failures, which may be mended by
    now: what cannot be read today is not kept anyway, so trying again costs little."""
    result = _read(file)
    return result if result is not None and result.get("fingerprint") == key and not result.get("failed") else None


def _read(file: Path) -> dict[str, Any] | None:
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read (%s); the benchmark is to be run again", file, error)
        return None
    return result if isinstance(result, dict) else None


def _others(
    out: Path, results: Mapping[str, Any], model: FGCLIP2, model_hash: str, settings: Settings
) -> tuple[list[dict[str, Any]], list[str]]:
    """Results of other benchmarks that are there by this model and protocol, and names of those by another one."""
    identity = _identity(model, model_hash)
    mine = {"form": RESULT, "protocol": _protocol(settings), "model": identity}
    others, strangers = [], []
    for name in BENCHMARKS:
        result = None if name in results else _read(out / f"{name}.json")
        if result is None:
            continue
        told = result.get("model")
        kept = {key: told.get(key) for key in identity} if isinstance(told, dict) else None
        if {"form": result.get("form"), "protocol": result.get("protocol"), "model": kept} == mine:
            others.append(result)
        else:
            strangers.append(name)
    return others, strangers


def _protocol(settings: Settings) -> dict[str, Any]:
    return {"name": settings.protocol, "bootstrap": settings.samples, "seed": settings.seed}


def _identity(model: FGCLIP2, model_hash: str) -> dict[str, str]:
    """What figures may depend on of a model; neither the name that it was called by nor the device."""
    return {"hash": model_hash, "dtype": str(model.dtype).removeprefix("torch.")}


def _result(
    benchmark: Benchmark,
    scores: Scores,
    size: Extent,
    model: FGCLIP2,
    model_hash: str,
    settings: Settings,
    key: str,
) -> dict[str, Any]:
    published = PUBLISHED.get(benchmark.name, {})
    told = scores.plain()
    result = {
        "form": RESULT,
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "task": benchmark.task,
        "language": benchmark.language,
        "in_paper": benchmark.in_paper,
        **told,
        "facts": {**told["facts"], "size": str(size)},
        "complete": size.complete,
        "published": {name: figures._asdict() for name, figures in published.items()},
        "published_size": SIZES.get(model.width),
        "protocol": _protocol(settings),
        "model": {**_identity(model, model_hash), "name": model.name, "width": model.width, "embedded": model.embedded,
                  "device": str(model.device)},
        "versions": versions(),
        "fingerprint": key,
    }  # fmt: skip
    return _finite(result)


def _finite(value: Any) -> Any:
    """JSON has no NaN; a figure that is not defined is null."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def versions() -> dict[str, str]:
    """Of what a figure may depend on."""
    import fgclip2

    found = {"fgclip2": fgclip2.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _write(out: Path, benchmark: Benchmark, result: Mapping[str, Any], scores: Scores) -> None:
    """Failures first, so that a result means that they are there."""
    name = benchmark.name
    pictures, listing = out / f"{name}.worst.html", out / f"{name}.failures.jsonl"
    if scores.worst:
        write_atomically(pictures, page(benchmark.title, scores.worst).encode())
    else:
        pictures.unlink(missing_ok=True)
    if scores.failures:
        lines = [json.dumps({"name": what, "reason": why}, ensure_ascii=False) for what, why in scores.failures]
        write_atomically(listing, ("\n".join(lines) + "\n").encode())
    else:
        listing.unlink(missing_ok=True)
    text = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(out / f"{name}.json", (text + "\n").encode())

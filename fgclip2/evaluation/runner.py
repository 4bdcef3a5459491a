"""One run over any benchmarks: open them, encode what they want once, judge, write results and a table.

    OUT/NAME.json              figures, intervals, breakdown, protocol, model, versions
    OUT/NAME.failures.jsonl    what could not be used, where there is something
    OUT/NAME.worst.html        pictures of what was answered wrongly by most, where there is something
    OUT/table.md               everything that OUT has results of, beside the paper's figures
    CACHE/MODEL/*.safetensors  features; in pictures/ there what label maps and detections came to, picture by picture

A benchmark whose result is there, by the same model, protocol and files, is not run again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch.distributed as dist

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.paper import PUBLISHED, SIZES
from fgclip2.evaluation.report import table
from fgclip2.evaluation.scores import Scores, Settings, Shared, Task
from fgclip2.evaluation.store import VectorStore
from fgclip2.evaluation.worst import page
from fgclip2.files import write_atomically

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_log = logging.getLogger(__name__)

_RESULT: Final = 3
"""Form of the result files; those of an earlier form are computed again."""

_PACKAGES: Final = ("torch", "torchvision", "transformers", "numpy", "pillow", "faster-coco-eval")


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        results: by benchmark, as in the files; those found from earlier runs as well.
        reused: names of those.
        left_out: benchmark to the reason why it could not be run.
        encoded: pictures that this process ran through the vision tower.
        embedded: texts that this process ran through the text tower.
        table: Markdown.
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
    tasks: dict[str, tuple[Benchmark, Task, str]] = {}
    wants = Wants()
    for benchmark in benchmarks:
        try:
            key = _fingerprint(benchmark, model, model_hash, root, settings)
            earlier = _earlier(out / f"{benchmark.name}.json", key)
            if earlier is not None:
                results[benchmark.name] = earlier
                continue
            task = open_task(benchmark, root, settings)
        except Fgclip2Error as error:
            if strict:
                raise
            left_out[benchmark.name] = str(error)
            continue
        tasks[benchmark.name] = (benchmark, task, key)
        wants.merge(task.wants())
    reused = tuple(results)
    if not tasks and not results:
        reasons = "; ".join(left_out.values())
        raise Fgclip2Error(f"none of the benchmarks can be run with the data in {root}: {reasons:.600}")
    encoder = Encoder(model, VectorStore.of(cache or out / "features", model))
    encoder.prepare(wants)
    for name, (benchmark, task, key) in tasks.items():
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
        results[name] = _result(benchmark, scores, model, model_hash, settings, key)
        _write(out, benchmark, results[name], scores)
    text = table(list(results.values()), left_out)
    if first:
        write_atomically(out / "table.md", text.encode())
    if dist.is_initialized():
        dist.barrier()
    return Report(results, reused, left_out, encoder.encoded, encoder.embedded, text)


def is_first() -> bool:
    """Whether this process judges and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def open_task(benchmark: Benchmark, root: Path, settings: Settings) -> Task:
    """Read a benchmark's records.

    Raises:
        Fgclip2Error: files are missing (the message names them and where they come from) or damaged.
    """
    missing = [part for part in benchmark.parts if part.missing(root)]
    if missing:
        named = "; ".join(f"{part.path} ({part.source})" for part in missing)
        raise Fgclip2Error(f"{benchmark.name} lacks in {root}: {named}")
    return _task_class(benchmark)(benchmark, root, settings)


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


def _fingerprint(benchmark: Benchmark, model: FGCLIP2, model_hash: str, root: Path, settings: Settings) -> str:
    """Of all that a result depends on: same fingerprint, same result.

    Predictions count by their content, wherever they are; the benchmark's files by time and size, its pictures by their
    folder only.
    """
    files = [root / name for part in benchmark.parts for name in (part.path, *part.others)]
    facts = [
        model_hash,
        str(model.dtype),
        settings.protocol,
        settings.samples,
        settings.seed,
        settings.worst,
        benchmark.name,
        [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()],
        [] if settings.predictions is None else _predicted(settings.predictions, benchmark.name),
        _RESULT,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _predicted(folder: Path, name: str) -> list[list[str]]:
    """Name and digest of every file that was predicted for a benchmark."""
    found = [file for ending in (".json", ".boxes.json", ".jsonl") if (file := folder / f"{name}{ending}").is_file()]
    found += sorted(file for file in (folder / name).rglob("*") if file.is_file())
    digests = []
    for file in found:
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Fgclip2Error(f"the prediction {file} cannot be read ({error.strerror})") from error
        digests.append([file.relative_to(folder).as_posix(), digest])
    return digests


def _earlier(file: Path, key: str) -> dict[str, Any] | None:
    """The result of an earlier run when it is of the same fingerprint."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read (%s); the benchmark is run again", file, error)
        return None
    return result if isinstance(result, dict) and result.get("fingerprint") == key else None


def _result(
    benchmark: Benchmark, scores: Scores, model: FGCLIP2, model_hash: str, settings: Settings, fingerprint: str
) -> dict[str, Any]:
    published = PUBLISHED.get(benchmark.name, {})
    size = SIZES.get(model.width)
    result = {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "task": benchmark.task,
        "language": benchmark.language,
        "in_paper": benchmark.in_paper,
        **scores.plain(),
        "published": {name: figures._asdict() for name, figures in published.items()},
        "published_size": size,
        "protocol": {"name": settings.protocol, "ties": settings.ties, "bootstrap": settings.samples,
                     "seed": settings.seed},
        "model": {"name": model.name, "hash": model_hash, "width": model.width, "embedded": model.embedded,
                  "dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)},
        "versions": versions(),
        "fingerprint": fingerprint,
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

"""Answer GQA, TextVQA, MMMU, MMBench (English and Chinese) and RefCOCO with FG-CLIP 2 as a LLaVA's vision tower.

    python apps/llava_answer.py --model work_dirs/llava/model --data-root data --out predictions
    fgclip2 eval --tasks answers --predictions predictions --data-root data

Answers go to OUT/NAME.jsonl, and are kept in OUT/answered as well, so that nothing is asked twice when a run that was
stopped is started again. Data are laid out as docs/evaluation.md says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import BENCHMARKS

_NAMES = tuple(name for name, benchmark in BENCHMARKS.items() if benchmark.task == "answers")


@dataclass
class Arguments:
    """What answers, and what is asked."""

    model: Path
    """Directory that apps/llava_train.py wrote."""
    data_root: Path = Path("data")
    """Folder that holds gqa/, textvqa/, ..."""
    out: Path = Path("predictions")
    """For NAME.jsonl, and NAME.unanswered.jsonl where pictures cannot be read."""
    tasks: tuple[str, ...] = ("all",)
    """gqa, mmmu, textvqa, refcoco, mmbench, mmbench_cn; all takes those that there are data for."""
    batch_size: int = 8
    """Questions at a time."""
    max_new_tokens: int = 32
    """Longest answer."""
    limit: int | None = None
    """Ask only that many of each, the first ones; the others are judged as wrong."""
    device: str = "auto"
    """auto, or a torch device."""
    dtype: str = "auto"
    """auto, or float32, bfloat16, float16."""


def run(arguments: Arguments) -> None:
    """Answer all that was asked for."""
    unknown = [name for name in arguments.tasks if name not in (*_NAMES, "all")]
    if unknown or not arguments.tasks:
        what = f"no set of questions {unknown[0]!r}" if unknown else "no set of questions was named"
        raise Fgclip2Error(f"{what}; choose all, or of {', '.join(_NAMES)}")
    if not arguments.data_root.is_dir():
        raise Fgclip2Error(
            f"the data root {str(arguments.data_root)!r} is no folder; give the one that holds gqa/, ..."
        )
    every = "all" in arguments.tasks
    names = _NAMES if every else tuple(name for name in _NAMES if name in arguments.tasks)
    lacking = {name for name in names if any(part.missing(arguments.data_root) for part in BENCHMARKS[name].parts)}
    if every and len(lacking) == len(names):
        raise Fgclip2Error(
            f"there is no set of questions in {arguments.data_root}; fgclip2 eval --check gqa ROOT helps"
        )

    import fgclip2_llava
    from fgclip2.predictor import choose_dtype, find_device
    from fgclip2_llava.answering import Answerer, answer

    device = find_device(arguments.device)
    model = fgclip2_llava.load(arguments.model, choose_dtype(arguments.dtype, device), device)
    answerer = Answerer(model, fgclip2_llava.LlavaProcessor.load(arguments.model), arguments.max_new_tokens)
    for name in names:
        if every and name in lacking:
            print(f"{name}: left out, it is not in {arguments.data_root}")
            continue
        done = answer(
            BENCHMARKS[name], arguments.data_root, arguments.out, answerer, arguments.model, arguments.batch_size,
            arguments.limit,
        )  # fmt: skip
        _list_unanswered(arguments.out / f"{name}.unanswered.jsonl", done.unanswered)
        print(f"{done.file}: {done.count:,} answers, {len(done.unanswered):,} questions could not be asked")


def _list_unanswered(file: Path, unanswered: tuple[tuple[str, str], ...]) -> None:
    import json

    from fgclip2.files import write_atomically

    if unanswered:
        lines = [json.dumps({"question_id": name, "reason": why}, ensure_ascii=False) for name, why in unanswered]
        write_atomically(file, ("\n".join(lines) + "\n").encode())
    else:
        file.unlink(missing_ok=True)


def main() -> int:
    """Run; 0, or 2 after an error that the user can mend."""
    return exit_code(lambda: run(parse(Arguments, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())

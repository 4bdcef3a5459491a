"""A LLaVA's answers to the paper's question sets, in the files that ``fgclip2 eval --predictions`` judges.

Prompts are LLaVA-1.5's: one word or phrase for GQA, TextVQA and open questions of MMMU, the option's letter for
multiple choice, and for RefCOCO a box of four numbers from 0 to 1. They are shares of the picture itself: nothing is
padded to a square here. TextVQA is asked with OCR tokens where LLaVA-1.5's file of prompts is in the data root, else
without; its answers say how.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.records import Language, Question
from fgclip2.files import write_atomically
from fgclip2.images import open_image
from fgclip2.progress import progress

from .processing import IMAGE, LlavaProcessor

_SHORT: Final = {"en": "Answer the question using a single word or phrase.", "zh": "请用一个词或短语回答问题。"}
_LETTER: Final = {
    "en": "Answer with the option's letter from the given choices directly.",
    "zh": "请直接回答选项字母。",
}
_REFER: Final = "Please provide the bounding box coordinate of the region this sentence describes: "
_LETTERS: Final = "ABCDEFGHIJ"
_FORM: Final = 2  # of the lines that are kept; those of an earlier form do not say how they were asked
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Answered:
    """What became of a benchmark.

    Attributes:
        file: the answers.
        count: how many there are.
        unanswered: id and reason of questions that could not be asked; they are judged as wrong.
    """

    file: Path
    count: int
    unanswered: tuple[tuple[str, str], ...]


class Answerer:
    """Asks a model, several questions at a time, greedily.

    Args:
        model: a LLaVA with FG-CLIP 2 as its tower, see `fgclip2_llava.load`.
        processor: of the same directory.
        max_new_tokens: longest answer.
    """

    def __init__(self, model: Any, processor: LlavaProcessor, max_new_tokens: int = 32) -> None:
        if max_new_tokens < 1:
            raise Fgclip2Error(f"max_new_tokens {max_new_tokens}: give 1 or more")
        self.model, self.processor, self.max_new_tokens = model, processor, max_new_tokens

    def texts(self, asked: Sequence[tuple[Image.Image, str]]) -> list[str]:
        """Answers to questions, each about one picture; every question has its placeholder."""
        pictures = [self.processor.patches(picture) for picture, _ in asked]
        encoded = [
            self.processor.encode([(text, None)], [picture]) for (_, text), picture in zip(asked, pictures, strict=True)
        ]
        batch = self.processor.batch(encoded, pictures, generate=True)
        with torch.inference_mode():
            found = self.model.generate(
                **{name: tensor.to(self.model.device) for name, tensor in batch.items()},
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=self.processor.end_id,
                pad_token_id=self.processor.pad_id,
            )
        return [self.processor.decode(row) for row in found[:, batch["input_ids"].shape[1] :]]


def prompt(question: Question, language: Language) -> str:
    """What a person asks, the picture first."""
    if question.box is not None:
        return f"{IMAGE}\n{_REFER}{question.text}"
    if not question.options:
        return f"{IMAGE}\n{question.text}\n{_SHORT[language]}"
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(_LETTERS, question.options, strict=False))
    return f"{IMAGE}\n{question.text}\n{options}\n{_LETTER[language]}"


def box_of(answer: str, size: tuple[int, int]) -> list[float] | None:
    """The box that an answer names, x1, y1, x2, y2 in pixels; ``None`` unless it has exactly four numbers from 0 to 1.

    Args:
        answer: such as ``[0.1, 0.25, 0.5, 1.0]``.
        size: width and height of the picture in pixels.
    """
    numbers = [float(number) for number in _NUMBER.findall(answer)]
    if len(numbers) != 4 or not all(0 <= number <= 1 for number in numbers):
        return None
    return [number * side for number, side in zip(numbers, (*size, *size), strict=True)]


def answer(
    benchmark: Benchmark,
    root: Path,
    out: Path,
    answerer: Answerer,
    source: Path,
    batch_size: int = 8,
    limit: int | None = None,
) -> Answered:
    """Answer a benchmark into ``OUT/NAME.jsonl``; what was answered before, in ``OUT/answered``, is not asked again.

    Args:
        benchmark: one whose task is ``answers``.
        root: data root, laid out as docs/evaluation.md says.
        out: folder of predictions.
        answerer: the model.
        source: directory of the model; another model's answers are not taken.
        batch_size: questions at a time.
        limit: only that many questions, the first ones; the rest counts as unanswered.

    Raises:
        Fgclip2Error: another task, or files are missing or damaged.
    """
    if benchmark.task != "answers":
        raise Fgclip2Error(f"{benchmark.name} is no set of questions; docs/evaluation.md lists those")
    missing = [part for part in benchmark.parts if part.missing(root)]
    if missing:
        named = "; ".join(f"{part.path} ({part.source})" for part in missing)
        raise Fgclip2Error(f"{benchmark.name} lacks in {root}: {named}")
    if batch_size < 1 or (limit is not None and limit < 1):
        raise Fgclip2Error(f"batch size {batch_size} and limit {limit}: give 1 or more")
    questions = list(islice(benchmark.read(root), limit))
    kept_in = out / "answered" / f"{benchmark.name}.{_stamp(benchmark, root, source, answerer)}.jsonl"
    kept_in.parent.mkdir(parents=True, exist_ok=True)
    lines = _finished(kept_in)
    unanswered: list[tuple[str, str]] = []
    todo = [question for question in questions if question.id not in lines]
    with kept_in.open("a", encoding="utf-8") as stream:
        for group in progress(list(_groups(todo, batch_size)), desc=benchmark.name, unit=f"x {batch_size} question"):
            asked = list(_opened(group, unanswered))
            if not asked:
                continue
            given = answerer.texts([(picture, prompt(item, benchmark.language)) for item, picture in asked])
            for (item, picture), said in zip(asked, given, strict=True):
                # Where an optional file changes what is asked, the answer says what that was.
                told = prompt(item, benchmark.language).removeprefix(f"{IMAGE}\n") if benchmark.optional else None
                lines[item.id] = line = _line(item, picture, said, told)
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
    kept = [lines[item.id] for item in questions if item.id in lines]
    file = out / f"{benchmark.name}.jsonl"
    write_atomically(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode())
    return Answered(file, len(kept), tuple(unanswered))


def _opened(group: Sequence[Question], unanswered: list[tuple[str, str]]) -> Iterator[tuple[Question, Image.Image]]:
    for item in group:
        try:
            if IMAGE in item.text or any(IMAGE in option for option in item.options):
                raise Fgclip2Error(f"its text has {IMAGE} in it, which stands for a picture")
            yield item, open_image(item.image)
        except Fgclip2Error as error:
            unanswered.append((item.id, str(error)))


def _line(question: Question, picture: Image.Image, said: str, asked: str | None) -> dict[str, Any]:
    line: dict[str, Any] = {"question_id": question.id, "text": said}
    if asked is not None:
        line["prompt"] = asked
    box = None if question.box is None else box_of(said, picture.size)
    return line if box is None else {**line, "bbox": box}


def _groups(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    return (questions[start : start + size] for start in range(0, len(questions), size))


def _finished(file: Path) -> dict[str, dict[str, Any]]:
    """Earlier answers; the last line of a run that was stopped may be cut short, and is then asked again."""
    lines: dict[str, dict[str, Any]] = {}
    if file.exists():
        whole = [line for line in file.read_text(encoding="utf-8").split("\n")[:-1] if line]
        write_atomically(file, "".join(f"{line}\n" for line in whole).encode())
        lines = {item["question_id"]: item for item in map(json.loads, whole)}
    return lines


def _stamp(benchmark: Benchmark, root: Path, source: Path, answerer: Answerer) -> str:
    """Of the model's files, the benchmark's files, how it is asked and how it answers."""
    files = sorted(file for file in source.iterdir() if file.is_file())
    parts = (*benchmark.parts, *benchmark.optional)
    files += [file for part in parts for name in (part.path, *part.others) if (file := root / name).exists()]
    facts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    told = json.dumps([facts, answerer.max_new_tokens, str(answerer.model.dtype), _FORM])
    return hashlib.sha256(told.encode()).hexdigest()[:12]

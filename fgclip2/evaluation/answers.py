"""FG-CLIP 2 as the vision tower of a model that answers in words: judging its answers.

Answers come as ``PREDICTIONS/NAME.jsonl``: lines of ``{"question_id": ..., "text": ...}``, for RefCOCO with
``"bbox": [x1, y1, x2, y2]`` in pixels in place of ``text``. A question without an answer is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import box_iou
from fgclip2.evaluation.readers.files import read_json_lines
from fgclip2.evaluation.records import Question
from fgclip2.evaluation.scores import Metric, Scores, Settings, by_group, share

_LETTERS: Final = "ABCDEFGHIJ"
_LETTER: Final = re.compile(r"^\W*([A-J])(?:\s*$|[.):,：，。）、])")
_ARTICLES: Final = frozenset({"a", "an", "the"})
_NUMBERS: Final = {word: str(number) for number, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))}  # fmt: skip
_IOU: Final = 0.5


class Answers:
    """Exact match (GQA), agreement with ten people (TextVQA), the option's letter (MMMU, MMBench; there all turnings of
    a question must be right), overlap of at least one half (RefCOCO)."""

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        self.settings, self.name = settings, benchmark.name
        self.questions: list[Question] = list(benchmark.read(root))
        if not self.questions:
            raise Fgclip2Error(f"{benchmark.name}: there are no questions in {root}")
        file = None if settings.predictions is None else settings.predictions / f"{benchmark.name}.jsonl"
        if file is None or not file.is_file():
            raise Fgclip2Error(
                f"{benchmark.name}: there are no answers; give --predictions FOLDER with {benchmark.name}.jsonl, lines "
                'like {"question_id": "1", "text": "yes"}'
            )
        self.answers = {str(item.get("question_id")): item for _, item in read_json_lines(file, "question_id")}

    def wants(self) -> Wants:
        """Nothing: another model has seen the pictures."""
        return Wants()

    def score(self, encoder: Encoder) -> Scores:
        """Judge every question."""
        values = np.array([self._judge(question) for question in self.questions])
        unanswered = [item.id for item in self.questions if item.id not in self.answers]
        failures = tuple((number, "was not answered") for number in unanswered)
        groups = [question.group for question in self.questions]
        breakdown = {"group": by_group(values, groups)} if any(groups) else {}
        metrics: dict[str, Metric] = {}
        if self.name == "refcoco":
            for split in dict.fromkeys(groups):
                rows = [row for row, name in enumerate(groups) if name == split]
                pictures = _numbers([str(self.questions[row].image) for row in rows])
                metrics[split] = share(values[rows], pictures, self.settings)
        elif self.name.startswith("mmbench"):
            metrics["dev"] = self._circles(values)
        else:
            metrics["accuracy"] = share(values, _numbers([_picture(item) for item in self.questions]), self.settings)
        return Scores(metrics, breakdown, failures, {"questions": len(values), "unanswered": len(unanswered)})

    def _judge(self, question: Question) -> float:
        given = self.answers.get(question.id)
        if given is None:
            return 0.0
        if question.box is not None:
            box = given.get("bbox")
            if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, (int, float)) for value in box):
                return 0.0
            return float(box_iou(box, question.box) >= _IOU)
        text = str(given.get("text", ""))
        judge: Callable[[str, Question], float] = _JUDGES.get(self.name, right_option)
        return judge(text, question)

    def _circles(self, values: np.ndarray) -> Metric:
        circles: dict[str, float] = {}
        for question, value in zip(self.questions, values.tolist(), strict=True):
            name = question.circle or question.id
            circles[name] = min(circles.get(name, 1.0), value)
        return share(np.array(list(circles.values())), range(len(circles)), self.settings)


def exact_match(text: str, question: Question) -> float:
    """GQA: the answer itself, whatever its case, without a final full stop."""
    return float(text.strip().rstrip(".").lower() == question.answers[0].strip().lower())


def agreement(text: str, question: Question) -> float:
    """TextVQA: mean over the ten people of min(1, how many of the other nine gave this answer / 3).

    Answers are compared in lower case, without punctuation, articles and apostrophes, numbers as digits.
    """
    given, people = plain(text), Counter(map(plain, question.answers))
    same, total = people[given], sum(people.values())
    if total == 0:
        return 0.0
    return (same * min(1.0, (same - 1) / 3) + (total - same) * min(1.0, same / 3)) / total


def right_option(text: str, question: Question) -> float:
    """MMMU, MMBench: the letter that the answer begins with, or the words of the option; of an open question the words
    of any right answer."""
    wanted = question.answers[0].strip()
    if not question.options:
        return float(plain(text) in {plain(answer) for answer in question.answers})
    number = _LETTERS.find(wanted)
    options = [plain(option) for option in question.options]
    if plain(text) in options:  # first, for words may begin with "A"
        return float(0 <= number < len(options) and plain(text) == options[number])
    match = _LETTER.match(text.strip())
    return float(match is not None and match.group(1) == wanted)


def plain(answer: str) -> str:
    """An answer as it is compared."""
    words = re.sub(r"[^\w\s.:/-]", "", answer.lower().replace("'", "")).strip(" .").split()
    return " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)


_JUDGES: Final[dict[str, Callable[[str, Question], float]]] = {"gqa": exact_match, "textvqa": agreement}


def _picture(question: Question) -> Any:
    return str(question.image) if isinstance(question.image, Path) else question.id


def _numbers(names: Sequence[Any]) -> list[int]:
    known: dict[Any, int] = {}
    return [known.setdefault(name, len(known)) for name in names]

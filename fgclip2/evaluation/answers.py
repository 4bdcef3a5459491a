"""FG-CLIP 2 as the vision tower of a model that answers in words: judging its answers.

Answers come as ``PREDICTIONS/NAME.jsonl``: lines of ``{"question_id": ..., "text": ...}``, for RefCOCO with
``"bbox": [x1, y1, x2, y2]`` in pixels in place of ``text``, for TextVQA with the ``"prompt"`` that was asked. A
question without an answer is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import box_iou
from fgclip2.evaluation.readers.files import read_json_lines
from fgclip2.evaluation.readers.questions import OCR_TOKENS
from fgclip2.evaluation.records import Question
from fgclip2.evaluation.scores import Metric, Scores, Settings, by_group, share

_LETTERS: Final = "ABCDEFGHIJ"
_ONLY_LETTER: Final = re.compile(r"""["'`(\[（【*\s]*([A-J])["'`)\]）】*.:,：，。、\s]*""")
_LETTER: Final = re.compile(r"^\W*([A-J])(?:\s*$|[.):,：，。）、])")
_SAID: Final = re.compile(
    r"(?:(?i:\b(?:answer|option|choice)\b\s*(?:\b(?:is|would\s+be)\b)?\s*[:：]?)|答案\s*(?:应该|应)?(?:是|为|选)?\s*[:：]?"
    r"|选(?:择|项)?\s*(?:是|为)?\s*[:：]?)\s*[\"'`(\[（【*]*([A-J])(?=\s*$|\s*\n|[\"'`)\]）】*.:,：，。；;、])"
)
"""A letter that an answer names as its own: "The answer is B.", "答案：B"."""
_ARTICLES: Final = frozenset({"a", "an", "the"})
_NUMBERS: Final = {word: str(number) for number, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))}  # fmt: skip
_IOU: Final = 0.5
_SHOWN: Final = 50  # wrong answers that a result has in words
_WITH_OCR: Final = "with OCR tokens"
_NO_OCR: Final = (
    "not every answer says that it was asked with LLaVA-1.5's OCR tokens (`Reference OCR token: ...` in its `prompt`), "
    "and the paper's figure is of LLaVA-1.5's evaluation, which gives them"
)


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
            circles, categories = self._circles(values)
            metrics["dev"] = share(circles, range(len(circles)), self.settings)
            breakdown = {"group": by_group(circles, categories)} if any(categories) else {}
        else:
            metrics["accuracy"] = share(values, _numbers([_picture(item) for item in self.questions]), self.settings)
        wrong = self._wrong(values)
        facts: dict[str, Any] = {"questions": len(values), "unanswered": len(unanswered), "wrong": len(wrong)}
        reason = ""
        if self.name == "textvqa":
            facts["prompt"] = self._prompts()
            reason = "" if facts["prompt"] == _WITH_OCR else _NO_OCR
        return Scores(metrics, breakdown, failures, facts, not reason, reason, wrong=wrong[:_SHOWN])

    def _prompts(self) -> str:
        """How TextVQA was asked, by what its answers say."""
        given = [(item, self.answers[item.id].get("prompt")) for item in self.questions if item.id in self.answers]
        asked = [(item, prompt) for item, prompt in given if isinstance(prompt, str)]
        if not asked or len(asked) < len(given):
            return "not told by every answer"
        # Where LLaVA-1.5's prompts are here, one of them may do without: of a picture in which no words were read.
        known = any(OCR_TOKENS in item.text for item in self.questions)
        with_tokens = sum(OCR_TOKENS in prompt or (known and prompt.startswith(item.text)) for item, prompt in asked)
        if with_tokens == len(asked):
            return _WITH_OCR
        return f"{_WITH_OCR} in {with_tokens:,} of {len(asked):,}" if with_tokens else "without OCR tokens"

    def _wrong(self, values: np.ndarray) -> tuple[dict[str, Any], ...]:
        """Answers that are not right at all, in the benchmark's order; those that lack are in the failures."""
        return tuple(
            _told(question, self.answers[question.id])
            for question, value in zip(self.questions, values.tolist(), strict=True)
            if value == 0 and question.id in self.answers
        )

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

    def _circles(self, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Of every circle whether all its turnings are right, and its group."""
        circles: dict[str, float] = {}
        groups: dict[str, str] = {}
        for question, value in zip(self.questions, values.tolist(), strict=True):
            name = question.circle or question.id
            circles[name] = min(circles.get(name, 1.0), value)
            groups.setdefault(name, question.group)
        return np.array(list(circles.values())), list(groups.values())


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
    """MMMU, MMBench: whether an answer is the right option; of an open question, the words of any right answer.

    In this order: an option's letter alone ("B", "(B).", "**B**"), the words of an option, the letter that the answer
    begins with ("B. green"), the letter that it names as its answer ("Answer: B", "答案是 B").

    The letter comes first, for options may be letters themselves; words are compared as written and then as ``plain``
    leaves them, unless nothing is left ("a" and "+" are nothing then).
    """
    wanted, said = question.answers[0].strip(), text.strip()
    if not question.options:
        return float(any(_same(said, answer) for answer in question.answers))
    right = _LETTERS.find(wanted) if len(wanted) == 1 else -1
    only = _ONLY_LETTER.fullmatch(said)
    if only is not None and _LETTERS.find(only.group(1)) < len(question.options):
        return float(only.group(1) == wanted)
    if said in (written := [option.strip() for option in question.options]):
        return float(0 <= right < len(written) and written[right] == said)
    if any(_same(said, option) for option in question.options):  # before its first letter, for words may begin with "A"
        return float(0 <= right < len(question.options) and _same(said, question.options[right]))
    match = _LETTER.match(said)
    if match is None:
        named = set(_SAID.findall(said))  # two letters are no answer
        return float(named == {wanted} and _LETTERS.find(wanted) < len(question.options))
    return float(match.group(1) == wanted)


def _same(one: str, other: str) -> bool:
    left = plain(one)
    return one.strip() == other.strip() or (left != "" and left == plain(other))


def plain(answer: str) -> str:
    """An answer as it is compared."""
    words = re.sub(r"[^\w\s.:/-]", "", answer.lower().replace("'", "")).strip(" .").split()
    return " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)


_JUDGES: Final[dict[str, Callable[[str, Question], float]]] = {"gqa": exact_match, "textvqa": agreement}


def _told(question: Question, given: Mapping[str, Any]) -> dict[str, Any]:
    """A wrong answer as a person reads it; of multiple choice the right letter with its words."""
    told: dict[str, Any] = {"question_id": question.id, "question": question.text}
    if question.box is not None:
        return {**told, "given": given.get("bbox", given.get("text")), "right": list(question.box)}
    right = ", ".join(dict.fromkeys(question.answers))
    if question.options:
        number = _LETTERS.find(right) if len(right) == 1 else -1
        told["options"] = list(question.options)
        right = f"{right}. {question.options[number]}" if 0 <= number < len(question.options) else right
    return {**told, "given": str(given.get("text", "")), "right": right}


def _picture(question: Question) -> Any:
    return str(question.image) if isinstance(question.image, Path) else question.id


def _numbers(names: Sequence[Any]) -> list[int]:
    known: dict[Any, int] = {}
    return [known.setdefault(name, len(known)) for name in names]

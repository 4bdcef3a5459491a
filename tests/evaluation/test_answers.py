"""Answers in words: choice by letter and by words, MMBench's circles, TextVQA's prompts, and what was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import answers as judging
from fgclip2.evaluation.answers import plain, right_option
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.readers.questions import TEXTVQA_PROMPTS
from fgclip2.evaluation.records import Question
from fgclip2.evaluation.runner import open_task
from fgclip2.evaluation.scores import Scores, Settings
from tests.evaluation.colours import ColourEncoder, write_lines
from tests.evaluation.miniatures import make

LETTERS = "ABCD"
ORDER = "Answer the question using a single word or phrase."


def asked(right: str, *options: str) -> Question:
    return Question("1", b"", "?", (right,), options=options)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", 1),
        ("B.", 1),
        ("(B)", 1),
        ("[B].", 1),
        ("**B**", 1),
        ("\uff08B\uff09", 1),
        ("(B) \u7eff\u8272", 1),
        ("B. \u7ea2\u8272", 1),  # the letter leads, and the words are no option as they stand
        ("b", 0),
        ("\u7eff\u8272", 1),
        ("\u7eff\u8272\u3002", 1),
        ("A", 0),
        ("C", 0),  # there is none
        ("Bananas", 0),
        ("", 0),
    ],
)
def test_options(text: str, right: int) -> None:
    assert right_option(text, asked("B", "\u7ea2\u8272", "\u7eff\u8272")) == right


@pytest.mark.parametrize(
    ("options", "wanted", "text", "right"),
    [
        (("B", "C", "A", "D"), "A", "A", 1),  # the options are letters themselves
        (("B", "C", "A", "D"), "C", "A", 0),
        (("B", "C", "A", "D"), "C", "C.", 1),
        (("-", "+"), "A", "A", 1),  # "A" is an article, and nothing is left of "+" either
        (("-", "+"), "B", "A", 0),
        (("-", "+"), "B", "+", 1),
        (("-", "+"), "A", "+", 0),
        (("-", "+"), "A", "the", 0),
        (("A cat", "a dog"), "A", "a cat", 1),
        (("A cat", "a dog"), "B", "A dog", 1),
        (("A cat", "a dog"), "A", "A dog", 0),
        (("a", "b"), "A", "a", 1),
        (("a", "b"), "B", "a", 0),
        (("red", "a red"), "B", "a red", 1),  # as written before as compared
        (("red", "a red"), "A", "a red", 0),
        (("2", "3"), "B", "three", 1),
        (("x", "y"), "AB", "x", 0),  # no letter is right
    ],
)
def test_letters_come_first_and_nothing_equals_nothing(
    options: tuple[str, ...], wanted: str, text: str, right: int
) -> None:
    assert right_option(text, asked(wanted, *options)) == right


@settings(max_examples=200, deadline=None)
@given(
    options=st.lists(st.text("ABCDabcd+-. ", min_size=1, max_size=4), min_size=2, max_size=4),
    wanted=st.integers(0, 3),
    said=st.integers(0, 3),
    dress=st.sampled_from(["{}", "({})", "{}.", " {}", "*{}*", "({}).", "{}\uff0c"]),
)
def test_a_letter_alone_is_judged_as_a_letter(options: list[str], wanted: int, said: int, dress: str) -> None:
    """Whatever the options say."""
    if max(wanted, said) < len(options):
        question = asked(LETTERS[wanted], *options)
        assert right_option(dress.format(LETTERS[said]), question) == float(said == wanted)


@settings(max_examples=100, deadline=None)
@given(options=st.lists(st.sampled_from(["red", "green", "blue", "one", "2"]), min_size=2, unique=True), data=st.data())
def test_the_words_of_an_option_are_that_option(options: list[str], data: st.DataObject) -> None:
    wanted, said = (data.draw(st.integers(0, len(options) - 1)) for _ in range(2))
    text = data.draw(st.sampled_from(["{}", "The {}", "{}.", " {} "])).format(options[said])
    assert right_option(text, asked("ABCDE"[wanted], *options)) == float(said == wanted)


def test_open_questions() -> None:
    question = Question("1", b"", "How many?", ("3", "three"))
    assert right_option("Three.", question) == 1
    assert right_option("four", question) == 0
    sign = Question("1", b"", "Which sign?", ("+",))
    assert plain("+") == plain("a") == ""
    assert [right_option(text, sign) for text in ("+", "a", "", "!")] == [1, 0, 0, 0]


def judged(name: str, folder: Path, **given: Any) -> Scores:
    root, predictions = make(name, folder)
    if given:
        lines = [json.dumps({"question_id": key, **value}, ensure_ascii=False) for key, value in given.items()]
        write_lines(predictions / f"{name}.jsonl", lines)
    settings = Settings(samples=10, predictions=predictions)
    return open_task(BENCHMARKS[name], root, settings).score(ColourEncoder())  # type: ignore[arg-type]


def test_groups_of_mmbench_count_circles_as_the_figure_does(tmp_path: Path) -> None:
    """Question 0 is right in both turnings, question 1 in one of two: whole groups, 100 and 0, never 50."""
    scores = judged("mmbench", tmp_path)
    assert scores.breakdown == {"group": {"colour": 100.0, "count": 0.0}}
    assert (scores.metrics["dev"].value, scores.metrics["dev"].count) == (50.0, 2)


def test_wrong_answers_stand_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = judged("mmbench", tmp_path)
    assert scores.plain()["wrong"] == [
        {"question_id": "1000001", "question": "\u51e0\u4e2a\uff1f", "options": ["\u4e09", "\u4e00", "\u4e8c"],
         "given": "\u4e8c", "right": "A. \u4e09"}
    ]  # fmt: skip
    scores = judged("gqa", tmp_path)  # and one without an answer, which is among the failures
    assert scores.plain()["wrong"] == [{"question_id": "202", "question": "Is it red?", "given": "no", "right": "yes"}]
    assert scores.facts["wrong"] == 1
    scores = judged("refcoco", tmp_path)
    assert [item["given"] for item in scores.wrong] == [[10, 0, 30, 20], "left"]
    assert scores.wrong[0]["right"] == [0, 0, 20, 20]
    monkeypatch.setattr(judging, "_SHOWN", 1)
    scores = judged("refcoco", tmp_path)
    assert (len(scores.wrong), scores.facts["wrong"]) == (1, 2)
    assert "wrong" not in Scores({}).plain()


PROMPT = f"What does it say?\nReference OCR token: STOP, GO\n{ORDER}"


def prompts(root: Path, *texts: str) -> None:
    """As LLaVA publishes them: a question's id there is its picture's."""
    lines = [{"question_id": "t1", "image": "t1.jpg", "text": text, "category": "default"} for text in texts]
    write_lines(root / TEXTVQA_PROMPTS, [json.dumps(line) for line in lines])


def test_textvqa_is_asked_with_ocr_tokens_where_they_are(tmp_path: Path) -> None:
    root, _ = make("textvqa", tmp_path)
    read = BENCHMARKS["textvqa"].read
    assert [question.text for question in read(root)] == ["What does it say?"] * 2
    for text, wanted in (
        (PROMPT, "What does it say?\nReference OCR token: STOP, GO"),
        (PROMPT.replace("What does", "what DOES"), "what DOES it say?\nReference OCR token: STOP, GO"),
        (f"Reference OCR token: STOP\nWhat does it say?\n{ORDER}", "Reference OCR token: STOP\nWhat does it say?"),
        (f"What does it say?\n{ORDER}", "What does it say?"),
    ):
        prompts(root, text)
        assert [question.text for question in read(root)] == [wanted] * 2
    prompts(root, PROMPT.replace("What", "Who"))
    with pytest.raises(Fgclip2Error, match="has no prompt of picture t1 for 'What does it say\\?'; fetch it again, or"):
        list(read(root))
    prompts(root, f"Reference OCR token: STOP\n{ORDER}")
    with pytest.raises(Fgclip2Error, match="line 1: .* has no one line that is the question"):
        list(read(root))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((PROMPT, PROMPT), "with OCR tokens"),
        ((PROMPT, f"What does it say?\n{ORDER}"), "with OCR tokens in 1 of 2"),
        ((ORDER, ORDER), "without OCR tokens"),
        ((PROMPT, None), "not told by every answer"),
        ((None, None), "not told by every answer"),
    ],
)
def test_textvqa_is_compared_when_all_answers_had_ocr_tokens(
    asked: tuple[str | None, ...], told: str, tmp_path: Path
) -> None:
    given = {
        str(number): {"text": "stop"} | ({} if prompt is None else {"prompt": prompt})
        for number, prompt in enumerate(asked, 1)
    }
    scores = judged("textvqa", tmp_path, **given)
    assert scores.facts["prompt"] == told
    assert scores.comparable is (told == "with OCR tokens")
    assert ("LLaVA-1.5's OCR tokens" in scores.reason) is not scores.comparable
    assert judged("gqa", tmp_path).comparable


def test_a_picture_without_words_has_llavas_prompt_without_tokens(tmp_path: Path) -> None:
    root, predictions = make("textvqa", tmp_path)
    file = root / "textvqa/TextVQA_0.5.1_val.json"
    content = json.loads(file.read_text())
    content["data"][1]["question"] = "is there a word?"
    file.write_text(json.dumps(content))
    bare = f"Is there a word?\n{ORDER}"
    given = [{"question_id": 1, "text": "stop", "prompt": PROMPT}, {"question_id": 2, "text": "no", "prompt": bare}]
    write_lines(predictions / "textvqa.jsonl", [json.dumps(line) for line in given])

    def told() -> str:
        task = open_task(BENCHMARKS["textvqa"], root, Settings(samples=10, predictions=predictions))
        return str(task.score(ColourEncoder()).facts["prompt"])  # type: ignore[arg-type]

    assert told() == "with OCR tokens in 1 of 2"
    prompts(root, PROMPT, bare)
    assert told() == "with OCR tokens"

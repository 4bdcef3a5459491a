"""What a LLaVA is asked in TextVQA, and that its answers say so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.runner import open_task
from fgclip2.evaluation.scores import Settings
from fgclip2_llava.answering import Answerer, answer
from tests.evaluation.colours import ColourEncoder, write_lines
from tests.evaluation.miniatures import make

ORDER = "Answer the question using a single word or phrase."


class Parrot(Answerer):
    """Says "stop", and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(dtype="float32"), None)  # type: ignore[arg-type]
        self.asked: list[str] = []

    def texts(self, asked: Any) -> list[str]:
        self.asked += [text for _, text in asked]
        return ["stop"] * len(asked)


def test_textvqa_with_and_without_ocr_tokens(tmp_path: Path) -> None:
    root, _ = make("textvqa", tmp_path)
    out, source, benchmark = tmp_path / "out", tmp_path / "model", BENCHMARKS["textvqa"]
    source.mkdir()

    def told(parrot: Parrot) -> tuple[list[str], list[str], str]:
        done = answer(benchmark, root, out, parrot, source)
        lines = [json.loads(line) for line in done.file.read_text(encoding="utf-8").splitlines()]
        scores = open_task(benchmark, root, Settings(samples=10, predictions=out)).score(ColourEncoder())  # type: ignore[arg-type]
        assert scores.comparable is (scores.facts["prompt"] == "with OCR tokens")
        return parrot.asked, [line["prompt"] for line in lines], scores.facts["prompt"]

    plain = f"What does it say?\n{ORDER}"
    assert told(Parrot()) == ([f"<image>\n{plain}"] * 2, [plain] * 2, "without OCR tokens")
    with_tokens = f"What does it say?\nReference OCR token: STOP\n{ORDER}"
    line = {"question_id": "t1", "image": "t1.jpg", "text": with_tokens, "category": "default"}
    write_lines(root / "textvqa/llava_textvqa_val_v051_ocr.jsonl", [json.dumps(line)])
    # The prompts are part of what is asked, so nothing of the first time is taken; the second time all is.
    assert told(Parrot()) == ([f"<image>\n{with_tokens}"] * 2, [with_tokens] * 2, "with OCR tokens")
    assert told(Parrot()) == ([], [with_tokens] * 2, "with OCR tokens")


def test_other_sets_have_one_prompt_and_do_not_say_it(tmp_path: Path) -> None:
    root, _ = make("gqa", tmp_path)
    (tmp_path / "model").mkdir()
    done = answer(BENCHMARKS["gqa"], root, tmp_path / "out", Parrot(), tmp_path / "model")
    assert all(set(json.loads(line)) == {"question_id", "text"} for line in done.file.read_text().splitlines())

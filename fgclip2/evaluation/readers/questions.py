"""Questions about pictures, for FG-CLIP 2 as the vision tower of a model that answers in words."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import entry, numbers, objects, read_json_lines, read_object, text
from fgclip2.evaluation.records import Question
from fgclip2.extras import extras

REFCOCO_SPLITS: Final = ("val", "testA", "testB")
TEXTVQA_PROMPTS: Final = "textvqa/llava_textvqa_val_v051_ocr.jsonl"
OCR_TOKENS: Final = "Reference OCR token:"
"""How the line of LLaVA-1.5's TextVQA prompts begins that names the words in the picture."""

_SHORT_ANSWER: Final = "Answer the question using a single word or phrase."
_REFERENCE: Final = 12  # digits of a row's index at most
_COPIES: Final = 1_000_000  # MMBench numbers the copies of question n, with their options turned: n + k * 1,000,000


def gqa(root: Path) -> Iterator[Question]:
    """GQA, testdev balanced."""
    file = root / "gqa/testdev_balanced_questions.json"
    for number, item in read_object(file).items():
        item = entry(item, f"{file}, question {number}", "imageId", "question", "answer")
        yield Question(
            number,
            root / f"gqa/images/{item['imageId']}.jpg",
            text(item["question"], number),
            (text(item["answer"], number),),
        )


def textvqa(root: Path) -> Iterator[Question]:
    """TextVQA, validation, ten answers a question; asked as LLaVA-1.5 asks, with the picture's OCR tokens, where its
    file of prompts is there.

    Raises:
        Fgclip2Error: a file is damaged, or the prompts lack a question.
    """
    file, prompts = root / "textvqa/TextVQA_0.5.1_val.json", root / TEXTVQA_PROMPTS
    asked = _prompts(prompts) if prompts.exists() else None
    for item in objects(read_object(file, "data"), "data", file):
        item = entry(item, str(file), "question_id", "image_id", "question", "answers")
        said = text(item["question"], f"{file}, question {item['question_id']}")
        if asked is not None:
            key = str(item["image_id"]), said.lower()
            if key not in asked:
                raise Fgclip2Error(
                    f"{prompts} has no prompt of picture {item['image_id']} for {said!r:.60}; fetch it again, or take "
                    "it away to ask without OCR tokens"
                )
            said = asked[key]
        image = root / f"textvqa/train_images/{item['image_id']}.jpg"
        yield Question(str(item["question_id"]), image, said, tuple(map(str, objects(item, "answers", file))))


def _prompts(file: Path) -> dict[tuple[str, str], str]:
    """LLaVA-1.5's prompts without their last line, the order to answer, by picture and question in lower case.

    The question is the line that is neither that order nor the OCR tokens, wherever these stand.
    """
    found = {}
    for number, item in read_json_lines(file, "image", "text"):
        lines = [line for line in text(item["text"], f"{file}, line {number}").split("\n") if line != _SHORT_ANSWER]
        questions = [line for line in lines if not line.startswith(OCR_TOKENS)]
        if len(questions) != 1:
            raise Fgclip2Error(f"{file}, line {number}: {item['text']!r:.60} has no one line that is the question")
        found[Path(str(item["image"])).stem, questions[0].strip().lower()] = "\n".join(lines)
    return found


def refcoco(root: Path) -> Iterator[Question]:
    """RefCOCO val, testA and testB, as JSON lines; ids are ``SPLIT/LINE``, lines counted from 1."""
    for split in REFCOCO_SPLITS:
        file = root / f"refcoco/refcoco_{split}.jsonl"
        for number, item in read_json_lines(file, "image", "sent", "bbox"):
            where = f"{file}, line {number}"
            x1, y1, x2, y2 = numbers(item["bbox"], 4, f"{where}, bbox (x1, y1, x2, y2)")
            image = root / "coco/train2014" / Path(text(item["image"], where)).name
            yield Question(f"{split}/{number}", image, text(item["sent"], where), group=split, box=(x1, y1, x2, y2))


def mmmu(root: Path) -> Iterator[Question]:
    """MMMU, validation: a folder a subject with Parquet files; of several pictures the first is given."""
    files = sorted((root / "MMMU").glob("*/validation-*.parquet"))
    if not files:
        raise Fgclip2Error(f"{root / 'MMMU'} has no SUBJECT/validation-*.parquet; see fgclip2 eval --check mmmu ROOT")
    for file in files:
        for row in _parquet(file):
            row = entry(row, str(file), "id", "question", "options", "answer", "image_1")
            options = _options(row["options"], f"{file}, {row['id']}")
            answers = _alternatives(str(row["answer"]))
            image = (row["image_1"] or {}).get("bytes") or b""
            yield Question(str(row["id"]), image, row["question"], answers, file.parent.name, options)


def mmbench(root: Path) -> Iterator[Question]:
    """MMBench dev, English."""
    yield from _mmbench(root / "mmbench/mmbench_dev_20230712.tsv")


def mmbench_cn(root: Path) -> Iterator[Question]:
    """MMBench dev, Chinese."""
    yield from _mmbench(root / "mmbench/mmbench_dev_cn_20231003.tsv")


def _mmbench(file: Path) -> Iterator[Question]:
    """A picture may stand for several rows: the others have the index of the row that holds it."""
    wanted = {row["image"].strip() for _, row in _mmbench_rows(file) if _is_reference(row["image"])}
    images = {row["index"].strip(): row["image"] for _, row in _mmbench_rows(file) if row["index"].strip() in wanted}
    for where, row in _mmbench_rows(file):
        image = row["image"]
        seen = {row["index"].strip()}
        while _is_reference(image):
            key = image.strip()
            if key in seen or key not in images:
                raise Fgclip2Error(f"{where}: its picture is that of row {key}, which has none; fetch the file again")
            seen.add(key)
            image = images[key]
        yield _mmbench_question(row, image, where)


def _is_reference(image: str) -> bool:
    """Whether a picture is the index of another row: no picture has so few bytes."""
    return image.strip().isdecimal() and len(image.strip()) <= _REFERENCE


def _mmbench_rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # pictures are fields
    keys = ("index", "question", "answer", "image", "A", "B")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream, delimiter="\t"), start=2):
                where = f"{file}, row {number}"
                row = entry(row, where, *keys)
                lacking = next((key for key in keys if row[key] is None), None)
                if lacking is not None or None in row:
                    what = f"it ends before {lacking}" if lacking else "it has more fields than the file has columns"
                    raise Fgclip2Error(f"{where}: {what}; fetch the file again")
                yield where, row
    except FileNotFoundError as error:
        raise Fgclip2Error(f"{file} does not exist; fgclip2 eval --check NAME ROOT says what to download") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Fgclip2Error(f"{file} cannot be read as a TSV of MMBench ({error}); fetch it again") from error


def _mmbench_question(row: dict[str, str], encoded: str, where: str) -> Question:
    try:
        image, index = base64.b64decode(encoded, validate=True), int(row["index"])
    except (binascii.Error, ValueError) as error:
        raise Fgclip2Error(f"{where}: its picture or index is damaged ({error}); fetch the file again") from error
    options = tuple(row[letter] for letter in "ABCD" if row.get(letter))
    asked = f"{row['hint']}\n{row['question']}" if row.get("hint") else row["question"]
    circle = str(index % _COPIES)
    return Question(
        str(index), image, asked, (text(row["answer"], where),), row.get("category") or "", options, circle=circle
    )


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    with extras():
        import pyarrow
        import pyarrow.parquet
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=16, use_threads=False):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise Fgclip2Error(f"{file} cannot be read as Parquet ({error}); fetch it again") from error


def _options(value: Any, where: str) -> tuple[str, ...]:
    """MMMU writes options as the text of a Python list."""
    try:
        listed = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError) as error:
        raise Fgclip2Error(f"{where}: options {value!r:.60} are no list") from error
    if not isinstance(listed, list):
        raise Fgclip2Error(f"{where}: options {value!r:.60} are no list")
    return tuple(map(str, listed))


def _alternatives(answer: str) -> tuple[str, ...]:
    """An open question's answer may be written as the text of a list."""
    if answer.startswith("["):
        try:
            return tuple(map(str, ast.literal_eval(answer)))
        except (ValueError, SyntaxError):
            return (answer,)
    return (answer,)

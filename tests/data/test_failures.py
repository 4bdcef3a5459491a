"""Failures are named in a file and stop a run when there are too many."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from fgclip2.data.failures import Failure, FailureLog
from fgclip2.errors import Fgclip2Error


def test_failures_are_appended_as_json_lines(tmp_path):
    log = FailureLog(tmp_path / "run" / "failures.jsonl")
    log.add([], 8)
    assert not log.path.exists()
    log.add([Failure("a.json#1", "empty"), Failure("乙.json#2", "框 0 反了", "zh")], 8)
    FailureLog(log.path).add([Failure("a.json#3", "cut")], 1)
    lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]
    assert [line["name"] for line in lines] == ["a.json#1", "乙.json#2", "a.json#3"]
    assert lines[1] == {"name": "乙.json#2", "reason": "框 0 反了", "language": "zh"}
    assert "反了" in log.path.read_text(encoding="utf-8")
    assert (log.seen, log.failed) == (16, 2)


def test_too_many_failures_stop_the_run_when_the_limit_cannot_be_kept(tmp_path):
    """In a short run too: before its last step, when nothing may be saved yet."""
    log = FailureLog(tmp_path / "failures.jsonl", limit=0.1, after=100)
    log.add([Failure("x#0", "bad")] * 10, 10)  # ten of a hundred may be
    with pytest.raises(Fgclip2Error, match=r"11 of 20 samples are unusable.*10\.00%; the last was y#1: worse"):
        log.add([Failure("y#1", "worse")], 10)
    log = FailureLog(tmp_path / "failures.jsonl", limit=0.1, after=100)
    log.add([], 990)
    log.add([Failure("x#0", "bad")] * 100, 100)  # a burst in a long run: the rate counts
    with pytest.raises(Fgclip2Error, match="110 of 1,099"):
        log.add([Failure("x#0", "bad")] * 10, 9)


def test_parts_are_named_once_and_are_no_failures(tmp_path):
    log = FailureLog(tmp_path / "failures.jsonl", limit=0.0, after=10)
    parts = [Failure("a#0", "left out: box 0 is reversed"), Failure("a#0", "left out: caption is empty")]
    for _ in range(3):  # every epoch again
        log.add([], 4, parts)
    assert (log.failed, log.parts, log.seen) == (0, 2, 12)
    lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]
    assert [(line["name"], line["reason"]) for line in lines] == [(part.name, part.reason) for part in parts]


def test_a_rate_at_the_limit_passes(tmp_path):
    log = FailureLog(tmp_path / "failures.jsonl", limit=0.1, after=10)
    log.add([Failure("x#0", "bad")], 10)
    with pytest.raises(Fgclip2Error, match="give a share from 0 to 1"):
        FailureLog(tmp_path / "failures.jsonl", limit=2)


def _write(path, number):
    log = FailureLog(path, limit=1)
    for k in range(50):
        log.add([Failure(f"{number}#{k}", "x" * 500)] * 2, 2)


def test_several_processes_append_whole_lines(tmp_path):
    path = tmp_path / "failures.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 300
    assert {line["name"] for line in lines} == {f"{number}#{k}" for number in range(3) for k in range(50)}

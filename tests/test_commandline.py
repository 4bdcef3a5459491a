"""Options given twice, settings that do not exist, words that are no text: nothing is lost in silence."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fgclip2.cli import main
from fgclip2.commandline import check_overrides, parse
from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.arguments import EvalArguments
from fgclip2.search.commands import IndexArguments, SearchArguments
from fgclip2.train.arguments import TrainArguments

ROOT = Path(__file__).parents[1]
APPS = ("build_benchmark", "llava_answer", "llava_train", "ovd_boxes", "ovd_detect", "ovd_report", "ovd_train",
        "seg_predict", "seg_train", "train_tiny")  # fmt: skip


def forms() -> list[Any]:
    from fgclip2 import cli

    apps = [importlib.import_module(f"apps.{name}").Arguments for name in APPS]
    commands = [cli.Info, cli.Embed, cli.Dense, cli.MakeVocabulary, cli.Export]
    return [*apps, *commands, EvalArguments, IndexArguments, SearchArguments, TrainArguments]


def test_an_option_of_several_values_keeps_them_all() -> None:
    words = ["S", "dog", "--where", "label = cat", "--top", "3", "--where", "stars >= 4", "x = 1"]
    words += ["--minus=a", "--minus", "b c"]
    found = parse(SearchArguments, words)
    assert found.where == ("label = cat", "stars >= 4", "x = 1")
    assert found.minus == ("a", "b c")
    assert (found.texts, found.top) == (("dog",), 3)
    once = ["S", "狗", "--where", "label = 猫", "stars >= 4"]
    assert parse(SearchArguments, once).where == ("label = 猫", "stars >= 4")


@pytest.mark.parametrize("form", forms(), ids=lambda form: f"{form.__module__}.{form.__name__}")
def test_every_option_of_every_program_counts_twice_or_says_which_does(
    form: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Walks the options as tyro makes them, so that a new one is covered too."""
    from fgclip2.commandline import _argument_parser, _joined

    parser = _argument_parser(form, None)
    for action in parser._actions:
        for flag in action.option_strings:
            if not flag.startswith("--") or flag == "--help":
                continue
            words = [flag, "1", "--other", flag, "2"]
            if action.nargs in ("*", "+"):
                assert _joined(words, parser) == [flag, "1", "2", "--other"], flag
            else:
                assert _joined(words, parser) == ["--other", flag, "2"], flag
                assert capsys.readouterr().err == f"note: {flag} is given more than once; the last counts\n"


def test_a_fixed_number_of_values_is_not_doubled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(SearchArguments, ["S", "--box", "1", "2", "3", "4", "--box", "5", "6", "7", "8"])
    assert caught.value.code == 2
    capsys.readouterr()


def test_of_an_option_of_one_value_the_last_counts_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = parse(SearchArguments, ["S", "dog", "--top", "3", "--where", "a = 1", "--top=4"])
    assert (found.top, found.where) == (4, ("a = 1",))
    assert capsys.readouterr().err == "note: --top is given more than once; the last counts\n"


def test_a_word_that_is_no_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "S", "\udce4.jpg"]) == 2
    printed = capsys.readouterr().err
    assert "is no UTF-8 text" in printed
    assert printed.count("\n") == 1


SETTINGS = {
    "train": {"iterations": 10, "seed": 0, "amp": None},
    "data": {"batch_size": 4, "list": [{"a": 1}]},
    "model": {"type": "A", "max_epochs": 3, "test_cfg": {"score_thr": 0.1}},
    "head": {"_target_": "make", "detector": {"strides": [8, 16]}},
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["train.iteration=1"], "no setting train.iteration; did you mean train.iterations?"),
        (["data.batchsize=64"], "no setting data.batchsize; did you mean data.batch_size?"),
        (["batch_size=64"], "no setting batch_size; did you mean data.batch_size?"),
        (["model.max_epoch=1"], "no setting model.max_epoch; did you mean model.max_epochs?"),
        (["zzz=1"], "no setting zzz; its parts are train, data, model, head"),
        (["model.test_cfg.top=1"], "no setting model.test_cfg.top"),  # which is read by `get`
        (["head.detector.stride=1"], "no setting head.detector.stride; did you mean head.detector.strides?"),
        (["data.list.3.a=1"], "no setting data.list.3.a"),
    ],
)
def test_settings_that_are_none(given: list[str], told: str) -> None:
    with pytest.raises(Fgclip2Error, match=re.escape(told)):
        check_overrides(given, SETTINGS)


def test_a_setting_given_twice_is_told(caplog: pytest.LogCaptureFixture) -> None:
    check_overrides(["train.seed=1", "train.seed=2"], SETTINGS)
    assert "the setting train.seed is given twice ('train.seed=1' and 'train.seed=2'); the last counts" in caplog.text


def test_settings_that_are_there() -> None:
    check_overrides(["train.seed=1", "data.list.0.a=2", "model.depth=3", "train.amp.level=1"], SETTINGS)
    check_overrides(["head.detector.most=300", "head.detector.strides.0=4"], SETTINGS)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (("apps/seg_train.py", "train.iteration=1", "data.batchsize=64"), "no setting train.iteration; did you mean"),
        (("apps/ovd_train.py", "--cfg-options", "train_cfg.max_epoch=1"), "did you mean train_cfg.max_epochs?"),
    ],
)
def test_programs_refuse_unknown_settings(program: tuple[str, ...], told: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'adapters'}"}
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "x.bin"), "error: the disk is full (x.bin); what was written whole"),
        (OSError(30, "Read-only file system"), "error: the disk can only be read; what"),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "error: the disk is full;"),
    ],
)
def test_a_full_disk_is_one_line(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise error

    assert exit_code(run) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(told)
    assert printed.count("\n") == 1


def test_other_errors_stay_errors() -> None:
    def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code(run)


def python(code: str, **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def test_a_console_that_cannot_encode_shows_codes() -> None:
    code = "import sys; from fgclip2.console import exit_code; sys.exit(exit_code(lambda: print('猫.jpg')))"
    child = python(code, PYTHONIOENCODING="ascii")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, "\\u732b.jpg\n", "")


def test_ctrl_c_is_one_line_and_130() -> None:
    # A shell's background job ignores the signal, and so would its children.
    code = "import signal, sys, time; from fgclip2.console import exit_code; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "sys.exit(exit_code(lambda: (print('on', flush=True), time.sleep(60)), 'stopped; goes on'))"
    child = python(code)
    assert child.stdout is not None
    assert child.stdout.readline() == "on\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "\nstopped; goes on\n")


def test_a_pipe_gets_each_line_when_it_is_said() -> None:
    """Or hours of training look like a program that hangs."""
    code = "import sys, time; from fgclip2.console import exit_code; "
    code += "sys.exit(exit_code(lambda: (print('step 1'), time.sleep(60))))"
    child = python(code)
    assert child.stdout is not None
    assert child.stdout.readline() == "step 1\n"
    assert child.poll() is None  # it goes on, and has said so already
    child.kill()
    child.communicate(timeout=60)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys; from fgclip2.console import exit_code; "
    code += "sys.exit(exit_code(lambda: [print('x' * 1000) for _ in range(10_000)]))"
    child = python(code)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    assert child.wait(60) == 141


def test_full_output_is_one_line() -> None:
    code = "import sys; from fgclip2.console import exit_code; sys.exit(exit_code(lambda: print('x' * 100_000)))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)  # fmt: skip
    assert done.stderr.splitlines()[0].startswith("error: the disk is full")
    assert "Traceback" not in done.stderr

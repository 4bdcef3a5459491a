"""How programs end."""

from __future__ import annotations

import pytest

from fgclip2.console import RESUMABLE, exit_code
from fgclip2.errors import Fgclip2Error


def raising(error: BaseException) -> None:
    raise error


def test_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: None) == 0
    assert capsys.readouterr().err == ""
    assert exit_code(lambda: raising(Fgclip2Error("没有类别; give one"))) == 2
    assert capsys.readouterr().err == "error: 没有类别; give one\n"
    lines = ("Caught Fgclip2Error in process 0.", "Traceback ...", "fgclip2.errors.Fgclip2Error: a.png is torn", "")
    assert exit_code(lambda: raising(Fgclip2Error("\n".join(lines)))) == 2
    assert capsys.readouterr().err == "error: a.png is torn\n"
    assert exit_code(lambda: raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nstopped\n"
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0, RESUMABLE)


@pytest.mark.parametrize("name", ["ovd_train", "seg_train"])
def test_trainings_say_the_same_when_they_are_stopped(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = __import__(f"apps.{name}", fromlist=["main"])
    monkeypatch.setattr(program, "run", lambda arguments: raising(KeyboardInterrupt()))
    assert program.main([]) == 130
    assert capsys.readouterr().err == f"\n{RESUMABLE}\n"

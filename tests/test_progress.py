"""Bars on terminals, lines in logs and pipes."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
import termios
import time

import pytest

from fgclip2 import progress as module
from fgclip2.progress import progress


def test_a_log_gets_whole_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(module, "_FIRST", 0.0)
    monkeypatch.setattr(module, "_EVERY", 0.05)
    for _ in progress(range(30), desc="图片", unit="picture"):
        time.sleep(0.01)
    text = log.getvalue()
    assert "\r" not in text
    assert text.endswith("\n")
    lines = text.splitlines()
    assert 3 <= len(lines) <= 12
    assert len(set(lines)) == len(lines)
    assert [line for line in lines if not line.startswith("图片: ") or "/30 pictures in 00:0" not in line] == []
    assert lines[-1].startswith("图片: 30/30 pictures in 00:00, 00:00 left, ")


def test_quick_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=5) as bar:
        for _ in range(5):
            bar.update()
    assert list(progress([], unit="frame")) == []
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    code = "from fgclip2.progress import progress\nfor _ in progress(range(3), unit='frame'): pass"
    done = subprocess.run([sys.executable, "-c", code], stderr=theirs, check=False, timeout=60)
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError):  # the end of a terminal, for Linux
        while more := os.read(ours, 65536).decode():
            shown += more
    os.close(ours)
    assert done.returncode == 0
    assert "\r" in shown
    assert "3/3" in shown

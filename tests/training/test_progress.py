from __future__ import annotations

import io
import re

import pytest

from align.training.progress import in_words, progress

LINE = {"epoch": 0.5, "loss": 0.693147, "grad_norm": 2.13, "examples_per_second": 210.4, "time": 9.0}
LINE |= {"mfu": 0.5513, "tokens_per_second": 9e4}


def test_elsewhere_than_on_a_terminal_ten_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("dpo", 200, 0) as show:
        for step in range(1, 201):
            show(step, LINE)
    printed = capsys.readouterr()
    assert printed.out == ""
    told = printed.err.splitlines()
    assert [int(re.findall(r"step (\d+)/200", line)[0]) for line in told] == list(range(20, 201, 20))
    assert told[0].startswith("[dpo] step 20/200  loss 0.6931  grad 2.13  ex/s 210.4  mfu 0.5513  eta 0:00:0")
    assert told[-1].endswith("eta 0:00:00")


def test_a_resumed_run_goes_on_counting(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sft", 10, 8) as show:
        show(9, {})
        show(10, LINE)
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "[sft] step 9/10",
        "[sft] step 10/10",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("dpo", 4, 1) as show:
        show(4, LINE)
    assert "4/4" in terminal.getvalue()
    assert "loss 0.6931" in terminal.getvalue()


def test_only_what_a_person_reads_is_shown() -> None:
    assert in_words({**LINE, "validation": 0.7}) == "loss 0.6931  grad 2.13  ex/s 210.4  mfu 0.5513  val 0.7"
    assert in_words({}) == ""

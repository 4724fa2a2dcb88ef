from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import CheckpointError
from align.report.files import read_metrics
from align.tracking.metrics import MetricsFile

L1, L2, L3 = (f'{{"step": {step}, "loss": 0.5}}\n' for step in (1, 2, 3))


def resumed(path: Path, content: str, after_step: int) -> str:
    """What the file holds after it was opened to go on from a step."""
    path.write_text(content)
    with MetricsFile(path, after_step=after_step):
        pass
    return path.read_text()


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path) as metrics:
        metrics.write(1, {"loss": 0.1 + 0.2})
        assert path.read_text() == '{"step": 1, "loss": 0.30000000000000004}\n'
        metrics.write(2, {"loss": 1e-12, "epoch": 2.0})
        metrics.sync()
    assert list(read_metrics(path)) == [
        {"step": 1, "loss": 0.1 + 0.2},
        {"step": 2, "loss": 1e-12, "epoch": 2.0},
    ]


def test_lines_past_the_resumed_step_are_cut(tmp_path: Path) -> None:
    assert resumed(tmp_path / "m", L1 + L2 + L3, 2) == L1 + L2
    assert resumed(tmp_path / "m", L1 + L2 + L3, 3) == L1 + L2 + L3
    assert resumed(tmp_path / "m", L1 + L2 + L3, 0) == ""


def test_the_file_is_not_touched_where_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(L1 + L2)
    inode = path.stat().st_ino
    with MetricsFile(path, after_step=2):
        pass
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("length", range(len(L2)))
def test_a_last_line_cut_by_a_kill_is_repaired(tmp_path: Path, length: int) -> None:
    """At every length; step 2 was past the checkpoint of step 1 anyway."""
    assert resumed(tmp_path / "m", L1 + L2[:length], 1) == L1


def test_zeros_that_a_power_cut_leaves_at_the_end_are_cut(tmp_path: Path) -> None:
    assert resumed(tmp_path / "m", L1 + L2 + "\0" * 50, 2) == L1 + L2


def test_a_damaged_line_before_one_that_counts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"m:1 is damaged, and lines after it belong to the steps up to 2"
    ):
        resumed(tmp_path / "m", L1[:9] + "\n" + L2, 2)


def test_a_line_still_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(L1 + L2[:5])
    assert [line["step"] for line in read_metrics(path)] == [1]


def test_a_nan_is_no_number(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "m") as metrics, pytest.raises(ValueError, match="not JSON compliant"):
        metrics.write(1, {"loss": float("nan")})

"""Where marks stand: places on axes worked out by hand from the sizes of the figures."""

from __future__ import annotations

import pytest

from align.annotate import plots
from align.annotate.report import Matrix
from align.types import Result


def test_forest_places_values_on_its_axis() -> None:
    """The axis runs from 104 to 440 - 92 = 348: a half is at 226; what lies outside is cut."""
    found = plots.forest(
        [
            ("all", Result("m", 0.5, 9, 0.25, 1.2, "wilson")),
            ("one", Result("m", -0.004, 1, None, None, "exact")),
        ],
        low=0.0,
        high=1.0,
        reference=0.5,
    )
    first, second = found.marks
    assert (first.low, first.x, first.high, found.reference) == (165, 226, 348, 226)
    assert (second.x, second.low, second.high) == (104, None, None)
    assert second.y - first.y == 22
    assert (first.note, second.note) == ("0.50 [0.25, 1.20]", "0.00")
    assert [(tick.at, tick.label) for tick in found.ticks][:2] == [(104, "0"), (152.8, "0.2")]


def test_curve_ends_at_the_last_vote() -> None:
    """Three votes of four wanted over two hours: the line ends three quarters up, at the right edge."""
    stamps = ["2026-01-05T10:00:00.000Z", "2026-01-05T11:00:00.000Z", "2026-01-05T12:00:00.000Z"]
    found = plots.curve(stamps, wanted=4)
    assert found is not None
    assert found.points.split()[0] == "44.0,152.0"  # the first vote is there at once: 196 - 176/4
    assert found.points.split()[-1] == "426.0,64.0"  # 196 - 176 * 3/4
    assert found.target == 20
    assert [tick.label for tick in found.x_ticks] == ["10:00", "10:30", "11:00", "11:30", "12:00"]
    assert [tick.label for tick in found.y_ticks] == ["0", "1", "2", "3", "4"]
    assert plots.curve([], wanted=4) is None


@pytest.mark.parametrize("minutes", [0, 1, 60, 60 * 24 * 9, 60 * 24 * 4000])
def test_any_stretch_of_time_has_a_few_ticks(minutes: int) -> None:
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 1, 5, 10, tzinfo=UTC)
    stamps = [start.isoformat(), (start + timedelta(minutes=minutes)).isoformat()]
    found = plots.curve(stamps, wanted=0)
    assert found is not None
    assert 1 <= len(found.x_ticks) <= 12
    assert found.target is None


def test_histogram_counts_every_time() -> None:
    """1, 1, 2 and 64 s: from 2^0 to 2^6, four bins a doubling, so 24 of 382/24 = 15.9 pixels each."""
    found = plots.histogram([1.0, 1.0, 2.0, 64.0])
    assert found is not None
    assert [bar.height for bar in found.bars] == [176, 88, 88]
    assert [bar.x for bar in found.bars] == pytest.approx(
        [44.5, 44.5 + 4 * 382 / 24, 44.5 + 23 * 382 / 24], abs=0.11
    )
    assert found.bars[0].label == "1 to 1.19 s: 2"
    assert found.median == pytest.approx(44 + 382 * 0.5 / 6, abs=0.1)  # between 2^0 and 2^1
    assert plots.histogram([]) is None
    assert plots.histogram([3.0]) is not None
    assert plots.histogram([0.0]) is not None


def test_heat_map_has_a_cell_for_each_two_who_met() -> None:
    found = plots.heat(Matrix(("ann", "ben", "cat"), {(0, 1): (1, 4), (1, 0): (1, 4)}, 0))
    assert found is not None
    assert [(cell.text, cell.share, cell.label) for cell in found.cells] == [
        ("25", 0.25, "ann and ben: 1 of 4 equal"),
        ("25", 0.25, "ben and ann: 1 of 4 equal"),
    ]
    assert (found.cells[0].x, found.cells[0].y) == (104 + 34, 62)
    assert [row.label for row in found.rows] == ["ann", "ben", "cat"]
    assert plots.heat(Matrix(("ann",), {}, 0)) is None

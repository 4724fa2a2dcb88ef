"""AlpacaEval (Li et al. 2023): the win rate that a file of published annotations comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.protocols import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.types import Result

__all__ = ["AlpacaEval"]


@dataclass(frozen=True)
class AlpacaEval:
    """``annotations.json``: a judge's preference between a baseline's output and a model's, nothing is run.

    ``preference`` is 1 (the baseline, ``output_1``) to 2 (the model, ``output_2``), a draw 1.5 or 0, and null
    or NaN where the judge's answer could not be read.
    """

    needs: ClassVar[tuple[Part, ...]] = ()
    takes: ClassVar[tuple[Part, ...]] = ()

    path: str
    """``annotations.json``, or another file with its columns."""
    generator: str | None = None
    """The model whose rows count (``generator_2``); none where the file has one."""

    def measure(self, label: str, given: Material) -> Measured:
        """``win_rate`` with its ``standard_error``, as the leaderboard has them (less its factor of 100).

        Over the rows with a preference, draws half; ``draws`` is their share, ``unreadable`` that of all rows
        without a preference, ``empty`` that of all rows with a blank output, which the published numbers
        judge like others. ``characters`` is the mean length of the model's outputs, ``longer_rate`` how often
        they are the longer, ``win_rate_at_equal_length`` controls for it. ``win_rate/<dataset>`` for each.

        Raises:
            DataError: rows of several models, and no ``generator`` to say which; no preference at all.
        """
        from align.benchmarks._items import read_items
        from align.benchmarks._measured import Measured
        from align.benchmarks._wins import at_equal_length
        from align.errors import DataError
        from align.evaluation.statistics import mean, paired_win_rate, proportion, standard_error

        found = read_items(self.path, _row)
        rows = self._of_one(found.items)
        given.note_data(label, self.path, found.fingerprint)
        judged = [row for row in rows if row["outcome"] is not None]
        if len(judged) < 2:
            raise DataError(f"{self.path}: {len(judged)} preferences, a win rate takes two")
        outcomes = [row["outcome"] for row in judged]
        asked = [row["instruction"] for row in judged]
        own, other = ([row[side] for row in judged] for side in ("length", "baseline_length"))
        error = standard_error(outcomes)
        results = [
            _win_rate(f"{label}/win_rate", outcomes, asked),
            _exact(f"{label}/standard_error", error, len(outcomes)),
            *at_equal_length(f"{label}/win_rate_at_equal_length", outcomes, own, other, asked),
            paired_win_rate(f"{label}/longer_rate", own, other, asked),
            mean(f"{label}/characters", own, asked),
            proportion(f"{label}/draws", [one == 0.5 for one in outcomes], asked),
            proportion(f"{label}/unreadable", [row["outcome"] is None for row in rows]),
            proportion(f"{label}/empty", [row["empty"] for row in rows]),
        ]
        for name in sorted({row["dataset"] for row in judged if row["dataset"]}):
            part = [row for row in judged if row["dataset"] == name]
            metric, units = f"{label}/win_rate/{name}", [row["instruction"] for row in part]
            results.append(_win_rate(metric, [row["outcome"] for row in part], units))
        items = [{"id": str(place), **row} for place, row in enumerate(rows)]
        return Measured(results, items=items)

    def _of_one(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        from align.errors import DataError

        names = sorted({row["generator"] for row in rows})
        if self.generator is None and len(names) > 1:
            raise DataError(f"{self.path} has several models, give generator, one of: {', '.join(names)}")
        if self.generator is not None and self.generator not in names:
            raise DataError(f"{self.path} has no model {self.generator!r}, but {', '.join(names)}")
        return [row for row in rows if self.generator in (None, row["generator"])]


def _win_rate(metric: str, outcomes: Sequence[float], units: Sequence[str]) -> Result:
    """A proportion, or a mean where the judge weighs its answers."""
    from align.evaluation.statistics import mean, proportion

    whole = all(one in (0.0, 0.5, 1.0) for one in outcomes)
    return (proportion if whole else mean)(metric, outcomes, units)


def _exact(metric: str, value: float, n: int) -> Result:
    from align.types import Result

    return Result(metric, value, n, None, None, "exact")


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ``BadRow``."""
    from align.errors import BadRow
    from align.pairs.fields import maybe_text, number_of, text_of

    if "preference" not in values:
        raise BadRow("missing_key", f"no 'preference'. The row has: {', '.join(map(str, values))}")
    baseline, own = text_of(values, "output_1"), text_of(values, "output_2")
    outcome = None
    stated = values["preference"]
    if stated is not None and stated == stated:  # pandas writes a missing number as NaN, which equals nothing
        preference = number_of(values, "preference")
        outcome = 0.5 if preference == 0 else preference - 1
        if not 0 <= outcome <= 1:
            raise BadRow("unknown_preference", f"'preference' is 0 or 1 to 2, not {preference:g}")
    return {
        "instruction": text_of(values, "instruction"),
        "dataset": maybe_text(values, "dataset"),
        "generator": maybe_text(values, "generator_2") or "",
        "outcome": outcome,
        "length": len(own),
        "baseline_length": len(baseline),
        "empty": not (baseline.strip() and own.strip()),
    }

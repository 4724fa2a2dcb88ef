"""The whole comparison: everything that the page, the tables and the files are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from align.comparison.curves import Band, curves_over_drift, series_of, training_curves
from align.comparison.differences import Difference, differences, found_of
from align.comparison.found import Found
from align.comparison.frontier import Frontier, frontiers
from align.comparison.groups import Cell, Group, baseline_of, cells, grouped, rank_of
from align.comparison.lineage import Lineage, lineage_of
from align.comparison.pairs_field import pairs_field
from align.comparison.replies import Tournament, against_reference, controlled, field_of, tournament
from align.comparison.reward_models import Judged, reward_models
from align.comparison.warned import Alarms, alarms_of
from align.settings import CompareSettings
from align.types import Result


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, and what was found about them."""

    stage: str
    groups: tuple[Group, ...]
    left_out: Mapping[str, str]
    """Directory -> why it is not compared."""
    cells: Mapping[str, Mapping[str, Cell]]
    reward: str | None
    """By which the replies were compared prompt by prompt; ``accuracy`` where reward models were."""
    by: str | None
    """The same in words."""
    unpaired: str | None
    """Why nothing was compared prompt by prompt."""
    differences: tuple[Difference, ...]
    tournament: Tournament | None
    wins: Mapping[str, Result]
    """Policy -> plain win rate against its reference."""
    controlled: Mapping[str, Result | str]
    """Policy -> the same at equal length, or why there is none."""
    frontiers: tuple[Frontier, ...]
    curves: Mapping[str, Sequence[Band]]
    """Metric -> training curves over steps, a band a group."""
    drifts: Mapping[str, Sequence[Band]]
    """The same over the KL of each step."""
    alarms: Alarms
    models: tuple[Judged, ...]
    """Reward models on unseen pairs."""
    no_models: Mapping[str, str]
    """Reward models of which nothing can be drawn -> why."""
    lineage: Lineage

    def shown(self) -> list[str]:
        """Metrics that stand first: what sets policies against a reference, accuracies, then the rest."""
        policies = {metric.split("/")[0] for metric in self.cells if metric.endswith(("/kl", "_gain"))}
        of_reference = {
            metric: bool(policies) and metric.split("/")[0] not in policies for metric in self.cells
        }
        return sorted(self.cells, key=lambda metric: (of_reference[metric], rank_of(metric), metric))

    def results(self) -> list[Result]:
        """Lines for results.json: each metric of each group, win rates at equal length, each difference."""
        plain = [
            replace(cell.result, metric=f"{label}/{metric}")
            for metric, row in self.cells.items()
            for label, cell in row.items()
        ]
        told = [one for one in self.controlled.values() if isinstance(one, Result)]
        return (
            plain
            + told
            + found_of(self.differences)
            + [one for each in self.models for one in each.results()]
        )

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        ranking = self.tournament.ranking if self.tournament else ()
        return {
            "stage": self.stage,
            "groups": [
                {
                    "label": one.label,
                    "settings": dict(one.settings),
                    "runs": [str(run.directory) for run in one.runs],
                }
                for one in self.groups
            ],
            "left_out": dict(self.left_out),
            "metrics": {
                metric: {label: asdict(cell) for label, cell in row.items()}
                for metric, row in self.cells.items()
            },
            "reward": self.reward,
            "unpaired": self.unpaired,
            "differences": [asdict(one) for one in self.differences],
            "ranking": ranking if isinstance(ranking, str) else [asdict(one) for one in ranking],
            "at_equal_length": {
                name: one if isinstance(one, str) else asdict(one) for name, one in self.controlled.items()
            },
            "frontiers": [asdict(one) for one in self.frontiers],
            "alarms": asdict(self.alarms),
            "reward_models": [asdict(one) for one in self.models],
            "lineage": {
                "nodes": [asdict(one) for one in self.lineage.nodes.values()],
                "edges": [asdict(one) for one in self.lineage.edges],
            },
        }


def compared(runs: Sequence[Found], left_out: Mapping[str, str], settings: CompareSettings) -> Comparison:
    """Everything that can be said of these runs.

    Raises:
        DataError: no group is called as the baseline that was asked for.
    """
    groups, twins = grouped(runs)
    baseline = baseline_of(groups, settings.baseline)
    field = pairs_field(groups) if runs[0].stage == "reward" else field_of(groups)
    paired = not isinstance(field, str) and len(field.contestants) > 1
    series = series_of(groups)
    models, no_models = reward_models(groups)
    return Comparison(
        stage=runs[0].stage,
        groups=tuple(groups),
        left_out={**left_out, **twins},
        cells=cells(groups),
        reward=None if isinstance(field, str) else field.reward,
        by=None if isinstance(field, str) else field.by(),
        unpaired=field if isinstance(field, str) else None if paired else "there is one only to compare",
        differences=()
        if isinstance(field, str) or not paired
        else tuple(differences(field, baseline, settings.most_pairs)),
        tournament=None if isinstance(field, str) or not paired or field.of_pairs else tournament(field),
        wins={} if isinstance(field, str) else against_reference(field),
        controlled={} if isinstance(field, str) else controlled(field),
        frontiers=tuple(frontiers(groups)),
        curves=training_curves(series),
        drifts=curves_over_drift(series),
        alarms=alarms_of(groups, series),
        models=tuple(models),
        no_models=no_models,
        lineage=lineage_of(groups),
    )

"""Reward models against each other on the same test pairs: whether each is right, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.comparison.groups import Group
from align.comparison.replies import Contestant, Field
from align.comparison.reward_models import PAIRS
from align.report.files import read_samples


def pairs_field(groups: Sequence[Group]) -> Field | str:
    """The groups as contestants, 1 on each pair that they order right and 1/2 on ties; or why there are none.

    Pairs of one prompt share its key. A coin, 1/2 on every pair, stands beside each, so that McNemar's test
    asks on which pairs one is right where the other is not.
    """
    runs = [run for group in groups for run in group.runs]
    if not all((run.directory / PAIRS).is_file() for run in runs):
        return "not every run left pairs.jsonl"
    rows = {run.directory: read_samples(run.directory / PAIRS) for run in runs}
    asked = {tuple((row["id"], row["prompt"]) for row in found) for found in rows.values()}
    if len(asked) != 1:
        return "the runs scored different pairs"
    prompts = tuple(prompt for _, prompt in asked.pop())
    if len(set(prompts)) < 2:
        return "the pairs are of one prompt"
    contestants = []
    for group in groups:
        margins_RP = np.array([[row["margin"] for row in rows[run.directory]] for run in group.runs])
        right_RP = (np.sign(margins_RP) + 1) / 2
        coin_RP = np.full_like(right_RP, 0.5)
        contestants.append(Contestant(group.label, group, right_RP, np.zeros_like(right_RP), coin_RP, None))
    return Field("accuracy", prompts, tuple(contestants), of_pairs=True)

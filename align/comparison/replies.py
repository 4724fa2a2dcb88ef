"""What groups answered to the same prompts: scores prompt by prompt, read from samples.jsonl.

Legend: R runs of a group, P prompts, K contestants.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align.comparison.found import Found, policies_of
from align.comparison.groups import Group
from align.errors import DataError, NonFiniteError
from align.evaluation.length_control import length_controlled
from align.evaluation.ranking import bradley_terry, win_rates
from align.evaluation.statistics import proportion
from align.report.files import read_samples
from align.report.names import reference_of
from align.types import Result

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contestant:
    """One policy of one group, on every prompt that all were asked."""

    name: str
    group: Group | None
    """None for the reference that all runs share."""
    scores_RP: Array
    tokens_RP: Array
    beside_RP: Array | None
    """Scores of the reference's replies in the same runs; None where a run has none."""
    beside_tokens_RP: Array | None

    def means_P(self) -> Array:
        """Mean score over the group's runs, a prompt."""
        means: Array = self.scores_RP.mean(0)
        return means


@dataclass(frozen=True)
class Field:
    """All contestants, by one reward, on the same prompts."""

    reward: str
    """Whose scores they are; ``accuracy`` where reward models are held against the labels of pairs."""
    prompts: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    of_pairs: bool = False
    """Whether the contestants are reward models on pairs, not policies that replied."""

    def by(self) -> str:
        """What is compared, in words."""
        return self.reward if self.of_pairs else f"{self.reward} reward"


def field_of(groups: Sequence[Group]) -> Field | str:
    """The contestants, or why there are none: no samples, no scores in common."""
    runs = [run for group in groups for run in group.runs]
    if not all((run.directory / "samples.jsonl").is_file() for run in runs):
        return "not every run left samples.jsonl (stage=evaluate does)"
    rows = {run.directory: _of_one(read_samples(run.directory / "samples.jsonl")) for run in runs}
    asked = {tuple(json.dumps(row["prompt"], sort_keys=True) for row in found) for found in rows.values()}
    if len(asked) != 1:
        return "the runs' samples answer different prompts"
    if len(set(next(iter(asked)))) < 2:
        return "the runs answered one prompt"
    rewards = [
        set(_scores_of(reply))
        for found in rows.values()
        for row in found
        for reply in row["replies"].values()
    ]
    shared = set.intersection(*rewards) if rewards else set()
    reward = "gold" if "gold" in shared else min(shared, default=None)
    if reward is None:
        return "no reward scored every reply of samples.jsonl"
    policies = _policies(runs, rows)
    contestants = []
    for group in groups:
        for place in range(min(len(policies[run.directory]) for run in group.runs)):
            contestants.append(_contestant(group, place, rows, policies, reward))
    reference = _shared_reference(runs, rows, reward)
    if reference is not None:
        contestants.append(reference)
    return Field(reward, asked.pop(), tuple(contestants))


def _of_one(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the first benchmark that wrote replies: others of the run have other prompts and scores."""
    return [row for row in rows if row.get("benchmark") == rows[0].get("benchmark")]


def wins_of(contestants: Sequence[Contestant]) -> Array:
    """Wins (P, K, K) by score, ties half, as shares of the pairs of runs of the two groups."""
    size, prompts = len(contestants), contestants[0].scores_RP.shape[1]
    wins = np.zeros((prompts, size, size))
    for i, ours in enumerate(contestants):
        for j in range(i + 1, size):
            theirs = contestants[j]
            won = (np.sign(ours.scores_RP[:, None] - theirs.scores_RP[None]) + 1) / 2
            wins[:, i, j] = won.mean((0, 1))
            wins[:, j, i] = 1 - wins[:, i, j]
    return wins


@dataclass(frozen=True)
class Tournament:
    """Everyone against everyone; ``ranking`` is a sentence where there is none."""

    names: tuple[str, ...]
    rates_KK: Array
    ranking: tuple[Result, ...] | str


def tournament(field: Field) -> Tournament:
    """Win rates of each pair of contestants, and their Bradley-Terry strengths."""
    names = tuple(one.name for one in field.contestants)
    wins = wins_of(field.contestants)
    try:
        ranking: tuple[Result, ...] | str = tuple(bradley_terry(names, wins))
    except DataError as error:
        ranking = str(error)
    return Tournament(names, win_rates(wins), ranking)


def against_reference(field: Field) -> dict[str, Result]:
    """Each contestant's plain win rate against its reference; runs of a group pooled, a prompt one unit."""
    found = {}
    for one in field.contestants:
        if one.beside_RP is not None and one.beside_tokens_RP is not None:
            outcomes = (np.sign(one.scores_RP - one.beside_RP) + 1) / 2
            clusters = list(field.prompts) * len(outcomes)
            found[one.name] = proportion(f"{one.name}/{field.reward}_win_rate", outcomes.ravel(), clusters)
    return found


def controlled(field: Field) -> dict[str, Result | str]:
    """Each contestant's win rate against its reference at equal lengths, or why there is none."""
    found: dict[str, Result | str] = {}
    for one in field.contestants:
        if one.beside_RP is None or one.beside_tokens_RP is None:
            continue
        outcomes = (np.sign(one.scores_RP - one.beside_RP) + 1) / 2
        clusters = list(field.prompts) * len(outcomes)
        lengths, others = one.tokens_RP.ravel(), one.beside_tokens_RP.ravel()
        metric = f"{one.name}/{field.reward}_win_rate_at_equal_length"
        try:
            found[one.name] = length_controlled(metric, outcomes.ravel(), lengths, others, clusters)
        except DataError as error:
            found[one.name] = str(error).removeprefix(f"{metric}: ")
    return found


def _policies(runs: Sequence[Found], rows: dict[Any, list[dict[str, Any]]]) -> dict[Any, list[str]]:
    """The policies of each run as its samples call them: all but the first where none compares."""
    found = {}
    for run in runs:
        labels = list(rows[run.directory][0]["replies"])
        named = [label for label in policies_of(run.results) if label in labels]
        # a run renamed among others keeps its own words in samples.jsonl, the reference first
        found[run.directory] = named or labels[1:] or labels
    return found


def _contestant(
    group: Group,
    place: int,
    rows: dict[Any, list[dict[str, Any]]],
    policies: dict[Any, list[str]],
    reward: str,
) -> Contestant:
    first = group.runs[0].directory
    several = len(policies[first]) > 1
    name = f"{policies[first][place]}: {group.label}" if several else group.label
    labels = {run.directory: policies[run.directory][place] for run in group.runs}
    beside = {run.directory: _reference(run, rows, policies[run.directory]) for run in group.runs}
    whole = all(label is not None for label in beside.values())
    return Contestant(
        name=name,
        group=group,
        scores_RP=_table(group.runs, rows, labels, reward),
        tokens_RP=_table(group.runs, rows, labels, None),
        beside_RP=_table(group.runs, rows, beside, reward) if whole else None,
        beside_tokens_RP=_table(group.runs, rows, beside, None) if whole else None,
    )


def _reference(run: Found, rows: dict[Any, list[dict[str, Any]]], policies: list[str]) -> str | None:
    labels = list(rows[run.directory][0]["replies"])
    named = reference_of(run.results)
    if named in labels:
        return named
    rest = [label for label in labels if label not in policies]
    return rest[0] if len(rest) == 1 else None


def _shared_reference(
    runs: Sequence[Found], rows: dict[Any, list[dict[str, Any]]], reward: str
) -> Contestant | None:
    """The reference as a contestant, where every run was held against the very same weights."""
    hashes = {run.record.get("inputs", {}).get("reference", {}).get("sha256") for run in runs}
    if len(hashes) != 1 or None in hashes:
        return None
    policies = _policies(runs, rows)
    labels = {run.directory: _reference(run, rows, policies[run.directory]) for run in runs}
    if any(label is None for label in labels.values()):
        return None
    scores = _table(runs, rows, labels, reward)
    return Contestant("the reference", None, scores, _table(runs, rows, labels, None), None, None)


def _table(
    runs: Sequence[Found], rows: dict[Any, list[dict[str, Any]]], labels: dict[Any, Any], reward: str | None
) -> Array:
    """Scores by a reward (R, P), or lengths in tokens where that is None."""
    table = [
        [
            float(reply["tokens"] if reward is None else reply["scores"][reward])
            for reply in (row["replies"][labels[run.directory]] for row in rows[run.directory])
        ]
        for run in runs
    ]
    found = np.array(table)
    if not np.isfinite(found).all():
        raise NonFiniteError("samples.jsonl: a score is not finite")
    return found


def _scores_of(reply: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = reply.get("scores", {})
    return found

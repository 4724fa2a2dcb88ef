"""The tables of PPO: all sides, where our time goes, and that all of them did the same work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.speed.figures import PPO_LABELS, PPO_SIDES, Round, middle
from experiments.speed.say import counted, shortly

PHASES = ("sample", "score", "judge", "forward", "backward", "optimiser")
"""Of our iterations; ``judge`` is what reference and critic say of a rollout before it is trained on."""


def ppo_blocks(entry: Mapping[str, Any]) -> list[str]:
    """For a key of ``results.json``: nothing where it holds no PPO."""
    parts = {part: entry["parts"][part]["rounds"] for part in PPO_LABELS if part in entry["parts"]}
    if not parts:
        return []
    return [
        _sides(parts),
        _times(parts),
        *[_same_work(rounds, PPO_LABELS[part]) for part, rounds in parts.items()],
    ]


def _sides(parts: Mapping[str, Sequence[Round]]) -> str:
    head = [
        "| median | episodes/s | over trl's | peak MB | over trl's |",
        "|---|---|---|---|---|",
    ]
    lines = []
    for part, rounds in parts.items():
        names = {"theirs": "trl", **{side: f"ours, {how.label}" for side, how in PPO_SIDES.items()}}
        for side, name in names.items():
            cells = []
            for number in ("speed", "peak_mb"):
                own, trl = middle(rounds, side, number), middle(rounds, "theirs", number)
                shown = f"{own:.0f}" if number == "peak_mb" else shortly(own)
                cells += [shown, "-" if side == "theirs" else shortly(own / trl)]
            lines.append(f"| {PPO_LABELS[part]}: {name} | {' | '.join(cells)} |")
    return "\n".join([*head, *lines])


def _times(parts: Mapping[str, Sequence[Round]]) -> str:
    head = [
        f"| where the time goes | sampled tokens/s | trained tokens/s | {' | '.join(PHASES)} |",
        f"|---|---|---|{'---|' * len(PHASES)}",
    ]
    lines = []
    for part, rounds in parts.items():
        sampling = shortly(median(_sampled(one["theirs"]) for one in rounds))
        lines.append(f"| {PPO_LABELS[part]}: trl | {sampling} | - |{' - |' * len(PHASES)}")
        for side, how in PPO_SIDES.items():
            measured = [one[side] for one in rounds]
            shares = [median(_share(one, phase) for one in measured) for phase in PHASES]
            rates = (median(map(_sampled, measured)), median(map(_trained, measured)))
            cells = [*map(shortly, rates), *[f"{share:.0%}" for share in shares]]
            lines.append(f"| {PPO_LABELS[part]}: {how.label} | {' | '.join(cells)} |")
    return "\n".join([*head, *lines])


def _same_work(rounds: Sequence[Round], label: str) -> str:
    """What was counted on each side, of the first round."""
    one = rounds[0]
    sides = ["theirs", *PPO_SIDES]
    theirs = one["theirs"]
    scores, losses = (
        ", ".join(shortly(one[side][name]) for side in sides) for name in ("score", "value_loss")
    )
    steps = {one[side]["optimiser_steps"] for side in sides}
    sampled = {one[side]["sampled_tokens"] for side in sides}
    return (
        f"{label}: every side reads the same {theirs['prompt_tokens']:,} tokens of prompts, samples "
        f"{' or '.join(f'{number:,}' for number in sorted(sampled))} tokens and takes "
        f"{' or '.join(map(str, sorted(steps)))} optimiser steps over "
        f"{counted(theirs['episodes'], 'episode')}; "
        f"in the order of the table, their mean scores are {scores} (ours reads the text of a reply, which "
        f"other tokens may spell, with the end that a template writes), their mean value losses {losses}."
    )


def _sampled(measured: Mapping[str, Any]) -> float:
    return float(measured["sampled_tokens"] / measured["phases"]["sample"])


def _trained(measured: Mapping[str, Any]) -> float:
    """Tokens of prompts and replies a second, over all epochs of the update."""
    phases = measured["phases"]
    return float(
        measured["trained_tokens"] / sum(phases[one] for one in ("forward", "backward", "optimiser"))
    )


def _share(measured: Mapping[str, Any], phase: str) -> float:
    return float(measured["phases"][phase] / sum(measured["phases"].values()))

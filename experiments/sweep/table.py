"""The README's part that is made from the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "dpo/gold_win_rate": "win rate by gold",
    "dpo/gold_gain": "gold reward gained",
    "dpo/proxy_gain": "proxy reward gained",
    "dpo/kl": "drift (KL, nats a reply)",
}
"""Metrics of ``results.json``, and what stands above them."""


def text_of(found: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> str:
    """What was run, what may be said, each setting's numbers and each pair's verdict, in Markdown."""
    whole = [one for one in jobs if one["state"] == "completed"]
    ran = (
        f"{known['date']}, {known['cores']} cores, torch {known['versions']['torch']}: {len(whole)} of "
        f"{len(jobs)} runs completed."
    )
    said = "\n".join(f"- {line}" for line in found["in_short"])
    return "\n\n".join([ran, said, _settings(found), _pairs(found)])


def _settings(found: Mapping[str, Any]) -> str:
    lines = [
        f"| setting | seeds | {' | '.join(COLUMNS.values())} | win rate at equal length "
        "| spread of the win rate over seeds |",
        f"|---|---|{'---|' * (len(COLUMNS) + 2)}",
    ]
    for group in found["groups"]:
        label = group["label"]
        cells = [_cell(found["metrics"][metric][label]["result"]) for metric in COLUMNS]
        spread = found["metrics"]["dpo/gold_win_rate"][label]["spread"]
        lines.append(
            f"| {label} | {len(group['runs'])} | {' | '.join(cells)} "
            f"| {_cell(found['at_equal_length'][label])} | {spread:.3f} |"
        )
    return "\n".join(lines)


def _pairs(found: Mapping[str, Any]) -> str:
    lines = [
        "| less | difference of gold reward | p over prompts (Holm) | p over seeds (Holm) | verdict |",
        "|---|---|---|---|---|",
    ]
    for one in found["differences"]:
        lines.append(
            f"| {one['ours']} less {one['theirs']} | {_cell(one['score'])} | {_p(one['p_holm'])} "
            f"| {_p(one['seeds_p_holm'])} | {one['verdict']} |"
        )
    return "\n".join(lines)


def _cell(result: Mapping[str, Any]) -> str:
    if result["ci_low"] is None:
        return f"{result['value']:.3f}"
    return f"{result['value']:.3f} ({result['ci_low']:.3f} to {result['ci_high']:.3f})"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

"""``results.json``, and the README's tables that are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.errors import ConfigError
from align.types import Result
from experiments.collect.methods import CRITIC_ERROR, JUDGE_ERROR, METHODS
from experiments.collect.stand_in import REASON

Found = dict[str, Any]
"""``results.json``: ``size``, ``methods``, ``policies`` and ``outputs``, each of the last three by name."""


def merged(before: Found, found: Found) -> Found:
    """What was found now beside what stands there already.

    Raises:
        ConfigError: what stands there is of another size.
    """
    if before and before["size"] != found["size"]:
        raise ConfigError(
            "results.json holds results of another size than these: give another --out, or run all methods"
        )
    parts = {part: {**before.get(part, {}), **found[part]} for part in ("methods", "policies", "outputs")}
    return {**found, **parts}


def tables(found: Found) -> str:
    """All that there is to show, in Markdown."""
    known = found["circumstances"]
    blocks = [
        f"{known['date']}, {known['cores']} cores, torch {known['torch']}, commit {known['commit']}; "
        f"at most {found['size']['limit']} prompts, demonstrations or pairs a method.",
        *([_labels(found["methods"])] if found["methods"] else []),
        *([_chosen(found["methods"]["active"])] if "active" in found["methods"] else []),
        *([_policies(found["policies"])] if found["policies"] else []),
        *([_outputs(found["outputs"])] if found["outputs"] else []),
    ]
    return "\n\n".join(blocks)


def by_metric(entry: Mapping[str, Any]) -> dict[str, Result]:
    """The results of one run, by name."""
    return {row["metric"]: Result(**row) for row in entry["results"]}


def cell(result: Result | None, digits: int = 3) -> str:
    """``0.810 (0.750 to 0.860)``; the value alone where it has no interval, a dash where there is none."""
    if result is None:
        return "-"
    if result.ci_low is None or result.ci_high is None:
        return f"{result.value:.{digits}f}"
    return f"{result.value:.{digits}f} ({result.ci_low:.{digits}f} to {result.ci_high:.{digits}f})"


def abstained(found: Mapping[str, Result]) -> str:
    """``tie 3, not_ended 1``."""
    start = "collect/abstained/"
    reasons = [
        f"{name.removeprefix(start)} {one.value:.0f}" for name, one in found.items() if name.startswith(start)
    ]
    return ", ".join(reasons) or "none"


def expectation(found: Mapping[str, Result]) -> str:
    """What the method itself says of its labels before anybody looks at the truth."""
    if "labels/claimed_accuracy" in found:
        return f"{found['labels/claimed_accuracy'].value:.3f} claimed"
    return cell(found.get("labels/expected_accuracy"))


def _labels(methods: Mapping[str, Any]) -> str:
    lines = [
        "| method | pairs | no pair, and why | labels right by the gold | the method expects "
        "| the stand-in's error makes | word probe | word probe on the gold's labels | chosen is longer |",
        "|---" * 9 + "|",
    ]
    for name in METHODS:
        if name not in methods:
            continue
        found, made = by_metric(methods[name]), methods[name]["by_construction"]
        cells = [
            f"`{name}`",
            f"{found['collect/pairs'].value:.0f}",
            abstained(found),
            cell(found.get("labels/accuracy")),
            expectation(found),
            "-" if made is None else f"{made:.3f}",
            cell(found.get("probe/accuracy")),
            cell(found.get("probe/gold_accuracy")),
            cell(found.get("lengths/chosen_longer")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"The judge errs with {JUDGE_ERROR:g} in each order, the critic spoils {CRITIC_ERROR:g}."]
    return "\n".join(lines)


def _chosen(entry: Mapping[str, Any]) -> str:
    found = by_metric(entry)
    wrong, pool = (cell(found.get(f"active/{name}reward_wrong")) for name in ("", "pool_"))
    return (
        f"`active` labels nothing. The reward models' mean is wrong about {wrong} of the "
        f"{found['collect/pairs'].value:.0f} pairs that it chose, and about {pool} of all."
    )


def _policies(policies: Mapping[str, Any]) -> str:
    lines = [
        "| DPO on the pairs of | wins over SFT by the gold | gold gained | is the longer | drift, nats |",
        "|---" * 5 + "|",
    ]
    for name in METHODS:
        if name in policies:
            found = by_metric(policies[name])
            measured = ("gold_win_rate", "gold_gain", "longer_rate", "kl")
            cells = [cell(found.get(f"dpo/{metric}")) for metric in measured]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    if "critique" in policies:
        found = by_metric(policies["critique"])
        before, after = (cell(found[f"{label}/critics_words"]) for label in ("sft", "dpo"))
        lines += [
            "",
            f'After DPO on the critic\'s pairs {after} of the replies say "{REASON}", before it {before}.',
        ]
    return "\n".join(lines)


def _outputs(outputs: Mapping[str, Any]) -> str:
    lines = [
        "| `length.how` | pairs | without a reply, by rank | no pair, and why | chosen is longer "
        "| 'the longer is better' is right | word probe |",
        "|---" * 7 + "|",
    ]
    for how, entry in outputs.items():
        found = by_metric(entry)
        cells = [
            f"`{how}`",
            f"{found['collect/pairs'].value:.0f}",
            ", ".join(f"{one.value:.0f}" for name, one in found.items() if name.endswith("/unmatched")),
            abstained(found),
            *(cell(found.get(f"lengths/{name}")) for name in ("chosen_longer", "longer_wins")),
            cell(found.get("probe/accuracy")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as ``results.json`` holds them."""
    return [dict(vars(one)) for one in results]

"""``results.json``, and the tables of the README that are made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from align.errors import ConfigError, DataError
from experiments.speed.figures import FIGURES, PPO_LABELS, SIDES, Figure, Round, Value, middle, values
from experiments.speed.ppo_table import ppo_blocks
from experiments.speed.say import counted, shortly
from experiments.speed.words import TINY, TINY_AXES

Results = dict[str, Any]
"""``results.json``: key (``cpu float32``) -> ``work``, ``figures`` and ``parts`` (``with``, ``rounds``)."""


def require_same_work(results: Results, key: str, work: Mapping[str, Any], parts: Sequence[str]) -> None:
    """One table holds one work only; parts that are measured anew may be of another than before.

    Raises:
        ConfigError: other parts stand there, of other work.
    """
    entry = results.get(key, {"work": work, "parts": {}})
    before = entry["work"]
    # a setting that is newer than what stands there belongs to parts that were not measured then
    changed = [
        f"{name}: {before[name]} -> {work[name]}"
        for name in work
        if name in before and before[name] != work[name]
    ]
    if changed and set(entry["parts"]) - set(parts):
        raise ConfigError(
            f"results.json holds '{key}' of other work ({', '.join(changed)}): measure all parts of it anew, "
            f"or give another --out"
        )


def merged(
    results: Results,
    key: str,
    work: Mapping[str, Any],
    facts: Mapping[str, Any],
    parts: Mapping[str, Sequence[Round]],
) -> Results:
    """``results`` with the parts that were just measured in place of what stood there.

    Raises:
        ConfigError: other parts stand there, of other work.
    """
    require_same_work(results, key, work, list(parts))
    before = results.get(key, {"parts": {}})["parts"]
    new = {part: {"with": dict(facts), "rounds": list(rounds)} for part, rounds in parts.items()}
    entry: dict[str, Any] = {"work": dict(work), "parts": before | new}
    entry["figures"] = {name: vars(one) for name, one in values(entry).items()}
    return {**results, key: entry}


def read(path: Path) -> Results:
    """What ``results.json`` holds; nothing where it is absent."""
    if not path.exists():
        return {}
    try:
        found: Results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    return found


def render(results: Results) -> str:
    """The README's part between the marks: for each key what was measured with, sides and figures."""
    if not results:
        return "Not measured yet."
    return "\n\n".join(block for key, entry in results.items() for block in _blocks(key, entry))


def _blocks(key: str, entry: Mapping[str, Any]) -> list[str]:
    found = values(entry)
    lines = [_line(FIGURES[name], key, value) for name, value in found.items()]
    table = ["| figure | target | measured | of single rounds |", "|---|---|---|---|", *lines]
    both = [
        _side(entry["parts"][part]["rounds"], label)
        for part, label in SIDES.items()
        if part in entry["parts"]
    ]
    head = ["| median | ours, pairs/s | trl, pairs/s | ours, MB | trl, MB |", "|---|---|---|---|---|"]
    return [
        f"### {key.replace(' ', ', ').replace('cpu', 'CPU').replace('cuda', 'CUDA')}",
        *_captions(entry),
        "\n".join(table),
        *(["\n".join([*head, *both])] if both else []),
        *_remarks(entry),
        *_one_job(entry),
        *ppo_blocks(entry),
    ]


def _captions(entry: Mapping[str, Any]) -> list[str]:
    """What was measured, with what, when: once for all parts that share it."""
    work = entry["work"]
    by_facts: dict[str, list[str]] = {}
    for part, measured in entry["parts"].items():
        facts, rounds, ppo = measured["with"], len(measured["rounds"]), part in PPO_LABELS
        text = (
            f"{facts['date']}, {facts['device']}, {counted(work['threads'], 'thread')}; "
            f"torch {facts['torch']}, transformers {facts['transformers']}, "
            f"trl {measured['rounds'][0]['theirs']['trl'] if ppo else facts['trl']}, "
            f"commit {facts['commit']}; "
            f"{_of_what(part, facts, work)}; {counted(rounds, 'round')}"
        )
        by_facts.setdefault(text, []).append(part)
    if len(by_facts) == 1:
        return [f"{text}." for text in by_facts]
    return [f"{', '.join(parts)}: {text}." for text, parts in by_facts.items()]


def _of_what(part: str, facts: Mapping[str, Any], work: Mapping[str, Any]) -> str:
    """The work of a part, for its caption."""
    if part == "jobs":
        return f"`{' '.join(TINY)}` by {' x '.join(f'{len(own)} {key}' for key, own in TINY_AXES.items())}"
    ppo = part in PPO_LABELS
    what = f"{work['episodes']} prompts" if ppo else f"{facts['pairs']} pairs"
    of, size = ("rollouts", work["rollout"]) if ppo else ("batches", work["batch_size"])
    return (
        f"{what} of `{work['data']}`, {work['model']} ({facts['weights'] / 1e6:.1f} M weights), "
        f"{of} of {size}"
    )


def _line(figure: Figure, key: str, value: Value) -> str:
    target = figure.target.get(key, figure.target.get("*"))
    wanted = "-" if target is None else f"{target:.4g}{' at most' if figure.at_most else ''}"
    missed = target is not None and (value.value > target if figure.at_most else value.value < target)
    shown = f"{shortly(value.value)}{' (missed)' if missed else ''}"
    return f"| {figure.label} | {wanted} | {shown} | {shortly(value.low)} to {shortly(value.high)} |"


def _side(rounds: Sequence[Round], label: str) -> str:
    cells = [shortly(middle(rounds, side, "speed")) for side in ("ours", "theirs")]
    cells += [f"{middle(rounds, side, 'peak_mb'):.0f}" for side in ("ours", "theirs")]
    return f"| {label} | {' | '.join(cells)} |"


def _remarks(entry: Mapping[str, Any]) -> list[str]:
    """What the figures leave out: the reference's pass where both sides did it before training."""
    if "precomputed" not in entry["parts"] or "dpo" not in entry["parts"]:
        return []
    theirs = entry["parts"]["precomputed"]["rounds"]
    seconds = middle(theirs, "theirs", "reference_seconds")
    ours = middle(entry["parts"]["dpo"]["rounds"], "ours", "speed")
    whole = median(
        one["theirs"]["pairs"] / (one["theirs"]["seconds"] + one["theirs"]["reference_seconds"])
        for one in theirs
    )
    return [
        f"trl's precomputation of the reference takes {seconds:.1f} s in its forward passes; counted in, "
        f"our run with an empty cache is at {shortly(ours / whole)} times its pairs/s."
    ]


def _one_job(entry: Mapping[str, Any]) -> list[str]:
    """Where the time of one tiny run goes, of which a sweep shares all but the work."""
    if "jobs" not in entry["parts"]:
        return []
    rounds = entry["parts"]["jobs"]["rounds"]
    config, imports, work = (middle(rounds, "one", name) for name in ("config", "imports", "work"))
    return [
        f"One tiny run by itself: {config:.1f} s for Hydra and the config, {imports:.1f} s of imports, "
        f"{work:.1f} s of work. A sweep imports once and forks its jobs from there, as many at a time as "
        f"there are threads; eight alone take {middle(rounds, 'alone', 'seconds'):.0f} s, "
        f"the sweep {middle(rounds, 'sweep', 'seconds'):.0f} s."
    ]

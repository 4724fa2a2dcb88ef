"""What is read off the measurements, and what it should be: ratios of medians over rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

SIDES = {
    "dpo": "DPO",
    "precomputed": "DPO, reference known",
    "reward": "reward model",
}
"""Parts that both sides do, as the README calls them."""


@dataclass(frozen=True)
class PpoSide:
    """One of our ways to do PPO beside trl, whose critic is a network of its own."""

    label: str
    short: str
    """Under a bar."""
    critic: Literal["shared", "separate"]
    old_logps: Literal["sampled", "recomputed"]


PPO_SIDES = {
    "separate": PpoSide("critic of its own, `old_logps=sampled`", "ours,\nown critic", "separate", "sampled"),
    "recomputed": PpoSide(
        "critic of its own, `old_logps=recomputed`", "recom-\nputed", "separate", "recomputed"
    ),
    "shared": PpoSide("value head on the trunk, `old_logps=sampled`", "value\nhead", "shared", "sampled"),
}
PPO_LABELS = {"ppo_short": "PPO, short prompts", "ppo_long": "PPO, long prompts"}


@dataclass(frozen=True)
class Panel:
    """One part in a figure."""

    label: str
    unit: str
    bars: Mapping[str, str]
    """Side -> what stands under its bar."""


PANELS = {part: Panel(label, "pairs", {"theirs": "trl", "ours": "ours"}) for part, label in SIDES.items()}
PPO_PANELS = {
    part: Panel(label, "episodes", {"theirs": "trl", **{side: how.short for side, how in PPO_SIDES.items()}})
    for part, label in PPO_LABELS.items()
}

Round = Mapping[str, Any]
"""The measurements of one part in one round, by side (``rounds.Round``)."""


@dataclass(frozen=True)
class Figure:
    """One line of a table: a number from each round of a part, and what it should be."""

    label: str
    part: str
    of_round: Callable[[Round], float]
    """The number of one round."""
    overall: Callable[[Sequence[Round]], float]
    """The number of all rounds: a ratio of medians, or a median."""
    target: Mapping[str, float]
    """By key; ``*`` for every other one; empty where there is none."""
    at_most: bool = False
    """Whether the target is an upper bound."""


@dataclass(frozen=True)
class Value:
    """A figure's value over all rounds, and the smallest and largest of one round."""

    value: float
    low: float
    high: float


def _ratio(part: str, label: str, name: str, over: tuple[str, str], **more: Any) -> Figure:
    """A figure that is one side's number over the other's."""
    first, second = over
    return Figure(
        label,
        part,
        lambda one: number(one[first], name) / number(one[second], name),
        lambda rounds: middle(rounds, first, name) / middle(rounds, second, name),
        **more,
    )


def _worst(part: str, label: str, **more: Any) -> Figure:
    """The largest difference of a step's loss, over all rounds."""
    return Figure(
        label,
        part,
        lambda one: float(one["loss_difference"]),
        lambda rounds: max(float(one["loss_difference"]) for one in rounds),
        at_most=True,
        **more,
    )


def _sweep_share(one: float, everything: float, runs: int) -> float:
    return everything / (runs * one)


def _ppo(part: str, prompts: str, targets: Mapping[str, float], memory: float) -> dict[str, Figure]:
    """Episodes a second and memory over trl's, for each of our ways."""
    figures = {
        f"{part}_{side}": _ratio(
            part, f"PPO episodes/s over `trl.PPOTrainer`, {prompts} prompts, {how.label}",
            "speed", (side, "theirs"), target={"cpu float32": targets[side]} if side in targets else {},
        )
        for side, how in PPO_SIDES.items()
    }  # fmt: skip
    figures[f"{part}_memory"] = _ratio(
        part, f"peak memory over trl's, {prompts} prompts, value head on the trunk",
        "peak_mb", ("shared", "theirs"), target={"cpu float32": memory}, at_most=True,
    )  # fmt: skip
    return figures


_BOTH_SIDES = ("ours", "theirs")
_LOSS = {"cpu float32": 1e-4, "cuda float32": 1e-4}

FIGURES: Mapping[str, Figure] = {
    "dpo": _ratio(
        "dpo", "DPO pairs/s over `trl.DPOTrainer`", "speed", _BOTH_SIDES,
        target={"*": 4.2, "cuda bfloat16": 2.0},
    ),
    "precomputed": _ratio(
        "precomputed", "DPO pairs/s over trl with `precompute_ref_log_probs`, ours with a warm cache",
        "speed", _BOTH_SIDES, target={"*": 3.8, "cuda bfloat16": 2.0},
    ),
    "reward": _ratio(
        "reward", "reward-model pairs/s over `trl.RewardTrainer`", "speed", _BOTH_SIDES,
        target={"*": 3.3, "cuda bfloat16": 2.0},
    ),
    "sweep": Figure(
        "four betas in one sweep, time over four times one cold run",
        "sweep",
        lambda one: _sweep_share(one["one"]["seconds"], one["all"]["seconds"], one["all"]["runs"]),
        lambda rounds: _sweep_share(
            middle(rounds, "one", "seconds"), middle(rounds, "all", "seconds"), rounds[0]["all"]["runs"]
        ),
        target={"*": 0.85},
        at_most=True,
    ),
    "jobs": _ratio(
        "jobs", "eight tiny DPO runs as one sweep, time over their sum alone from the shell",
        "seconds", ("sweep", "alone"), target={"*": 0.5}, at_most=True,
    ),
    "mfu": Figure(
        "`mfu` in the DPO step",
        "dpo",
        lambda one: number(one["ours"], "mfu"),
        lambda rounds: middle(rounds, "ours", "mfu"),
        target={"cpu float32": 0.55, "cuda bfloat16": 0.5},
    ),
    "memory": _ratio(
        "dpo", "peak memory in DPO above the level after imports, over trl's", "peak_mb", _BOTH_SIDES,
        target={"*": 0.7}, at_most=True,
    ),
    "reward_memory": _ratio(
        "reward", "the same for the reward model", "peak_mb", _BOTH_SIDES, target={"*": 0.7}, at_most=True,
    ),
    "loss_difference": _worst(
        "dpo", "largest difference of per-step loss from trl's over the epoch, DPO", target=_LOSS
    ),
    "reward_loss_difference": _worst("reward", "the same for the reward model", target=_LOSS),
    "sampling": _ratio(
        "sampling", "sampled tokens/s over `model.generate`, 64 prompts of 64 tokens, replies of 64",
        "tokens_a_second", _BOTH_SIDES, target={"*": 2.5},
    ),
    "sampling_memory": _ratio(
        "sampling", "the same: peak memory over generate's", "peak_mb", _BOTH_SIDES,
        target={}, at_most=True,
    ),
    "sets": _ratio(
        "sets", "steps drawn from the large prepared set against the small one: pairs/s ratio",
        "speed", ("large", "small"), target={"*": 0.95},
    ),
    "sets_memory": Figure(
        "the same: growth of memory, MB",
        "sets",
        lambda one: one["large"]["peak_mb"] - one["small"]["peak_mb"],
        lambda rounds: middle(rounds, "large", "peak_mb") - middle(rounds, "small", "peak_mb"),
        target={"*": 200.0},
        at_most=True,
    ),
    **_ppo("ppo_short", "short", {"separate": 1.4, "shared": 2.4}, memory=0.6),
    **_ppo("ppo_long", "long", {"separate": 1.9, "shared": 3.2}, memory=0.5),
}  # fmt: skip
"""In the order of the table; names are those of ``figures`` in ``results.json``."""


def number(measured: Mapping[str, Any], name: str) -> float:
    """What one process measured; ``speed`` is pairs, or episodes, a second, ``tokens_a_second`` what was
    sampled."""
    if name == "tokens_a_second":
        return float(measured["tokens"] / measured["seconds"])
    if name == "speed":
        return float(measured["pairs" if "pairs" in measured else "episodes"] / measured["seconds"])
    return float(measured[name])


def middle(rounds: Sequence[Round], side: str, name: str) -> float:
    """The median over rounds."""
    return median(number(one[side], name) for one in rounds)


def values(entry: Mapping[str, Any]) -> dict[str, Value]:
    """The figures of one key; those of parts that were not run are left out."""
    found: dict[str, Value] = {}
    for name, figure in FIGURES.items():
        if figure.part in entry["parts"]:
            rounds = entry["parts"][figure.part]["rounds"]
            each = [figure.of_round(one) for one in rounds]
            found[name] = Value(figure.overall(rounds), min(each), max(each))
    return found

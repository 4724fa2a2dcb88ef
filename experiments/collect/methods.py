"""Every method as a command, and how often its labels have to be right where a stand-in errs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from align.evaluation.statistics import proportion
from align.pairs.records import read_records
from align.report.files import read_samples
from align.types import PreferencePair, Result
from experiments.collect.runs import Place, results_of
from experiments.collect.serving import serving
from experiments.collect.stand_in import REASON, Answer, critic, judging, mended, spoilt
from reward_models.gold import Gold

JUDGE_ERROR = 0.2
"""Chance with which the judge names the worse reply, in each order by itself."""
CRITIC_ERROR = 0.1
"""Chance with which the critic spoils what it should mend."""
NOISE_RATE = 0.2


def _sampled(place: Place, policy: str) -> list[str]:
    return [f"model.path={place.policy(policy)}", place.room, "sampling.temperature=1.0"]


def _best_of_n(place: Place) -> list[str]:
    reward = ["reward=bradley_terry", f"reward.path={place.reward(0)}"]
    return [*_sampled(place, "sft"), *reward, f"collect.n={place.size.replies}"]


def _contrast(place: Place) -> list[str]:
    return _sampled(place, "steered")


def _strength(place: Place) -> list[str]:
    sources = f"collect.sources=[{place.policy('sft')},{place.policy('weak')}]"
    return [sources, f"collect.max_length={place.size.max_length}", "sampling.temperature=1.0"]


def _judge(place: Place) -> list[str]:
    return [*_sampled(place, "sft"), "collect.candidates=sampled"]


def _active(place: Place) -> list[str]:
    members = ",".join(str(place.reward(seed)) for seed in range(3))
    unseen = ["collection.split=validation", f"collect.choose={place.size.chosen}"]
    return ["reward=ensemble", f"reward.paths=[{members}]", *unseen]


METHODS: dict[str, Callable[[Place], Sequence[str]]] = {
    "best_of_n": _best_of_n,
    "contrast": _contrast,
    "strength": _strength,
    "corrupt": lambda _: [],
    "noise": lambda _: [f"collect.rate={NOISE_RATE}"],
    "judge": _judge,
    "critique": lambda _: ["collect.replies=dataset"],
    "active": _active,
}
"""Each method's own words."""

STAND_INS: dict[str, tuple[str, Answer]] = {
    "judge": ("collect.server", judging(JUDGE_ERROR)),
    "critique": ("server", critic(error=CRITIC_ERROR)),
}
"""Where a method's server is given, and what answers there."""

TRAINED_ON = tuple(name for name in METHODS if name != "active")
"""Those whose pairs DPO is trained on; nobody has judged ``active``'s."""


@dataclass(frozen=True)
class Collection:
    """What a method made."""

    run: Path
    results: list[Result]
    by_construction: float | None
    """How often its labels have to be right, where a stand-in that errs at a known rate has made them."""

    @property
    def pairs(self) -> int:
        """How many; a policy whose replies do not end makes none."""
        return next(int(one.value) for one in self.results if one.metric == "collect/pairs")


def collected(place: Place, method: str) -> Collection:
    """Runs a method's command.

    Raises:
        AlignError: it failed.
    """
    words = [
        f"collect={method}",
        *place.world,
        f"collection.limit={place.size.limit}",
        *METHODS[method](place),
    ]
    where, answer = STAND_INS.get(method, ("", None))
    with serving(answer) if answer else nullcontext() as stand_in:
        if stand_in is not None:
            words += [f"{where}.url={stand_in.url}", f"{where}.model=stand-in"]
        run = place.run(method, "stage=collect", *words)
    return Collection(run, results_of(run), by_construction(method, run))


def by_construction(method: str, run: Path) -> float | None:
    """Of the judge, both of whose orders agree: (1 - e)^2 / ((1 - e)^2 + e^2).

    Of the critic, the mean over its pairs of (1 - e) [mended is better] + e [spoilt is better], a tie half.
    """
    if method == "judge":
        right, wrong = (1 - JUDGE_ERROR) ** 2, JUDGE_ERROR**2
        return right / (right + wrong)
    if method != "critique":
        return None
    pairs = [pair for record in read_records(run) if (pair := record.pair()) is not None]
    error = CRITIC_ERROR
    chances = [
        (1 - error) * _better(one, mended(one.rejected)) + error * _better(one, spoilt(one.rejected))
        for one in pairs
    ]
    return sum(chances) / len(chances) if chances else None


def echoes(evaluation: Path) -> list[Result]:
    """How many replies say the critic's ``REASON``: ``<policy>/critics_words``, before DPO and after it."""
    samples = read_samples(evaluation / "samples.jsonl")
    return [
        proportion(f"{label}/critics_words", [REASON in row["replies"][label]["text"] for row in samples])
        for label in ("sft", "dpo")
    ]


def _better(pair: PreferencePair, revised: str) -> float:
    """Whether the gold holds a revision of the pair's first reply for the better one; a tie is half."""
    before, after = Gold().score([pair.prompt] * 2, [pair.rejected, revised])
    return 0.5 + 0.5 * ((after > before) - (after < before))

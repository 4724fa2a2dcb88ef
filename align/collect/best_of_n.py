"""Best of n: several replies from one policy, ranked by a reward; the best against another of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Literal

from align.collect._bench import Abstained, Draft, judged
from align.collect._pooled import Pooled, read_pooled
from align.config import Range
from align.generation.pools import finished_places, pools_file
from align.settings import Positive

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth
    from align.protocols import Collecting
    from align.types import Judge, Prompt, Result

__all__ = ["BestOfN"]

Ranked = tuple[Draft, float]
"""A reply and its score."""


@dataclass(frozen=True)
class BestOfN:
    """Pairs from n samples a prompt, by score, as in rejection sampling and its kin (Touvron et al. 2023).

    A reply that was cut, or is blank, is neither chosen nor rejected: a policy would learn where the limit of
    tokens lies. Two that score alike make no pair.
    """

    n: Annotated[int, Range(low=2)] = 8
    """Replies to choose among."""
    pair: Literal["best_worst", "best_random", "margin"] = "best_worst"
    """The best against the worst, against one of the others by a draw, or the first two replies, in the order
    in which they were drawn, whose scores are ``margin`` apart."""
    margin: Positive = 1.0
    """In the reward's unit; for ``pair=margin``."""
    pools: str | None = None
    """A run of ``stage=best_of_n``, or its pools.jsonl, whose replies and scores are taken; none samples."""

    @property
    def starts_from(self) -> Literal["prompts"]:
        """Prompts."""
        return "prompts"

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """A policy and a reward, unless both were at work before."""
        return () if self.pools else ("writer", "reward")

    def open(self, bench: Bench) -> Collecting:
        """Reads the pools, or gets ready to sample and score.

        Raises:
            DataError: ``pools`` holds no pools.
        """
        if self.pools is None:
            return _Sampled(self, bench)
        path = pools_file(self.pools)
        bench.note("pools", str(path))
        return _Kept(self, *read_pooled(path))

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """What the scores say of themselves: see ``claimed``."""
        from align.collect._expected import claimed

        return claimed(found.records, truth)

    def outcome(self, prompt: Prompt, ranked: Sequence[Ranked], judge: Judge, rng: Random) -> Outcome:
        """One prompt's pair, or why there is none, from its finished replies in the order of drawing."""
        if len(ranked) < 2:
            return Abstained("not_ended", f"{len(ranked)} of {self.n} replies ended by themselves")
        two = self._two(ranked, rng)
        if two is None:
            return Abstained("margin_not_reached", f"no two scores are {self.margin:g} apart")
        (better, high), (worse, low) = two
        if high == low:
            return Abstained("tie", f"both score {high:g}")
        return judged(
            prompt,
            better.reply,
            worse.reply,
            judge,
            "best_of_n",
            margin=high - low,
            details={"scores": {"chosen": high, "rejected": low}, "ended": len(ranked)},
        )

    def _two(self, ranked: Sequence[Ranked], rng: Random) -> tuple[Ranked, Ranked] | None:
        """The better one first."""
        # max and min keep the first of equals
        best = max(ranked, key=lambda one: one[1])
        if self.pair == "best_worst":
            return best, min(ranked, key=lambda one: one[1])
        if self.pair == "best_random":
            return best, rng.choice([one for one in ranked if one is not best])
        for place, second in enumerate(ranked):
            for first in ranked[:place]:
                if abs(first[1] - second[1]) >= self.margin:
                    return (first, second) if first[1] > second[1] else (second, first)
        return None


class _Sampled:
    """Samples and scores."""

    def __init__(self, settings: BestOfN, bench: Bench) -> None:
        self.settings, self.bench = settings, bench

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        from align.evaluation.policies import scores_of
        from align.evaluation.statistics import finite

        n, rng = self.settings.n, Random(seed)
        each = [item.prompt for item in given for _ in range(n)]
        drafts = self.bench.writer().write(each, seed)
        texts = [draft.reply.text for draft in drafts]
        scores = finite(scores_of(self.bench.scorer(), each, texts), "the reward's scores").tolist()
        found: list[tuple[Outcome, ...]] = []
        for number, item in enumerate(given):
            mine = slice(number * n, (number + 1) * n)
            places = finished_places([(one.reply.text, one.ended) for one in drafts[mine]])
            ranked = [(drafts[mine][place], scores[mine][place]) for place in places]
            found.append((self.settings.outcome(item.prompt, ranked, self.bench.judge(), rng),))
        return found


class _Kept:
    """Takes what ``stage=best_of_n`` left."""

    def __init__(self, settings: BestOfN, pools: dict[Prompt, Pooled], judge: Judge) -> None:
        self.settings, self.pools, self.judge = settings, pools, judge

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        rng = Random(seed)
        return [(self._outcome(item.prompt, rng),) for item in given]

    def _outcome(self, prompt: Prompt, rng: Random) -> Outcome:
        pool = self.pools.get(prompt)
        if pool is None:
            return Abstained("not_in_pools")
        replies = pool.replies[: self.settings.n]
        places = finished_places([(one.text, end) for one, end in zip(replies, pool.ended, strict=False)])
        ranked = [(Draft(replies[place]), pool.scores[place]) for place in places]
        return self.settings.outcome(prompt, ranked, self.judge, rng)

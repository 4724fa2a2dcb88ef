"""Of a pool of pairs, those that are worth a person's time, unjudged: for ``stage=annotate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from align.errors import ConfigError
from align.settings import PositiveInt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth
    from align.protocols import Collecting
    from align.types import CandidatePair, Result

__all__ = ["Active"]


@dataclass(frozen=True)
class Active:
    """Chooses the pairs from whose judgement there is most to learn, or some that stand for all.

    Whatever judgement a pair came with is left behind: candidates/candidates.jsonl holds prompt and replies,
    the most worthwhile first, and in its details why a pair was chosen.
    """

    by: Literal["disagreement", "margin", "diversity", "random"] = "disagreement"
    """``disagreement``: an ensemble's members differ most on how likely the one reply is preferred.
    ``margin``: the reward's scores are closest. ``diversity``: farthest first, by word counts of prompt and
    replies. ``random``: the control."""
    choose: PositiveInt = 100
    """Pairs to choose, at most."""
    candidates: Literal["dataset", "sampled"] = "dataset"
    """The pool: the dataset's pairs, or two samples a prompt from ``model.path`` or ``server``."""

    @property
    def starts_from(self) -> Literal["prompts", "pairs"]:
        """Pairs, or prompts where the replies are sampled."""
        return "pairs" if self.candidates == "dataset" else "prompts"

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """What writes the pool and what scores it, where the settings ask for that."""
        writes: tuple[Literal["writer", "reward"], ...] = ("writer",) if self.candidates == "sampled" else ()
        return (*writes, "reward") if self.by in ("disagreement", "margin") else writes

    def open(self, bench: Bench) -> Collecting:
        """Nothing to load.

        Raises:
            ConfigError: ``by=disagreement`` with a reward that has no members.
        """
        from align.protocols import ScoresByMember

        if self.by == "disagreement" and not isinstance(bench.scorer(), ScoresByMember):
            raise ConfigError("by=disagreement asks the members of reward=ensemble: give that, or by=margin")
        return _Pooling(self, bench)

    def choose_from(self, candidates: Sequence[CandidatePair], seed: int) -> list[int]:
        """Places of the chosen ones, the most worthwhile first."""
        from align.collect._selection import drawn, farthest_first, smallest

        if not candidates:
            return []
        if self.by == "random":
            return drawn(len(candidates), self.choose, seed)
        if self.by == "diversity":
            (start,) = drawn(len(candidates), 1, seed)
            return farthest_first(_vectors(candidates), self.choose, start)
        if self.by == "margin":
            return smallest([abs(one.details["margin"]) for one in candidates], self.choose)
        return smallest([-one.details["disagreement"] for one in candidates], self.choose)

    def select(self, candidates: Sequence[CandidatePair], seed: int) -> list[Outcome]:
        """The chosen ones, then an abstention (``not_chosen``) for each of the others."""
        from align.collect._bench import Abstained

        places = self.choose_from(candidates, seed)
        left = len(candidates) - len(places)
        return [*(candidates[place] for place in places), *[Abstained("not_chosen")] * left]

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """The chosen pairs beside the whole pool, which is what a random choice would come to on average.

        ``active/radius`` and ``active/random_radius``: how far the farthest pair of the pool lies from the
        chosen, by word counts, and the mean of that over ten random choices. Where the truth is known,
        ``active/gold_gap`` and ``active/pool_gold_gap``: mean distance of the two replies by the truth; and
        ``active/reward_wrong`` and ``active/pool_reward_wrong``: how often the reward does not prefer the
        reply that the truth does, which is what there is to learn.
        """
        from align.types import CandidatePair

        pool = [one for one in found.outcomes if isinstance(one, CandidatePair)]
        if not found.candidates:
            return []
        results = _spread(found.candidates, pool)
        if truth is not None:
            results += _by_truth("active/", found.candidates, truth) + _by_truth("active/pool_", pool, truth)
        return results


class _Pooling:
    """A chunk's pairs with what the reward says of them: ``margin``, that of the members' mean where they
    are asked, and their ``disagreement``."""

    def __init__(self, settings: Active, bench: Bench) -> None:
        self.settings, self.bench = settings, bench

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        from align.collect._bench import Abstained, placed
        from align.collect._two import given_two, sampled_two
        from align.types import CandidatePair

        if self.settings.candidates == "dataset":
            twos = given_two(given)
        else:
            twos = sampled_two(given, self.bench.writer(), seed)
        pairs = [
            CandidatePair(item.prompt, placed(item.prompt, *two), "active")
            for item, two in zip(given, twos, strict=True)
            if not isinstance(two, Abstained)
        ]
        made = iter(self._scored(pairs))
        return [(two if isinstance(two, Abstained) else next(made),) for two in twos]

    def _scored(self, pairs: Sequence[CandidatePair]) -> list[CandidatePair]:
        import numpy as np

        from align.evaluation.policies import scores_of
        from align.evaluation.statistics import finite
        from align.protocols import ScoresByMember

        facts: list[dict[str, Any]] = [{} for _ in pairs]
        prompts = [pair.prompt for pair in pairs for _ in range(2)]
        texts = [reply.text for pair in pairs for reply in pair.replies]
        if "reward" in self.settings.needs and pairs:
            scorer = self.bench.scorer()
            apart = None
            if self.settings.by == "disagreement":
                assert isinstance(scorer, ScoresByMember), "looked at when the method was opened"
                said = [finite(one, "a member's scores") for one in scorer.score_by_member(prompts, texts)]
                members_MN2 = np.array(said).reshape(-1, len(pairs), 2)
                scores_N2, apart = members_MN2.mean(axis=0), disagreement(members_MN2).tolist()
            else:
                scores_N2 = finite(scores_of(scorer, prompts, texts), "the reward's scores").reshape(-1, 2)
            for place, (first, second) in enumerate(scores_N2.tolist()):
                facts[place]["margin"] = first - second
                if apart is not None:
                    facts[place]["disagreement"] = apart[place]
        chosen_by = {"chosen_by": self.settings.by}
        return [replace(pair, details={**chosen_by, **fact}) for pair, fact in zip(pairs, facts, strict=True)]


def disagreement(scores_MN2: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far M members are apart on each of N pairs: the deviation of their sigmoid(first - second).

    Of the probabilities of a preference, as Christiano et al. (2017, section 2.2.4) ask, and not of the score
    differences: those lie farthest apart where all members agree that one reply is much better.
    """
    import numpy as np

    gaps_MN = scores_MN2[:, :, 0] - scores_MN2[:, :, 1]
    apart_N: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -gaps_MN)).std(axis=0)
    return apart_N


def _vectors(pairs: Sequence[CandidatePair]) -> Any:
    from align.collect._selection import text_vectors

    return text_vectors(
        [" ".join([pair.prompt[-1].content, *(reply.text for reply in pair.replies)]) for pair in pairs]
    )


def _spread(chosen: Sequence[CandidatePair], pool: Sequence[CandidatePair]) -> list[Result]:
    from align.collect._selection import drawn, radius
    from align.evaluation.statistics import mean
    from align.types import Result

    vectors, places = _vectors(pool), {pair.pair_id: place for place, pair in enumerate(pool)}
    mine = radius(vectors, [places[pair.pair_id] for pair in chosen])
    others = [radius(vectors, drawn(len(pool), len(chosen), number)) for number in range(10)]
    return [
        Result("active/radius", mine, len(chosen), None, None, "exact"),
        mean("active/random_radius", others),
    ]


def _by_truth(label: str, pairs: Sequence[CandidatePair], truth: Truth) -> list[Result]:
    from align.evaluation.statistics import mean, proportion

    prompts = [pair.prompt for pair in pairs]
    first, second = (
        truth.gold.score(prompts, [pair.replies[side].text for pair in pairs]) for side in (0, 1)
    )
    gaps = [one - other for one, other in zip(first, second, strict=True)]
    results = [mean(f"{label}gold_gap", [abs(gap) for gap in gaps], prompts)]
    told = [
        (gap, pair.details["margin"])
        for gap, pair in zip(gaps, pairs, strict=True)
        if "margin" in pair.details
    ]
    if told:
        # a side that either holds to be no better counts half
        wrong = [0.5 if gap * margin == 0 else float(gap * margin < 0) for gap, margin in told]
        results.append(proportion(f"{label}reward_wrong", wrong, prompts))
    return results

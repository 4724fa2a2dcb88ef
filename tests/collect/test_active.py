"""The pairs that are worth a person's time, by each criterion, and what the report says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from benches import TRUTH, bench, found, pairs, toy_records

from align.collect._bench import Abstained, Collected
from align.collect.active import Active, disagreement
from align.errors import ConfigError
from align.protocols import Scorer
from align.types import CandidatePair, Prompt
from reward_models.gold import Gold


@dataclass(frozen=True)
class Two:
    """Two members: the gold, and the length of a reply in tens of words."""

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        gold, length = self.score_by_member(prompts, replies)
        return [(one + other) / 2 for one, other in zip(gold, length, strict=True)]

    def score_by_member(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[float]]:
        return [Gold().score(prompts, replies), [len(reply.split()) / 10 for reply in replies]]


def pool(method: Active, scorer: Scorer | None, count: int = 120) -> list[CandidatePair]:
    outcomes = method.open(bench(scorer))(pairs(toy_records(count)), 0)
    return [one for (one,) in outcomes if isinstance(one, CandidatePair)]


def gaps(candidates: Sequence[CandidatePair], member: int) -> list[float]:
    """First less second, by one of the two members."""
    found = []
    for one in candidates:
        scores = Two().score_by_member([one.prompt] * 2, [reply.text for reply in one.replies])[member]
        found.append(scores[0] - scores[1])
    return found


def test_a_candidate_leaves_its_judgement_behind():
    method = Active("random")
    for record, candidate in zip(toy_records(120), pool(method, None), strict=True):
        assert (candidate.prompt, candidate.replies) == (record.prompt, record.replies)
        assert (candidate.method, candidate.details) == ("active", {"chosen_by": "random"})


def test_the_closest_by_the_reward():
    method = Active("margin", choose=5)
    candidates = pool(method, Gold())
    margins = gaps(candidates, 0)
    assert [one.details["margin"] for one in candidates] == margins
    chosen = method.select(candidates, 0)
    closest = sorted(range(len(margins)), key=lambda place: (abs(margins[place]), place))[:5]
    assert chosen[:5] == [candidates[place] for place in closest]
    assert chosen[5:] == [Abstained("not_chosen")] * 115


def test_where_the_members_differ_most_on_the_pair():
    """The deviation of two probabilities is half their distance; the margin is that of the mean."""
    method = Active("disagreement", choose=5)
    candidates = pool(method, Two())
    both = list(zip(gaps(candidates, 0), gaps(candidates, 1), strict=True))
    assert [one.details["margin"] for one in candidates] == pytest.approx([(a + b) / 2 for a, b in both])
    apart = [abs(1 / (1 + math.exp(-one)) - 1 / (1 + math.exp(-other))) / 2 for one, other in both]
    assert [one.details["disagreement"] for one in candidates] == pytest.approx(apart)
    widest = sorted(range(len(apart)), key=lambda place: -apart[place])[:5]
    assert method.select(candidates, 0)[:5] == [candidates[place] for place in widest]


def test_members_who_are_sure_of_the_same_reply_do_not_disagree():
    """Margins of 10 and 20 are 10 apart, and one preference; -1 and 1 are two apart, and two."""
    sure, unsure = disagreement(np.array([[[10.0, 0.0], [-1.0, 0.0]], [[20.0, 0.0], [1.0, 0.0]]]))
    assert sure < 1e-4
    assert unsure == pytest.approx((1 / (1 + math.exp(-1)) - 1 / (1 + math.e)) / 2)


def test_diversity_leaves_a_smaller_radius_than_chance():
    method = Active("diversity", choose=15)
    candidates = pool(method, None)
    results = report(method, candidates)
    assert results["active/radius"] < results["active/random_radius"]


def test_random_is_seeded_and_says_what_the_pool_is():
    method = Active("random", choose=200)
    candidates = pool(method, None)
    assert method.select(candidates, 1) == method.select(candidates, 1)
    assert method.select(candidates, 1) != method.select(candidates, 2)
    results = report(method, candidates)
    # all are chosen
    assert results["active/radius"] == 0
    assert results["active/gold_gap"] == pytest.approx(results["active/pool_gold_gap"])


def test_the_report_by_hand():
    """The length of replies as reward: how often it errs, among the chosen and in the pool."""
    method = Active("margin", choose=40)
    length = Length()
    candidates = pool(method, length)
    results = report(method, candidates)
    chosen = [one for one in method.select(candidates, 0) if isinstance(one, CandidatePair)]
    for label, those in (("", chosen), ("pool_", candidates)):
        gold, mine = gaps(those, 0), [one.details["margin"] for one in those]
        wrong = [0.5 if g * m == 0 else float(g * m < 0) for g, m in zip(gold, mine, strict=True)]
        assert results[f"active/{label}reward_wrong"] == pytest.approx(sum(wrong) / len(wrong))
        assert results[f"active/{label}gold_gap"] == pytest.approx(sum(map(abs, gold)) / len(gold))


@dataclass(frozen=True)
class Length:
    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        return [float(len(reply)) for reply in replies]


def report(method: Active, candidates: list[CandidatePair]) -> dict[str, float]:
    from align.collect._loop import collected

    done = collected(method, [(one,) for one in map(with_ids, candidates)], 0)
    return {one.metric: one.value for one in method.report(done, TRUTH)}


def with_ids(candidate: CandidatePair) -> CandidatePair:
    return replace(candidate, pair_id=str(hash((candidate.prompt, candidate.replies[0].text))))


def test_what_each_criterion_needs():
    needs = {by: Active(by).needs for by in ("disagreement", "margin", "diversity", "random")}
    assert needs == {
        "disagreement": ("reward",),
        "margin": ("reward",),
        "diversity": (),
        "random": (),
    }
    sampled = Active("margin", candidates="sampled")
    assert (sampled.needs, sampled.starts_from) == (("writer", "reward"), "prompts")
    with pytest.raises(ConfigError, match="by=disagreement asks the members of reward=ensemble"):
        Active("disagreement").open(bench(Gold()))


def test_nothing_to_choose_from():
    assert Active().select([], 0) == []
    assert Active().report(Collected([], [], found([]).abstained, []), TRUTH) == []

"""From scores to advantages on numbers that are worked out in the comments, and what is remembered."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from align.errors import DataError, NonFiniteError
from align.packing.layout import ReplyGroup
from align.ppo.estimate import Memory, drift, estimate, first_memory
from align.ppo.rollout import Rollout
from align.ppo.settings import GaeSettings, GroupSettings, KlSettings, ScoreSettings
from align.ppo.shaping import FixedKl, RunningMoments
from align.tensors import SampledReply, TokenLogps

Rows = list[list[float]]
JUNK = 1e6
"""What stands behind a reply's end here; a number that it got into shows it."""

OLD: Rows = [[-1.0, -2.0, -1.0], [-1.0]]
REFERENCE: Rows = [[-1.5, -1.0, -1.0], [-3.0]]
VALUES: Rows = [[1.0, 0.5, 1.0], [0.3]]
SCORES = [2.0, -1.0]
"""Two replies, of three tokens and of one. The KL (k1) is 0.5, -1, 0 and 2: -0.5 and 2 nats a reply."""
KL = KlSettings(coef=0.1)
PLAIN = GaeSettings(gamma=1.0, lam=0.5, whiten=False)


def padded(rows: Rows) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[JUNK] * (width - len(row))] for row in rows])


def made(
    scores: list[float] = SCORES,
    *,
    old: Rows = OLD,
    reference: Rows | None = REFERENCE,
    values: Rows | None = VALUES,
    ended: list[bool] | None = None,
    replies: int = 1,
) -> Rollout:
    """A rollout of these numbers; reply i of prompt b is row i * B + b."""
    lengths = [len(row) for row in old]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    prompts = len(scores) // replies
    ids = [np.arange(length, dtype=np.int32) for length in lengths]
    groups = tuple(
        ReplyGroup(np.array([1], np.int32), tuple(ids[i * prompts + b] for i in range(replies)))
        for b in range(prompts)
    )
    return Rollout(
        groups=groups,
        replies=tuple(SampledReply("", tuple(one.tolist()), ended=True) for one in ids),
        scores_N=torch.tensor(scores),
        ended_N=torch.tensor(ended or [True] * len(scores)),
        old=TokenLogps(padded(old), mask),
        reference=None if reference is None else TokenLogps(padded(reference), mask),
        values_NT=None if values is None else padded(values),
    )


def worked_out(
    rollout: Rollout,
    *,
    memory: Memory | None = None,
    score: ScoreSettings | None = None,
    kl: KlSettings = KL,
    advantage: GaeSettings | GroupSettings = PLAIN,
) -> Any:
    return estimate(rollout, memory or first_memory(kl), score or ScoreSettings(), kl, advantage)


def close(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_gae_by_hand() -> None:
    """Errors of the first reply, from its end: 2 - 1 = 1; 0.1 + 1 - 0.5 = 0.6; -0.05 + 0.5 - 1 = -0.55.

    With lambda 0.5 its advantages are 1, 0.6 + 0.5 = 1.1 and -0.55 + 0.55 = 0. The second's is -1.2 - 0.3.
    """
    found = worked_out(made())
    close(found.rewards_NT, [[-0.05, 0.1, 2.0], [-1.2, 0.0, 0.0]])
    close(found.advantages.advantages_NT, [[0.0, 1.1, 1.0], [-1.5, 0.0, 0.0]])
    close(found.advantages.returns_NT, [[1.0, 1.6, 2.0], [-1.2, 0.0, 0.0]])


def test_a_discount_by_hand() -> None:
    """gamma 0.5, lambda 1, no critic's opinion: returns 2, 0.1 + 1, -0.05 + 0.55."""
    nothing = [[0.0, 0.0, 0.0], [0.0]]
    found = worked_out(made(values=nothing), advantage=GaeSettings(gamma=0.5, lam=1.0, whiten=False))
    close(found.advantages.returns_NT, [[0.5, 1.1, 2.0], [-1.2, 0.0, 0.0]])


def test_the_score_is_at_the_last_real_token_and_padding_holds_nothing() -> None:
    """A score at the row's end would be lost from the second reply."""
    found = worked_out(made(), kl=KlSettings(coef=0.0))
    close(found.rewards_NT, [[0.0, 0.0, 2.0], [-1.0, 0.0, 0.0]])


def test_the_kl_in_the_loss_leaves_the_reward_alone() -> None:
    kl = KlSettings(coef=0.1, place="loss", estimator="k3", controller="adaptive", target=0.5, horizon=10)
    found = worked_out(made(), kl=kl)
    close(found.rewards_NT, [[0.0, 0.0, 2.0], [-1.0, 0.0, 0.0]])
    assert found.memory.kl.coef == pytest.approx(0.104)  # and the controller sees it all the same


@pytest.mark.parametrize(
    ("estimator", "prices"),
    [
        ("k1", [0.5, -1.0, 0.0]),
        ("k2", [0.125, 0.5, 0.0]),
        ("k3", [math.exp(-0.5) - 0.5, math.e - 2, 0.0]),
        ("abs", [0.5, 1.0, 0.0]),
    ],
)
def test_the_price_of_a_token_is_what_the_estimator_says(estimator: Any, prices: list[float]) -> None:
    found = worked_out(made(), kl=KlSettings(coef=0.1, estimator=estimator))
    close(found.rewards_NT[0], [-0.1 * prices[0], -0.1 * prices[1], 2.0 - 0.1 * prices[2]])
    assert drift(made()).tolist() == [-0.5, 2.0]  # the metric and the controller have k1, whatever is paid


def test_the_controller_moves_after_the_iteration_that_it_saw() -> None:
    """The mean KL is 0.75 against 0.5: half too much, cut to a fifth; two replies of a horizon of ten."""
    kl = KlSettings(coef=0.1, controller="adaptive", target=0.5, horizon=10)
    first = worked_out(made(), kl=kl)
    close(first.rewards_NT[1, 0], -1.2)
    assert first.memory.kl.coef == pytest.approx(0.1 * 1.04)
    second = worked_out(made(), kl=kl, memory=first.memory)
    close(second.rewards_NT[1, 0], -1.0 - 0.104 * 2)
    assert second.memory.kl.coef == pytest.approx(0.1 * 1.04**2)


def test_without_a_reference_nothing_is_paid_and_nothing_moves() -> None:
    found = worked_out(made(reference=None), kl=KlSettings(coef=0.0))
    close(found.rewards_NT, [[0.0, 0.0, 2.0], [-1.0, 0.0, 0.0]])
    assert found.memory.kl == FixedKl(0.0)


@pytest.mark.parametrize(("unbiased", "count"), [(True, 3), (False, 4)])
def test_whitening_is_over_tokens_and_spares_the_returns(unbiased: bool, count: int) -> None:
    """Advantages 0, 1.1, 1, -1.5: mean 0.15, squared deviations 0.0225 + 0.9025 + 0.7225 + 2.7225 = 4.37."""
    found = worked_out(made(), advantage=replace(PLAIN, whiten=True, unbiased=unbiased))
    deviation = (4.37 / count) ** 0.5
    expected = [[-0.15, 0.95, 0.85], [-1.65, 0.0, 0.0]]
    close(
        found.advantages.advantages_NT * deviation,
        expected,
    )
    close(found.advantages.returns_NT, [[1.0, 1.6, 2.0], [-1.2, 0.0, 0.0]])


def test_advantages_may_be_whitened_around_their_mean() -> None:
    """The same numbers with their mean of 0.15 put back."""
    around = replace(PLAIN, whiten=True, shift_mean=False)
    kept, taken = (
        worked_out(made(), advantage=one).advantages.advantages_NT
        for one in (around, replace(around, shift_mean=True))
    )
    close(kept - taken, [[0.15, 0.15, 0.15], [0.15, 0.0, 0.0]])


def test_whitening_may_leave_the_mean() -> None:
    """The same, 0.15 added back."""
    found = worked_out(made(), advantage=replace(PLAIN, whiten=True, shift_mean=False))
    scaled = (found.advantages.advantages_NT - 0.15) * (4.37 / 3) ** 0.5
    close(scaled[0], [-0.15, 0.95, 0.85])
    close(scaled[1, :1], [-1.65])


def test_whitened_rewards_keep_their_mean() -> None:
    """Rewards 0, 0, 3 and 1: mean 1, variance (1 + 1 + 4 + 0) / 3 = 2; from 1, each is 1/sqrt 2 as far."""
    nothing = [[0.0, 0.0, 0.0], [0.0]]
    advantage = GaeSettings(lam=1.0, whiten=False, whiten_rewards=True)
    found = worked_out(made([3.0, 1.0], values=nothing), kl=KlSettings(coef=0.0), advantage=advantage)
    low, high = 1 - 0.5**0.5, 1 + 2 * 0.5**0.5
    close(found.advantages.returns_NT, [[2 * low + high, low + high, high], [1.0, 0.0, 0.0]])


def test_one_token_cannot_be_whitened() -> None:
    with pytest.raises(DataError, match=r"2 real tokens at least, got 1: .*advantage\.whiten=false"):
        worked_out(
            made([1.0], old=[[-1.0]], reference=None, values=[[0.0]]), advantage=GaeSettings(whiten=True)
        )


@pytest.mark.parametrize(("how", "score"), [("none", 2.0), ("subtract", 0.5), ("replace", -1.5)])
def test_a_reply_that_did_not_end_pays(how: Any, score: float) -> None:
    """The first was cut, the second ended by itself."""
    settings = ScoreSettings(missing_end=how, penalty=1.5)
    found = worked_out(made(ended=[False, True]), score=settings, kl=KlSettings(coef=0.0))
    close(found.rewards_NT.sum(-1), [score, -1.0])


def test_scores_are_normalised_by_all_that_were_seen() -> None:
    """1 and 3: mean 2, deviation sqrt 2. With 5 and 7 after them: mean 4, deviation sqrt(20 / 3)."""
    score, kl = ScoreSettings(normalise="standard"), KlSettings(coef=0.0)
    first = worked_out(made([1.0, 3.0]), score=score, kl=kl)
    close(first.rewards_NT.sum(-1), [-(0.5**0.5), 0.5**0.5])
    second = worked_out(made([5.0, 7.0]), score=score, kl=kl, memory=first.memory)
    close(second.rewards_NT.sum(-1), [(3 / 20) ** 0.5, 3 * (3 / 20) ** 0.5])
    scaled = worked_out(made([5.0, 7.0]), score=replace(score, normalise="scale"), kl=kl, memory=first.memory)
    close(scaled.rewards_NT.sum(-1), [5 * (3 / 20) ** 0.5, 7 * (3 / 20) ** 0.5])
    assert second.memory.moments.count == 4


def test_the_order_is_penalty_then_normalisation_then_clip_then_kl() -> None:
    """1 was cut and counts as -3; with 3: mean 0, deviation sqrt 18; -0.707 and 0.707, both cut at 0.5.

    The KL is paid in full after that: -0.5 - 0.1 * -0.5, and 0.5 - 0.1 * 2.
    """
    score = ScoreSettings(missing_end="replace", penalty=3.0, normalise="standard", clip=0.5)
    found = worked_out(made([1.0, 3.0], ended=[False, True]), score=score)
    close(found.rewards_NT.sum(-1), [-0.45, 0.3])
    assert found.memory.moments == RunningMoments(2, 0.0, 18.0)


GROUPS = {"old": [[-1.0, -1.0], [-2.0], [-1.0], [-1.0, -3.0]], "values": None, "replies": 2}
"""Two prompts with two replies: rows 0 and 2 are the first's, 1 and 3 the second's."""
PAID = [[-2.0, -1.0], [-2.0], [-1.0], [-1.0, -1.0]]
"""A reference from which those replies are 1, 0, 0 and -2 nats away."""


def test_leave_one_out_by_hand() -> None:
    """Rewards 1 - 0.1, 10, 3 and 4 + 0.2: each less the other of its prompt, at every token."""
    found = worked_out(
        made([1.0, 10.0, 3.0, 4.0], reference=PAID, **GROUPS),
        advantage=GroupSettings(),
    )
    close(found.advantages.advantages_NT, [[-2.1, -2.1], [5.8, 0.0], [2.1, 0.0], [-5.8, -5.8]])


@pytest.mark.parametrize(
    ("scale", "divisors"),
    [("none", (1.0, 1.0)), ("group", (2**0.5 + 1e-4, 18**0.5 + 1e-4)), ("batch", (15**0.5 + 1e-4,) * 2)],
)
def test_group_means_by_hand(scale: Any, divisors: tuple[float, float]) -> None:
    """Scores 1 and 3, 10 and 4: 1 and 3 away from their means 2 and 7, with variances 2 and 18.

    All four have the mean 4.5 and the variance (12.25 + 30.25 + 2.25 + 0.25) / 3 = 15.
    """
    found = worked_out(
        made([1.0, 10.0, 3.0, 4.0], reference=None, **GROUPS),
        kl=KlSettings(coef=0.0),
        advantage=GroupSettings(baseline="group_mean", scale=scale),
    )
    a, b = 1 / divisors[0], 3 / divisors[1]
    close(found.advantages.advantages_NT, [[-a, -a], [b, 0.0], [a, 0.0], [-b, -b]])


def test_whitened_group_advantages_are_whitened_by_reply() -> None:
    """-2, 6, 2, -6 by leave-one-out: mean 0, variance 80 / 3, a reply counting once however long it is."""
    found = worked_out(
        made([1.0, 10.0, 3.0, 4.0], reference=None, **GROUPS),
        kl=KlSettings(coef=0.0),
        advantage=GroupSettings(whiten=True),
    )
    scaled = found.advantages.advantages_NT * (80 / 3) ** 0.5
    close(scaled, [[-2.0, -2.0], [6.0, 0.0], [2.0, 0.0], [-6.0, -6.0]])


@pytest.mark.parametrize("controller", ["fixed", "adaptive"])
def test_memory_comes_back_from_json_to_the_bit(controller: Any) -> None:
    kl = KlSettings(coef=0.1, controller=controller, target=0.3, horizon=7)
    score = ScoreSettings(normalise="standard")
    memory = first_memory(kl)
    for shift in (0.1, 1 / 3, 2**0.5):
        memory = worked_out(made([shift, -shift * 7]), kl=kl, score=score, memory=memory).memory
    again = first_memory(kl).restored(json.loads(json.dumps(memory.plain())))
    assert again == memory
    assert (memory.kl.coef == 0.1) == (controller == "fixed")
    ours, theirs = (worked_out(made(), kl=kl, score=score, memory=one) for one in (again, memory))
    assert torch.equal(ours.advantages.advantages_NT, theirs.advantages.advantages_NT)


def test_a_score_that_is_no_number_stops_here() -> None:
    with pytest.raises(NonFiniteError):
        worked_out(made([1.0, float("nan")]))

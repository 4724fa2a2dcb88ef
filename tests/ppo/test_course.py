"""Iterations as the loop takes them, on tiny models: what the first must show, how many updates, of what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from groups import gradients
from iterations import (
    PPO,
    RLOO,
    STOPS,
    Counted,
    Indifferent,
    Made,
    demonstrations,
    iterations,
)
from tiny_architectures import ARCHITECTURES

from align.errors import NonFiniteError
from align.packing.layout import ReplyGroup
from align.ppo import asking
from align.ppo.settings import KlSettings, Recipe, RolloutSettings, ScoreSettings
from align.tensors import SampledReply
from align.training.sampler import Sampler


def of(recipe: Recipe = PPO, *, old: str = "recomputed", **objective: Any) -> Recipe:
    """The recipe with another objective; where old log-probabilities come from."""
    return replace(
        recipe,
        rollout=replace(recipe.rollout, old_logps=old),
        objective=replace(recipe.objective, **objective),
    )


# Before anything has moved (temperature 0.7 for policy and reference alike)


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_sampled_is_what_an_update_finds(architecture: str, lora: bool) -> None:
    """Log-probabilities written down while sampling are those of a training pass, to rounding."""
    found = iterations(of(old="sampled"), architecture=architecture, lora=lora).take()
    assert found["rollout/logps_gap"] < 1e-5
    assert found["policy/ratio"] == pytest.approx(1, abs=1e-5)
    assert found["policy/clip_fraction"] == 0
    assert abs(found["rollout/kl"]) < 1e-4
    assert 3 < found["rollout/length"] < 12


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_recomputed_is_what_an_update_finds_to_the_last_bit(architecture: str, lora: bool) -> None:
    """The reference has the policy's weights and is asked in the same layout: no drift, either."""
    found = iterations(of(), architecture=architecture, lora=lora).take()
    assert found["rollout/logps_gap"] == found["policy/approx_kl"] == found["rollout/kl"] == 0.0
    assert found["policy/ratio"] == 1.0
    assert found["policy/clip_fraction"] == found["value/clip_fraction"] == 0.0


@pytest.mark.parametrize("recipe", [PPO, RLOO], ids=["ppo", "rloo"])
@pytest.mark.parametrize("micro", [None, 1])
def test_the_first_minibatch_of_several_is_exact_too(recipe: Recipe, micro: int | None) -> None:
    """Later ones have moved, and do not count in the gap."""
    made = iterations(of(recipe, epochs=2, minibatches=2), micro_batch_size=micro)
    taken = made.course.take(1, made.trained, lambda _phase: None)
    assert taken.metrics["rollout/logps_gap"] == (0.0, 1.0 if micro is None else 2.0)
    assert taken.metrics["policy/approx_kl"][0] > 0


def test_another_temperature_for_the_reference_shows_as_drift() -> None:
    """Sampled at 0.7, asked at 1: where the two log-probabilities differ, so does the KL of equal models."""
    alike = iterations(of(old="sampled")).take()
    apart = iterations(of(old="sampled"), trained_at=1.0).take()
    assert abs(alike["rollout/kl"]) < 1e-4
    assert apart["rollout/kl"] > 0.05
    assert apart["rollout/logps_gap"] > 0.01


def test_importance_weights_correct_for_another_sampler() -> None:
    """Sampled at 0.7 and trained at 1, tokens weigh what the two say of them; sampled alike, they weigh 1."""
    recipe = of(epochs=1, minibatches=1)
    capped = replace(recipe, rollout=replace(recipe.rollout, importance_cap=1.2))
    alike, weighed_alike = iterations(recipe).take(), iterations(capped).take()
    assert weighed_alike["policy/loss"] == pytest.approx(alike["policy/loss"], abs=1e-5)
    apart, weighed = (iterations(one, trained_at=1.0).take() for one in (recipe, capped))
    assert abs(weighed["policy/loss"] - apart["policy/loss"]) > 2e-4
    assert weighed["grad_norm"] != pytest.approx(apart["grad_norm"], rel=1e-3)


def test_dropout_left_on_shows() -> None:
    """In training mode a pass of the update is another one than that of the rollout."""
    found = iterations(of(), architecture="gpt2", dropout=0.1).take()
    assert found["rollout/logps_gap"] > 0.01
    assert found["policy/approx_kl"] > 1e-5
    assert found["rollout/kl"] == 0.0  # no dropout while a rollout is judged


def test_values_heard_while_sampling_are_those_of_a_pass() -> None:
    """The same weights and replies, and a head that is not zero."""
    recipes = (of(old="sampled"), of(old="recomputed"))
    found = []
    for recipe in recipes:
        made = iterations(recipe)
        with torch.no_grad():
            made.course.actor.model.critic.linear.weight.normal_(
                std=0.3, generator=torch.Generator().manual_seed(3)
            )
        found.append(made.take())
    heard, asked = found
    assert heard["value/mean"] == pytest.approx(asked["value/mean"], abs=1e-5)
    assert abs(asked["value/mean"]) > 1e-2
    assert heard["loss"] == pytest.approx(asked["loss"], rel=1e-4)


def test_padding_that_also_ends_a_reply_changes_nothing() -> None:
    """Masks say what is padding: token 0 ends replies here, 299 does not, and either may fill a row."""
    assert 0 in STOPS
    assert 299 not in STOPS
    scorer = Counted()
    found = iterations(of(epochs=2), padded_with=0, scorer=scorer).take()
    assert found == iterations(of(epochs=2), padded_with=299).take()
    lengths = [len(reply.split()) for _, reply in scorer.asked]
    assert found["rollout/length"] == sum(lengths) / 4  # the token that ends a reply is one of it
    ended = [int(reply.split()[-1]) in STOPS for _, reply in scorer.asked]
    assert 0 < found["rollout/ended"] == sum(ended) / 4
    assert len(set(lengths)) > 1
    packed = iterations(of(epochs=2)).take()
    assert packed["loss"] == pytest.approx(found["loss"], rel=1e-4)


@pytest.mark.parametrize("old", ["sampled", "recomputed"])
def test_the_value_head_starts_at_zero(old: str) -> None:
    made = iterations(of(old=old))
    first, second = made.take(1), made.take(2)
    assert first["value/mean"] == 0.0
    assert first["value/explained_variance"] == 0.0
    assert second["value/mean"] != 0.0


# What an iteration is made of


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (3, 2), (2, 4)])
def test_every_epoch_takes_every_minibatch(epochs: int, minibatches: int) -> None:
    made = iterations(of(epochs=epochs, minibatches=minibatches))
    steps = []
    made.trained.engine.optimiser.register_step_post_hook(lambda *_: steps.append(1))
    taken = made.course.take(1, made.trained, lambda _phase: None)
    assert taken.metrics["updates"] == (epochs * minibatches, 1.0)
    assert len(steps) == epochs * minibatches
    tokens = taken.metrics["rollout/length"][0]
    assert taken.metrics["policy/ratio"][1] == epochs * tokens


def test_an_update_that_moved_too_far_ends_the_iteration() -> None:
    """The first minibatch has not moved and cannot end it; the second has, by more than nothing."""
    made = iterations(of(epochs=3, minibatches=2, target_kl=1e-12))
    assert made.take()["updates"] == 2
    assert iterations(of(epochs=3, minibatches=2, target_kl=100.0)).take()["updates"] == 6
    assert made.take(2)["updates"] == 2  # the next iteration begins anew


def test_replies_are_scored_and_compared_with_their_own_prompts() -> None:
    """Two replies to each of four prompts: texts name their tokens, so a swapped prompt would show."""
    scorer = Counted()
    made = iterations(of(RLOO), scorer=scorer)
    seen = []
    judge = made.course._judge
    made.course._judge = lambda *rest: seen.append(judge(*rest)) or seen[-1]  # type: ignore[method-assign]
    made.take()
    (rollout,) = seen
    prompts = [" ".join(map(str, group.prompt_ids)) for group in rollout.groups]
    assert [prompt for prompt, _ in scorer.asked] == [*prompts, *prompts]
    written = [group.replies[order] for order in (0, 1) for group in rollout.groups]
    assert [reply for _, reply in scorer.asked] == [" ".join(map(str, ids)) for ids in written]
    assert rollout.scores_N.tolist() == [float(len(ids)) for ids in written]
    assert rollout.mask_NT.sum(-1).tolist() == [len(ids) for ids in written]
    assert rollout.ended_N.tolist() == [int(ids[-1]) in STOPS for ids in written]


def test_the_prompts_and_the_draws_of_an_iteration_are_its_own() -> None:
    def asked(step: int) -> list[tuple[str, str]]:
        scorer = Counted()
        iterations(scorer=scorer).take(step)
        return scorer.asked

    assert asked(2) == asked(2)
    assert {prompt for prompt, _ in asked(1)} != {prompt for prompt, _ in asked(2)}
    assert len(set(asked(1))) == 4


def test_group_advantages_see_no_other_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is worth hundreds, a reply of it one or two more: leave-one-out leaves plus and minus one."""

    def one_or_two(policy: Any, ids: Any, *rest: Any, **more: Any) -> list[SampledReply]:
        count = len(ids) // 2
        return [SampledReply("", (40,) * (1 + row // count), ended=False) for row in range(len(ids))]

    class ByPrompt:
        def score(self, prompts: Any, replies: Any) -> list[float]:
            half = len(prompts) // 2
            return [100.0 * len(prompt[-1].content) + row // half for row, prompt in enumerate(prompts)]

    monkeypatch.setattr(asking, "sample_tokens", one_or_two)
    recipe = replace(RLOO, kl=KlSettings(coef=0.0))
    found = iterations(recipe, scorer=ByPrompt()).take()
    # four replies of one token at -1, four of two tokens at +1
    assert found["advantages/mean"] == pytest.approx((8 - 4) / 12)
    assert found["advantages/std"] == pytest.approx((1 - 1 / 9) ** 0.5)


def test_a_reply_that_does_not_end_is_seen_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four end. Scores are their lengths 1, 2, 3, 4; those that were cut count as -5 each."""
    endings = [STOPS[0], 40, STOPS[1], 40]

    def written(policy: Any, ids: Any, *rest: Any, **more: Any) -> list[SampledReply]:
        rows = [(50,) * place + (last,) for place, last in enumerate(endings)]
        texts = [" ".join(map(str, row)) for row in rows]
        return [
            SampledReply(text, row, ended=row[-1] in STOPS) for text, row in zip(texts, rows, strict=True)
        ]

    monkeypatch.setattr(asking, "sample_tokens", written)
    recipe = replace(PPO, kl=KlSettings(coef=0.0), score=ScoreSettings(missing_end="replace", penalty=5.0))
    found = iterations(recipe).take()
    assert found["rollout/ended"] == 0.5
    assert found["rollout/score"] == 2.5  # as the reward model gave them
    assert found["rollout/reward"] == pytest.approx((1 - 5 + 3 - 5) / 4)
    spared = iterations(replace(recipe, score=ScoreSettings())).take()
    assert spared["rollout/reward"] == spared["rollout/score"] == 2.5


def test_advantages_are_whitened_or_left() -> None:
    whitened = iterations().take()
    assert whitened["advantages/mean"] == pytest.approx(0, abs=1e-6)
    tokens = 4 * whitened["rollout/length"]
    assert whitened["advantages/std"] == pytest.approx(((tokens - 1) / tokens) ** 0.5, rel=1e-5)
    left = iterations(replace(PPO, advantage=replace(PPO.advantage, whiten=False))).take()
    assert abs(left["advantages/mean"]) > 0.1


def test_values_are_clipped_once_they_have_moved() -> None:
    """A head that runs after returns of about ten leaves the range of 0.2 at once; without one, never."""
    passes = {"epochs": 6, "minibatches": 1}
    assert iterations(of(**passes), learning_rate=0.1).take()["value/clip_fraction"] > 0.1
    free = replace(of(**passes), critic=replace(PPO.critic, value_clip=None))  # type: ignore[type-var]
    assert iterations(free, learning_rate=0.1).take()["value/clip_fraction"] == 0.0


def test_a_reference_that_nothing_asks_is_not_opened() -> None:
    found = iterations(replace(PPO, kl=KlSettings(coef=0.0))).take()
    assert "rollout/kl" not in found
    assert found["rollout/reward"] == pytest.approx(found["rollout/score"])


def test_entropy_is_measured_where_it_counts() -> None:
    assert "policy/entropy" not in iterations(of()).take()
    assert iterations(of(entropy_coef=0.1)).take()["policy/entropy"] > 1


def test_a_score_that_is_no_number_is_named() -> None:
    class Broken:
        def score(self, prompts: Any, replies: Any) -> list[float]:
            return [1.0] * (len(replies) - 1) + [float("nan")]

    with pytest.raises(NonFiniteError, match="prompt "):
        iterations(scorer=Broken()).take()


# Imitation beside the reward (PPO-ptx)


@pytest.mark.parametrize("micro", [None, 1])
@pytest.mark.parametrize("mean", ["token", "sequence", "fixed_length"])
def test_imitation_alone_has_the_gradient_of_imitation(mean: Any, micro: int | None) -> None:
    """Every reply is worth the same, so nothing else pulls; the mean is over imitated tokens."""
    recipe = replace(RLOO, kl=KlSettings(coef=0.0), objective=of(ptx_coef=0.3, mean=mean).objective)
    made = iterations(recipe, scorer=Indifferent(), micro_batch_size=micro)
    imitated = [demonstrations()[index] for index in Sampler(0, 4, 5).batch(1)]
    expected, nll = imitation(made, imitated)
    found = made.take()
    assert found["policy/loss"] == 0.0
    assert found["policy/ptx_loss"] == pytest.approx(nll, rel=1e-5)
    own = torch.cat([one.grad.flatten() for one in made.trained.parameters.values() if one.grad is not None])
    assert float((own - 0.3 * expected).norm() / (0.3 * expected).norm()) < 1e-5
    assert found["loss"] == pytest.approx(0.3 * nll, rel=1e-5)


def imitation(made: Made, imitated: list[Any]) -> tuple[Any, float]:
    """Gradient and value of the mean negative log-likelihood of a token, one plain pass at a time."""
    total, tokens = torch.zeros(()), 0
    for one in imitated:
        groups = [ReplyGroup(one.prompt_ids, (one.reply_ids,))]
        total = total - made.course.actor.forward.logps(groups).sums_B().sum()
        tokens += len(one.reply_ids)
    return gradients(made.trained.model, total / tokens), float(total.detach()) / tokens


def test_each_update_imitates_the_next_demonstrations() -> None:
    """Three iterations of four updates of one demonstration each: all five in turn, then again."""
    made = iterations(of(epochs=1, minibatches=4, ptx_coef=1.0))
    seen = []
    shares = made.course._shares

    def kept(*rest: Any) -> Any:
        found = shares(*rest)
        seen.extend(int(one.demonstration.id) for one in found if one.demonstration is not None)
        return found

    made.course._shares = kept  # type: ignore[method-assign]
    for step in (1, 2, 3):
        assert "policy/ptx_loss" in made.take(step)
    assert sorted(seen[:5]) == sorted(seen[5:10]) == [0, 1, 2, 3, 4]
    assert "policy/ptx_loss" not in iterations(of()).take()


# What is kept from iteration to iteration


def test_two_iterations_are_one_and_another_that_remembers() -> None:
    """The second is taken by a course that was told the state of the first through JSON."""
    recipe = replace(
        of(epochs=2, minibatches=2),
        kl=KlSettings(coef=0.1, controller="adaptive", target=0.01, horizon=20),
        score=ScoreSettings(normalise="standard"),
        rollout=RolloutSettings(replies=2),
    )
    whole = iterations(recipe)
    whole.take(1)
    state = json.loads(json.dumps(whole.course.state()))
    generator = torch.get_rng_state()
    expected = whole.take(2)
    again = iterations(recipe)
    again.take(1)
    again.course = replace(again.course, memory=iterations(recipe).course.memory)
    again.course.restore(state)
    torch.set_rng_state(generator)
    assert again.take(2) == expected
    assert expected["kl_coef"] != 0.1
    forgetful = iterations(recipe)
    forgetful.take(1)
    forgetful.course = replace(forgetful.course, memory=iterations(recipe).course.memory)
    torch.set_rng_state(generator)
    assert forgetful.take(2) != expected


def test_metrics_of_an_iteration_are_numbers() -> None:
    found = iterations(of(RLOO, ptx_coef=0.1, entropy_coef=0.1, epochs=2, minibatches=2)).take()
    assert all(np.isfinite(value) for value in found.values())
    assert found["rollout/equal_groups"] <= 1
    assert 0 < found["rollout/distinct_2"] <= 1

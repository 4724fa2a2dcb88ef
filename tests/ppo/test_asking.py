"""What an iteration asks, and which passes it is spared because sampling has answered already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from iterations import PPO, iterations

from align.packing.forward import Packed
from align.ppo.settings import Recipe


def from_where(old: str) -> Recipe:
    return replace(PPO, rollout=replace(PPO.rollout, old_logps=old))


def test_each_step_draws_replies_of_its_own_and_the_same_ones_again() -> None:
    """Of the same prompts and weights: else a second look at a prompt would teach nothing new."""
    asking = iterations().course.asking
    said = [asking.sample([0, 1, 2], step).replies for step in (1, 2, 1)]
    assert said[0] == said[2]
    assert all(one.token_ids != other.token_ids for one, other in zip(said[0], said[1], strict=True))
    assert replace(asking, seed=1).sample([0, 1, 2], 1).replies != said[0]


@pytest.mark.parametrize(("old", "passes"), [("sampled", 0), ("recomputed", 1)])
def test_what_was_heard_while_sampling_takes_no_pass(
    old: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probabilities and values of a shared critic; the reference's pass asks for no values."""
    asked: list[bool] = []
    outlook = Packed.outlook

    def counted(self: Packed, groups: Any, *rest: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled() and more.get("value_head") is not None:
            asked.append(True)
        return outlook(self, groups, *rest, **more)

    monkeypatch.setattr(Packed, "outlook", counted)
    recipe = from_where(old)
    made = iterations(replace(recipe, objective=replace(recipe.objective, epochs=1, minibatches=1)))
    made.take()
    assert len(asked) == passes

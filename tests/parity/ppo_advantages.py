"""Advantage estimates with a critic and without, and whitening."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from torch import Tensor

from align.ppo.advantages import (
    WHITEN_EPS,
    discounted_returns,
    gae,
    group_relative,
    leave_one_out,
    spread,
    whiten,
)
from align.ppo.shaping import clip_scores, kl_NT, shape_rewards


def run_gae(case: Case) -> None:
    x, p, name = leaves(case), case["params"], function(case)
    rewards, values = x.get("rewards", x.get("token_level_rewards")), x["values"]
    everything = torch.ones_like(values, dtype=torch.bool)
    lam = next(p[key] for key in ("lam", "lambd", "lmbda") if key in p)
    inside, real, how = everything, everything, {}
    if name == "RemoteExperienceMaker.get_advantages_and_returns":  # OpenRLHF whitens elsewhere
        inside = real = x["action_mask"]
        how = None
    elif name == "PPOConfig.get_advantages_and_returns":  # trlx has no mask
        how = {} if p["use_whitening"] else None
    elif name == "PPOTrainer.compute_advantages":  # trl 0.11
        inside = real = x["mask"].bool()
        if p["whiten_rewards"] and not bool(real.all()):
            raise NotOffered(
                "trl 0.11 whitens the rewards of padding too, which leak into the advantages of real tokens"
            )
    elif name == "estimate_advantages":  # torchtune's padding comes zeroed; its shift_mean is turned round
        real = x["masks"].bool() if "masks" in x else everything
        how = {"shift_mean": False}
    elif name == "PPOTrainer._estimate_advantage":  # alpaca_farm
        how = {"unbiased": False}
    elif name == "compute_gae_advantage_return":  # verl
        inside = real = x["response_mask"].bool()
    else:
        raise KeyError(name)
    if p.get("whiten_rewards"):
        rewards = whiten(rewards, inside, **{**how, "shift_mean": False})
    estimate = gae(rewards, values, inside, p["gamma"], lam)
    advantages = estimate.advantages_NT if how is None else whiten(estimate.advantages_NT, real, **how)
    out = Outputs(case)
    out.check("values", values, inside)
    out.check("returns", estimate.returns_NT, inside)
    out.check("advantages", advantages, real)
    out.done()


def run_whiten(case: Case) -> None:
    x, name = leaves(case), function(case)
    out = Outputs(case)
    if name == "masked_normalize":  # one row at a time, or all
        by_row = case["params"].get("dim") is not None
        rows = zip(x["tensor"], x["mask"], strict=True) if by_row else [(x["tensor"], x["mask"])]
        whitened = [whiten(values[None], mask[None], unbiased=False)[0] for values, mask in rows]
        out.check("out", torch.stack(whitened) if by_row else whitened[0], x["mask"])
    elif name == "masked_mean/masked_var/masked_whiten":
        values, mask = x["values"], x["mask"].bool()
        shifted, kept = whiten(values, mask), whiten(values, mask, shift_mean=False)
        out.check("whiten", shifted, mask)
        out.check("whiten_no_shift", kept, mask)
        out.check("mean", (kept - shifted)[mask].mean())  # what shift_mean took off
        rows = [
            whiten(row[None], real[None], shift_mean=False, unbiased=False)[0][real].mean()
            for row, real in zip(values, mask, strict=True)
        ]
        out.check("mean_axis1", torch.stack(rows))
        centred = values[mask] - values[mask].mean()
        for key, unbiased in (("var", True), ("var_biased", False)):  # what they were divided by
            scaled = whiten(values, mask, unbiased=unbiased)[mask]
            out.check(key, (centred.norm() / scaled.norm()) ** 2 - WHITEN_EPS)
    else:
        raise KeyError(name)
    out.done()


def to_ours(adjacent: Tensor, replies: int) -> Tensor:
    """Rows with a prompt's replies side by side, as reply i of prompt b in row i·B + b."""
    return adjacent.unflatten(0, (-1, replies)).transpose(0, 1).flatten(0, 1)


def to_theirs(ours: Tensor, replies: int) -> Tensor:
    return ours.unflatten(0, (replies, -1)).transpose(0, 1).flatten(0, 1)


def trl_grpo(case: Case) -> None:
    """Several scores a reply, some missing; a reply without any takes no part."""
    x, p = leaves(case), case["params"]
    replies, weights = p["num_generations"], p["reward_weights"]
    scores_NF = to_ours(x["rewards_per_func"], replies)
    scored_NF = ~scores_NF.isnan()
    scored_N = scored_NF.any(-1)
    if p["multi_objective_aggregation"] == "normalize_then_sum":  # GDPO: the batch then is one group
        summed = sum(
            weight * group_relative(scores_NF[:, place], replies, "group", scored_NF[:, place])
            for place, weight in enumerate(weights)
        )
        ours = group_relative(summed, len(summed), "group", scored_N)
    else:
        scores_N = scores_NF.nan_to_num() @ torch.tensor(weights, dtype=scores_NF.dtype)
        ours = group_relative(scores_N, replies, p["scale_rewards"], scored_N)
    out = Outputs(case)
    out.check("advantages", to_theirs(ours, replies))
    out.done()


def trl_rloo(case: Case) -> None:
    """The KL of the whole reply is taken off its score first."""
    x, p = leaves(case), case["params"]
    replies, scores, limits = p["num_generations"], x["rewards"], p.get("reward_clip_range")
    if limits and limits[0] != -limits[1]:
        raise NotOffered("scores are clipped to ±limit here, not to a range that is not symmetric")
    scores = clip_scores(scores, limits[1] if limits else None)
    mask = x["completion_mask"].bool()
    kl_N = kl_NT(x["old_per_token_logps"], x["ref_per_token_logps"], "k1", mask).sum(-1)
    scores_N = to_ours(scores - p["beta"] * kl_N, replies)
    ours = leave_one_out(scores_N.nan_to_num(), replies, ~scores_N.isnan())
    if p["normalize_advantages"]:
        ours = group_relative(ours, len(ours), "group", ~scores_N.isnan())
    out = Outputs(case)
    out.check("advantages", to_theirs(ours, replies))
    out.done()


def openrlhf(case: Case) -> None:
    """Baseline, then the reward with its KL, then a sum from each token on (or GAE), then whitening."""
    x, p = leaves(case), case["params"]
    kind, replies, mask = p["estimator"], p["n_samples_per_prompt"], x["action_mask"]
    scores_N = to_ours(x["rewards"], replies)
    baselines: dict[str, Callable[[Tensor], Tensor]] = {
        "gae": lambda scores: scores,
        "reinforce": lambda scores: scores,
        "rloo": lambda scores: leave_one_out(scores, replies),
        "reinforce_baseline": lambda scores: group_relative(scores, replies, "none"),
        "dr_grpo": lambda scores: group_relative(scores, replies, "none"),
        "group_norm": lambda scores: group_relative(scores, replies, "group", eps=1e-9),
    }
    scores = to_theirs(baselines[kind](scores_N), replies)
    rewards = shape_rewards(scores, x["kl"], mask, p["kl_coef"])
    if kind == "gae":
        estimate = gae(rewards, x["values"], mask, p["gamma"], p["lambd"])
        advantages, returns = estimate.advantages_NT, estimate.returns_NT
    else:
        advantages = returns = discounted_returns(rewards, mask, p["gamma"] if kind == "reinforce" else 1.0)
    if kind in ("gae", "reinforce", "reinforce_baseline"):
        advantages = whiten(advantages, mask, unbiased=False)
    out = Outputs(case)
    out.check("returns", returns, mask)
    out.check("advantages", advantages, mask)
    out.done()


def verl(case: Case) -> None:
    """Groups of unequal size: a short one is filled up with replies that have no score."""
    x, p, name = leaves(case), case["params"], function(case)
    estimator = None if name == "compute_remax_outcome_advantage" else verl_estimator(name, p)
    mask, scores = x["response_mask"].bool(), x["token_level_rewards"].sum(-1)
    out = Outputs(case)
    if estimator is None:
        returns = discounted_returns(x["token_level_rewards"], mask, 1.0)
        out.check("returns", returns, mask)
        out.check("advantages", returns - spread(x["reward_baselines"], mask), mask)
        out.done()
        return
    grouped, alone = in_unequal_groups(scores, p["index"], estimator)
    if name != "compute_rloo_vectorized_outcome_advantage":
        grouped = scores.where(alone, grouped)  # elsewhere in verl a lone reply keeps its score; 0 in ours
    advantages = spread(grouped, mask)
    if "plus_plus" in name:
        advantages = whiten(advantages, mask)
    out.check("advantages", advantages)
    out.check("returns", advantages)  # the same tensor twice
    out.done()


def verl_estimator(name: str, p: Mapping[str, Any]) -> Callable[[Tensor, int, Tensor], Tensor]:
    """Ours for one of verl's group baselines."""
    if name in ("compute_rloo_vectorized_outcome_advantage", "compute_rloo_outcome_advantage"):
        return leave_one_out
    if name == "compute_reinforce_plus_plus_baseline_outcome_advantage":
        return lambda scores, replies, scored: group_relative(scores, replies, "none", scored)
    if name == "compute_grpo_outcome_advantage":
        scale = "group" if p.get("norm_adv_by_std_in_grpo", True) else "none"
        return lambda scores, replies, scored: group_relative(
            scores, replies, scale, scored, eps=p["epsilon"]
        )
    raise KeyError(name)


def in_unequal_groups(
    scores: Tensor, index: list[str], estimator: Callable[[Tensor, int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The estimator's advantages (N,), and which replies are alone in their group."""
    names = sorted(set(index))
    members = [[row for row, name in enumerate(index) if name == group] for group in names]
    replies = max(map(len, members))
    grid = torch.full((replies, len(names)), -1)
    for column, rows in enumerate(members):
        grid[: len(rows), column] = torch.tensor(rows)
    rows_N, scored_N = grid.flatten(), grid.flatten() >= 0
    ours = estimator(scores[rows_N.clamp(min=0)], replies, scored_N)
    back = torch.zeros_like(scores).scatter(0, rows_N[scored_N], ours[scored_N])
    return back, torch.tensor([index.count(name) == 1 for name in index])


def run_advantage(case: Case) -> None:
    name = function(case)
    known: dict[str, Runner] = {
        "RemoteExperienceMaker.compute_advantages_and_returns": openrlhf,
        "GRPOTrainer._generate_and_score_completions": trl_grpo,
        "RLOOTrainer._generate_and_score_completions": trl_rloo,
    }
    known.get(name, verl)(case)


RUNNERS: dict[str, Runner] = {"gae": run_gae, "whiten": run_whiten, "advantage": run_advantage}

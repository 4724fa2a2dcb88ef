"""KL estimates and controllers, reward shaping, and running moments of scores."""

from __future__ import annotations

import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from torch import Tensor

from align.ppo.advantages import gae, whiten
from align.ppo.shaping import (
    AdaptiveKl,
    RunningMoments,
    clip_scores,
    full_kl_NT,
    kl_NT,
    shape_rewards,
)

ESTIMATORS = {"kl": "k1", "mse": "k2", "low_var_kl": "k3", "k1": "k1", "k2": "k2", "k3": "k3", "abs": "abs"}


def run_kl(case: Case) -> None:
    x, p, name = leaves(case), case["params"], function(case).split(".")[-1]
    if name not in ("compute_approx_kl", "_kl_penalty", "kl_penalty"):
        raise KeyError(function(case))
    policy, reference = (x[key] for key in x)
    kind = p.get("kl_estimator") or p["kl_penalty"]
    out = Outputs(case)
    if kind == "full":
        out.check("kl", full_kl_NT(policy, reference))
        out.done()
        return
    estimate_NT = kl_NT(policy, reference, ESTIMATORS[kind.removesuffix("+")])
    if name != "_kl_penalty" and bool((estimate_NT.abs() > 10).any()):
        raise NotOffered(
            "the estimate is clamped at 10 nats a token there; here a bad value is seen, not hidden"
        )
    out.check("kl", estimate_NT)
    if "loss" in case["outputs"]:  # a mean over real tokens: the case says which by where its gradient is
        real = torch.tensor(case["outputs"][f"grad_{next(iter(x))}"]) != 0
        out.check("loss", estimate_NT[real].mean())
        # verl's "k3+" has the value of k3 and the gradient of k2
        loss = kl_NT(policy, reference, "k2") if kind.endswith("+") else estimate_NT
        out.check_gradients(loss[real].mean(), x, {})
    out.done()


def run_controller(case: Case) -> None:
    p = case["params"]
    if function(case) != "AdaptiveKLController":
        raise KeyError(function(case))
    by_step = "k_beta" not in p  # alpaca_farm's gain is one a step, whatever the episodes
    horizon = p["horizon"] if by_step else 1 / p["k_beta"]
    state = AdaptiveKl(p["init_kl_coef"], p.get("target") or p["target_kl"], horizon)
    values = []
    for kl, episodes in zip(case["inputs"]["current_kl"], case["inputs"]["n_steps"], strict=True):
        state = state.updated(kl, episodes if by_step else 1)
        values.append(state.coef)
    out = Outputs(case)
    out.check("value_after_each_update", torch.tensor(values, dtype=torch.float64))
    out.done()


def run_reward(case: Case) -> None:
    """Rewards at real tokens; at padding theirs keep a penalty that nothing reads."""
    x, p, name = leaves(case), case["params"], function(case).split(".")[-1]
    out = Outputs(case)
    if name == "compute_reward":
        limits = p.get("reward_clip_range")
        if limits and limits[0] != -limits[1]:
            raise NotOffered("scores are clipped to ±limit here, not to a range that is not symmetric")
        scores = clip_scores(x["r"], limits[1] if limits else None)
        out.check("reward", shape_rewards(scores, x["kl"], x["action_mask"], p["kl_coef"]), x["action_mask"])
    elif name == "get_rewards_ppo":
        places = torch.arange(x["logprobs"].shape[1])
        mask = places <= x["valid_score_idxs"].unsqueeze(-1)
        kl = kl_NT(x["logprobs"], x["ref_logprobs"], "k1", mask)
        out.check("kl", kl, mask)
        out.check("kl_reward", -p["kl_coeff"] * kl, mask)
        out.check("total_reward", shape_rewards(x["scores"], kl, mask, p["kl_coeff"]), mask)
    elif name == "compute_rewards" and "prompt_length" in p:  # DeepSpeed-Chat
        mask = deepspeed_chat_mask(x["action_mask"], p["prompt_length"])
        kl = kl_NT(x["log_probs"], x["ref_log_probs"], "k1", mask)
        scores = clip_scores(x["reward_score"], p["clip_reward_value"])
        out.check("rewards", shape_rewards(scores, kl, mask, p["kl_ctl"]), mask)
    elif name == "compute_rewards":  # trl 0.11
        mask = x["masks"].bool()
        kl = kl_NT(x["logprobs"], x["ref_logprobs"], ESTIMATORS[p["kl_penalty"]], mask)
        out.check("kls", kl, mask)
        out.check("non_score_rewards", -p["kl_coef"] * kl, mask)
        out.check("rewards", shape_rewards(x["scores"], kl, mask, p["kl_coef"]), mask)
    else:
        raise KeyError(function(case))
    out.done()


def deepspeed_chat_mask(attention: Tensor, prompt_length: int) -> Tensor:
    """Where an answer's rewards lie: from the prompt's last token on, one position more than it counts."""
    start = prompt_length - 1
    ends = start + attention[:, start:].sum(1) + 1
    places = torch.arange(attention.shape[1])
    return (places >= start) & (places < ends.unsqueeze(-1))


def run_pipeline(case: Case) -> None:
    """Rewards and advantages as the last PPO of trl and the code of Huang et al. 2024 make them.

    Both put the score one position behind the last token (where there is one) and take a value there. In our
    terms that position is a token that costs no KL.
    """
    x, p, name = leaves(case), case["params"], function(case)
    if name not in ("PPOTrainer.train", "training loop"):
        raise KeyError(name)
    unbiased = name == "PPOTrainer.train"
    places, lengths = torch.arange(x["logprobs"].shape[1]), x["sequence_lengths"].unsqueeze(-1)
    reply, longer = places <= lengths, places <= lengths + 1
    kl = kl_NT(x["logprobs"], x["ref_logprobs"], ESTIMATORS[p.get("kl_estimator", "k1")], reply)
    rewards = shape_rewards(x["scores"], kl, longer, p["kl_coef"])
    if p["whiten_rewards"]:
        rewards = whiten(rewards, longer, shift_mean=False, unbiased=unbiased)
    estimate = gae(rewards, x["values"], longer, p["gamma"], p["lam"])
    out = Outputs(case)
    out.check("padding_mask", ~reply)
    out.check("padding_mask_p1", ~longer)
    out.check("kl", kl)
    out.check("rewards", rewards)
    out.check("returns", estimate.returns_NT, longer)
    out.check("advantages", whiten(estimate.advantages_NT, reply, unbiased=unbiased))
    out.done()


def run_moments(case: Case) -> None:
    if function(case) != "RunningMoments.update":
        raise KeyError(function(case))
    out, moments = Outputs(case), RunningMoments()
    for place, batch in enumerate(leaves(case).values()):
        alone, moments = RunningMoments().updated(batch), moments.updated(batch)
        ours = {
            "batch_mean": alone.mean,
            "batch_std": alone.std,
            "mean": moments.mean,
            "std": moments.std,
            "var": moments.var,
            "count": float(moments.count),
        }
        for key, value in ours.items():
            out.check(f"after.{place}.{key}", value)
    out.done()


RUNNERS: dict[str, Runner] = {
    "kl": run_kl,
    "kl_controller": run_controller,
    "ppo_reward": run_reward,
    "ppo_pipeline": run_pipeline,
    "running_moments": run_moments,
}

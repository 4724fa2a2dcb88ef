"""The clipped policy objective and its kin, and the critic's loss."""

from __future__ import annotations

import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from torch import Tensor

from align.models.logprobs import token_entropy
from align.ppo.advantages import spread
from align.ppo.objective import (
    PolicyTerms,
    importance_weights,
    policy_terms,
    total,
    value_losses_NT,
    weight,
)
from align.ppo.shaping import kl_NT


def mean(values_NT: Tensor, mask: Tensor, how: str = "token", length: float | None = None) -> Tensor:
    """Of any tensor, bool too, as the losses are averaged."""
    if not values_NT.is_floating_point():
        values_NT = values_NT.double()
    return total(values_NT, mask, how, length) / weight(mask, how, length)


def openrlhf(case: Case, out: Outputs) -> Tensor:
    x, p = leaves(case), case["params"]
    if p.get("vllm_is_correction_type", "tis") != "tis":
        raise NotOffered("tokens sampled too differently are dropped there; here their weight is truncated")
    mask, sequence = x["action_mask"], p.get("policy_loss_type", "ppo") == "gspo"
    weights, old = None, x["old_log_probs"]
    if p.get("enable_vllm_is_correction"):
        if sequence:
            old = x["rollout_log_probs"]
        else:
            low, high = p["vllm_is_truncated_threshold"]
            weights = importance_weights(old, x["rollout_log_probs"], mask, low, high)
            out.check("vllm_kl", mean(kl_NT(x["rollout_log_probs"], old, "k1", mask), mask))
    terms = policy_terms(
        x["log_probs"],
        old,
        x["advantages"],
        mask,
        clip_low=p.get("clip_eps_low", 0.2),
        clip_high=p.get("clip_eps_high", 0.2),
        dual_clip=p.get("dual_clip"),
        ratio="reply_mean" if sequence else "token",
        weights_NT=weights,
    )
    by_token = p.get("token_level_loss", True) and not sequence
    loss = mean(terms.losses_NT, mask, "token" if by_token else "sequence")
    caught = (x["advantages"] < 0) & (terms.ratio_NT > 1)  # by the second bound, which they do not count
    out.check("clip_ratio", mean(terms.clipped_NT & ~caught, mask))
    out.check("ppo_kl", mean(kl_NT(old, x["log_probs"], "k1", mask), mask))
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    return loss


def trl_0_11(case: Case, out: Outputs) -> Tensor:
    x, p = leaves(case), case["params"]
    mask, old = x["mask"].bool(), x["old_logprobs"]
    clip = p["cliprange"]
    terms = policy_terms(x["logprobs"], old, x["advantages"], mask, clip_low=clip, clip_high=clip)
    losses, clipped = value_losses_NT(x["vpreds"], x["values"], x["returns"], p["cliprange_value"], mask)
    policy, value = mean(terms.losses_NT, mask), mean(losses, mask)
    returns, values = x["returns"][mask], x["values"][mask]
    stats = {
        "policy/entropy": mean(token_entropy(x["logits"]), mask),
        "policy/approxkl": mean(kl_NT(x["logprobs"], old, "k2", mask), mask),
        "policy/policykl": mean(kl_NT(old, x["logprobs"], "k1", mask), mask),
        "policy/clipfrac": mean(terms.clipped_NT, mask),
        "policy/advantages_mean": mean(x["advantages"], mask),
        "returns/mean": returns.mean(),
        "returns/var": returns.var(),
        "val/vpred": mean(x["vpreds"], mask),
        "val/error": 2 * mean(value_losses_NT(x["vpreds"], x["values"], x["returns"], None, mask)[0], mask),
        "val/clipfrac": mean(clipped, mask),
        "val/mean": values.mean(),
        "val/var": values.var(),
    }
    for key, ours in stats.items():
        out.check(f"stats.{key}", ours)
    if float(mean(terms.ratio_NT, mask)) > p.get("ratio_threshold", 10.0):
        raise NotOffered(
            "a step whose mean ratio is too high is undone there; here the iteration stops early on KL"
        )
    loss = policy + p["vf_coef"] * value
    out.check("pg_loss", policy)
    out.check("vf_loss_scaled", p["vf_coef"] * value)
    out.check("loss", loss)
    for key, ours in {"policy": policy, "value": value, "total": loss}.items():
        out.check(f"stats.loss/{key}", ours)
    out.check_gradients(loss, x, {})
    return loss


def torchtune(case: Case, out: Outputs) -> Tensor:
    x, p = leaves(case), case["params"]
    mask, value_mask = x["padding_masks"], x["value_padding_masks"]
    clip, everything = p["epsilon"], torch.ones_like(mask)
    inputs = (x["pi_logprobs"], x["pi_old_logprobs"], x["advantages"])
    terms = policy_terms(*inputs, mask, clip_low=clip, clip_high=clip)
    losses, _ = value_losses_NT(
        x["phi_values"], x["phi_old_values"], x["returns"], p["value_clip_range"], value_mask
    )
    policy, value = mean(terms.losses_NT, mask), mean(losses, value_mask)
    loss = policy + p["value_coeff"] * value
    padded = policy_terms(*inputs, everything, clip_low=clip, clip_high=clip)
    out.check("mean_ratio", mean(padded.ratio_NT, everything))  # padding counts in that one
    out.check("clipfrac", mean(terms.clipped_NT, mask))
    out.check("policy_loss", policy)
    out.check("value_loss", value)
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    return loss


def deepspeed_chat(case: Case, out: Outputs) -> Tensor:
    x, clip = leaves(case), case["params"]["cliprange"]
    mask = x["mask"].bool()
    terms = policy_terms(
        x["logprobs"], x["old_logprobs"], x["advantages"], mask, clip_low=clip, clip_high=clip
    )
    loss = mean(terms.losses_NT, mask)
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    return loss


def verl(case: Case, out: Outputs) -> Tensor:
    x, p = leaves(case), case["params"]
    mask, clip, lower = x["response_mask"].bool(), p["cliprange"], p.get("clip_ratio_c", 3.0)
    terms = policy_terms(
        x["log_prob"],
        x["old_log_prob"],
        x["advantages"],
        mask,
        clip_low=p.get("cliprange_low") or clip,
        clip_high=p.get("cliprange_high") or clip,
        dual_clip=lower,
    )
    replies, width = mask.shape
    hows: dict[str, tuple[str, float | None]] = {
        "token-mean": ("token", None),
        "seq-mean-token-mean": ("sequence", None),
        "seq-mean-token-sum": ("fixed_length", 1.0),
        # the width alone divides there, not the replies as well
        "seq-mean-token-sum-norm": ("fixed_length", width / replies),
    }
    loss = mean(terms.losses_NT, mask, *hows[p.get("loss_agg_mode", "token-mean")])
    caught = (x["advantages"] < 0) & (terms.ratio_NT > lower)
    out.check("clipfrac_lower", mean(terms.clipped_NT & caught, mask))
    out.check("clipfrac", mean(terms.clipped_NT & ~caught, mask))
    out.check("ppo_kl", mean(kl_NT(x["old_log_prob"], x["log_prob"], "k1", mask), mask))
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    return loss


def run_policy(case: Case) -> None:
    known = {
        "PolicyLoss": openrlhf,
        "PPOTrainer.loss": trl_0_11,
        "PPOLoss": torchtune,
        "DeepSpeedPPOTrainer.actor_loss_fn": deepspeed_chat,
        "compute_policy_loss": verl,
    }
    out = Outputs(case)
    known[function(case)](case, out)
    out.done()


def run_value(case: Case) -> None:
    x, p = leaves(case), case["params"]
    if function(case) != "ValueLoss":
        raise KeyError(function(case))
    mask = x["action_mask"]
    losses, _ = value_losses_NT(x["values"], x["old_values"], x["returns"], p.get("clip_eps"), mask)
    loss = mean(losses, mask, "token" if p.get("token_level_loss", True) else "sequence")
    out = Outputs(case)
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    out.done()


def trl_grpo(case: Case) -> None:
    x, p = leaves(case), case["params"]
    kind, mask = p["loss_type"], x["completion_mask"].bool()
    hows: dict[str, tuple[str, float | None]] = {
        "grpo": ("sequence", None),
        "bnpo": ("token", None),
        "dapo": ("token", None),
        "cispo": ("token", None),
        "dr_grpo": ("fixed_length", p.get("max_completion_length")),
        "luspo": ("fixed_length", 1.0),
    }
    if kind in ("sapo", "vespo"):
        raise NotOffered(f"{kind} bounds the ratio by a smooth gate; here by a clip")
    cispo, sequence = kind == "cispo", p["importance_sampling_level"] == "sequence"
    terms = policy_terms(
        x["per_token_logps"],
        x["old_per_token_logps"],
        spread(x["advantages"], mask),
        mask,
        clip_low=1.0 if cispo else p["epsilon_low"],  # its epsilon_high is the bound itself, and the only one
        clip_high=p["epsilon_high"] - 1 if cispo else p["epsilon_high"],
        dual_clip=p.get("delta"),
        ratio="reply_mean" if sequence else "token",
        form="cispo" if cispo else "clip",
    )
    losses, out = terms.losses_NT, Outputs(case)
    if p.get("beta"):
        kl = kl_NT(x["per_token_logps"], x["ref_per_token_logps"], "k3", mask)
        losses = losses + p["beta"] * kl
        out.check("metrics.kl", mean(kl, mask))
    loss = mean(losses, mask, *hows[kind])
    check_clips(out, terms, spread(x["advantages"], mask), mask, sequence)
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    out.done()


def check_clips(
    out: Outputs, terms: PolicyTerms, advantages_NT: Tensor, mask: Tensor, sequence: bool
) -> None:
    """trl tells clips from below and from above, and has their extremes over replies."""
    low = terms.clipped_NT & (terms.ratio_NT < 1)
    high = terms.clipped_NT & (terms.ratio_NT > 1) & (advantages_NT > 0)
    how = "sequence" if sequence else "token"
    for name, clips in {"low": low, "high": high, "region": low | high}.items():
        out.check(f"metrics.clip_ratio/{name}_mean", mean(clips, mask, how))
    by_reply = [(clips * mask).sum(-1) / mask.sum(-1) for clips in (low, high)]
    out.check("metrics.clip_ratio/low_min", by_reply[0].min())
    out.check("metrics.clip_ratio/high_max", by_reply[1].max())
    out.check("metrics.cispo_clip_ratio", mean(high, mask))


def halos_grpo(case: Case) -> None:
    """The ratio is to the reference there, which is the policy that sampled in its first step only."""
    x, p = leaves(case), case["params"]
    mask = x["target_labels"][:, 1:] != -100
    old, clip = x["reference_logps"], p["epsilon"]
    advantages = spread(x["advantages"], mask)
    terms = policy_terms(x["policy_logps"], old, advantages, mask, clip_low=clip, clip_high=clip)
    kl = kl_NT(x["policy_logps"], old, "k3", mask)
    loss = mean(terms.losses_NT + p["beta"] * kl, mask)
    out = Outputs(case)
    out.check("kl", mean(kl, mask))
    out.check("mean_abs_adv", x["advantages"].abs().mean())
    out.check("weighted_adv", mean((terms.ratio_NT * advantages).abs(), mask))
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    out.done()


def run_grpo(case: Case) -> None:
    known: dict[str, Runner] = {"GRPOTrainer._compute_loss": trl_grpo, "GRPOTrainer.loss": halos_grpo}
    known[function(case)](case)


RUNNERS: dict[str, Runner] = {"ppo_policy": run_policy, "ppo_value": run_value, "grpo": run_grpo}

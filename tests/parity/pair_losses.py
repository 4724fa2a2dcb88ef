"""Pair losses: published functions said in our terms by ``published_losses.py``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from parity.published_losses import said_in_ours
from torch import Tensor

from align.tensors import PairLogps, TokenLogps


def pair_logps(x: Mapping[str, Tensor]) -> tuple[PairLogps, dict[str, Tensor]]:
    """The inputs as a loss sees them, and which entries of each are real tokens.

    At padding a log-probability is a constant 0, so the gradient there reaches no model and is not compared.
    """
    if "policy_token_logps" in x:
        mask = x["completion_mask"][:, 1:].bool()
        reference = TokenLogps(x["ref_token_logps"], mask)
        policy, real = TokenLogps(x["policy_token_logps"], mask), {"policy_token_logps": mask}
    else:
        names = ["policy_chosen_logps", "policy_rejected_logps"]
        if x[names[0]].ndim == 1:  # sums, or means where the published function takes means: taken as given
            ones = torch.ones_like(x[names[0]]).detach()
            given = (x.get("reference_chosen_logps"), x.get("reference_rejected_logps"))
            return PairLogps(x[names[0]], x[names[1]], *given, ones, ones), {}
        tokens_BT = torch.cat([x[name] for name in names])
        base_BT = torch.zeros_like(tokens_BT)
        if "reference_chosen_logps" in x:
            base_BT = torch.cat([x["reference_chosen_logps"], x["reference_rejected_logps"]])
        mask = (tokens_BT - base_BT).detach() != 0  # HALOs' rule for what is a token
        policy = TokenLogps(tokens_BT, mask)
        reference = TokenLogps(base_BT, mask) if "reference_chosen_logps" in x else None
        real = dict(zip(names, mask.chunk(2), strict=True))
    lengths = mask.sum(-1).chunk(2)
    references = (None, None) if reference is None else reference.sums_B().chunk(2)
    return PairLogps(*policy.sums_B().chunk(2), *references, *lengths, policy, reference), real


def run_pairs(case: Case) -> None:
    ours, x = said_in_ours(function(case), case["params"]), leaves(case)
    if function(case) == "SLiCTrainer.loss" and x["policy_chosen_logps"].ndim == 2:
        raise NotOffered("HALOs adds a (B, T) likelihood to a (B,) calibration there; ours is per sequence")
    logps, real = pair_logps(x)
    result = ours.loss()(logps)
    excused = (
        "ratio",
        "log_odds",
        "log_odds_ratio",
        "log_odds_chosen",
    )  # statistics of ORPO that we do not log
    shrunk = (
        ("metrics.logps/chosen", "metrics.logps/rejected")
        if case["params"].get("ld_alpha") is not None
        else ()
    )
    out = Outputs(case, excused + shrunk)  # trl logs the reweighted sums there
    sides = {"chosen": result.chosen_rewards, "rejected": result.rejected_rewards}
    lengths = {"chosen": logps.chosen_lengths, "rejected": logps.rejected_lengths}
    for side, rewards in sides.items():
        assert not rewards.requires_grad
        sides[side] = rewards * ours.reward_scale / (lengths[side] if ours.reward_per_token else 1)
        out.check(f"{side}_rewards", sides[side])
        out.check(f"metrics.rewards/{side}", sides[side].mean())
    margin = sides["chosen"] - sides["rejected"]
    out.check("metrics.rewards/accuracies", (margin > 0).double().mean())
    out.check("metrics.rewards/margins", margin.mean())
    if not shrunk:
        out.check("metrics.logps/chosen", logps.policy_chosen.mean())
        out.check("metrics.logps/rejected", logps.policy_rejected.mean())
    out.check("losses", ours.sign * result.losses)
    # A case of a maximised term may give the objective or its negative as its scalar.
    sign = ours.sign if case["outputs"]["loss"] * ours.sign > 0 else 1.0
    out.check("loss", sign * result.losses.mean())
    out.check_gradients(sign * result.losses.mean(), x, real)
    out.done()


RUNNERS: dict[str, Runner] = {"pairwise": run_pairs, "pairwise_tokens": run_pairs}

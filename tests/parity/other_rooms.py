"""Unpaired losses, ensembles, best-of-n, displacement, win rates, and what is cut off a reply."""

from __future__ import annotations

import numpy as np
import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from torch import Tensor

from align.evaluation import statistics
from align.evaluation.best_of_n import expected_best
from align.evaluation.displacement import ches
from align.tensors import UnpairedLogps
from align.unpaired_losses.kto import Kto
from reward_models.ensemble import combine


def run_kto(case: Case) -> None:
    x, p, name = leaves(case), case["params"], function(case)
    out = Outputs(case)
    if name not in ("VanillaKTOLoss", "KTOTrainer.kto_loss", "KTOTrainer.loss", "KTOTrainer._compute_loss"):
        raise KeyError(name)
    real: dict[str, Tensor] = {}
    if "policy_token_logps" in x:
        mask = x["completion_mask"][:, 1:].bool()
        real = {"policy_token_logps": mask}
        policy, reference = ((x[f"{who}_token_logps"] * mask).sum(-1) for who in ("policy", "ref"))
        desirable = x["label"]
    else:
        sides = [
            [x[f"{who}_{side}_logps"] for side in ("chosen", "rejected")] for who in ("policy", "reference")
        ]
        policy, reference = (torch.cat([summed(side) for side in pair]) for pair in sides)
        desirable = torch.arange(len(policy)) < len(sides[0][0])
    mismatched = (None, None)
    baseline = "none"
    if name == "VanillaKTOLoss":
        baseline = "other_label"
    elif p.get("calculate_KL", p.get("loss_type", "kto") == "kto"):
        baseline = "mismatched"
        mismatched = (summed(x["policy_KL_logps"]), summed(x["reference_KL_logps"]))
    weights = {key: p[key] for key in ("desirable_weight", "undesirable_weight") if key in p}
    loss = Kto(p["beta"], **weights, baseline=baseline)
    result = loss(UnpairedLogps(policy, reference, desirable, *mismatched))
    scalar = result.losses.mean()
    rewards = result.rewards / p["beta"] if name == "KTOTrainer.loss" else result.rewards  # HALOs' lack β
    out.check("losses", result.losses)
    for side, where in (("chosen", desirable), ("rejected", ~desirable)):
        out.check(f"{side}_rewards", rewards[where])
        out.check(f"metrics.rewards/{side}", rewards[where].mean())
        out.check(f"metrics.logps/{side}", policy[where].mean())
    out.check("metrics.rewards/margins", rewards[desirable].mean() - rewards[~desirable].mean())
    for key in ("kl", "KL", "metrics.kl"):
        out.check(key, result.baselines[0])
    out.check("loss", scalar)
    if name == "VanillaKTOLoss":
        raise NotOffered("the KL estimate carries a gradient there; the paper's, and ours, carries none")
    out.check_gradients(scalar, x, real)
    out.done()


def summed(logps: Tensor) -> Tensor:
    """Sequence log-probabilities, where token ones are given (0 at padding)."""
    return logps.sum(-1) if logps.ndim == 2 else logps


def run_ensemble(case: Case) -> None:
    if function(case) != "OBJECTIVE_FUNCTIONS":
        raise KeyError(function(case))
    scores_MN = np.array(case["inputs"]["scores"])[:, None]
    out = Outputs(case)
    out.check("mean", combine(scores_MN, "mean")[0])
    out.check("wco", combine(scores_MN, "worst_case")[0])
    for key in sorted(name for name in out.left if name.startswith("uwo_")):
        coefficient = float(key.removeprefix("uwo_").replace("_", "."))
        out.check(key, combine(scores_MN, "mean_minus_variance", coefficient)[0])
    out.done()


def run_best_of_n(case: Case) -> None:
    if function(case) != "unbiased_sampler":
        raise KeyError(function(case))
    out, prompts = Outputs(case), case["inputs"]["dataset"]
    for place, n in enumerate(case["params"]["ns"]):
        out.check(f"table.{place}.n", float(n))
        for what in ("proxy", "gold"):
            best = [expected_best(one["proxy_scores"], n, one[f"{what}_scores"]) for one in prompts]
            out.check(f"table.{place}.{what}", float(np.mean(best)))
    out.done()


def run_ches(case: Case) -> None:
    if function(case) != "compute_ches_scores":
        raise KeyError(function(case))
    x, sides = leaves(case), []
    for side in ("preferred", "dispreferred"):
        hidden = x[f"{side}_hidden_embeddings"]
        places, start = torch.arange(hidden.shape[1]), x[f"{side}_last_prompt_token_indices"]
        sides += [hidden, (places >= start.unsqueeze(-1)) & (places < hidden.shape[1] - 1)]
    out = Outputs(case)
    out.check("ches", ches(*sides, per_token=case["params"].get("length_normalize", False)))
    out.done()


def run_eval(case: Case) -> None:
    """Preferences of 1 the baseline, 2 the model, 1.5 (formerly 0) a draw; theirs are in per cent."""
    if function(case) != "BaseScoringRule.describe_head2head":
        raise KeyError(function(case))
    wins = [{0: 0.5, 1: 0.0, 1.5: 0.5, 2: 1.0}[one] for one in case["inputs"]["preferences"]]
    result = statistics.proportion("win_rate", wins)
    out = Outputs(case)
    out.check("win_rate", 100 * result.value)
    out.check("standard_error", 100 * statistics.standard_error(wins))
    for key, value in {"n_wins": 1.0, "n_wins_base": 0.0, "n_draws": 0.5}.items():
        out.check(key, wins.count(value))
    out.check("n_total", result.n)
    out.done()


def run_tokens(case: Case) -> None:
    cut = "a reply is a list that ends with its stop token: nothing stands behind it that must be overwritten"
    known = {
        "truncate_response": cut,
        "truncate_response/first_true_indices": cut,
        "flush_left": "rows are built aligned left from lists; there is no padded batch to shift",
    }
    raise NotOffered(known[function(case)])


RUNNERS: dict[str, Runner] = {
    "kto": run_kto,
    "ensemble": run_ensemble,
    "best_of_n": run_best_of_n,
    "ches": run_ches,
    "eval": run_eval,
    "tokens": run_tokens,
}

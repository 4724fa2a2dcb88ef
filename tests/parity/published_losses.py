"""Published pair losses in our terms: by the function's name and parameters, never by a case's name.

``said_in_ours`` gives the settings that ``conf/loss`` would hold, built as a config would build them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parity.cases import NotOffered

from align.config import build
from align.losses.mixture import Term
from align.protocols import PairLoss

Params = Mapping[str, Any]
Section = dict[str, Any]


@dataclass(frozen=True)
class Ours:
    """A published pair loss in our terms, and how its outputs differ from ours in unit or sign."""

    section: Section
    """``{"name": "dpo", "beta": 0.1}``."""
    sign: float = 1.0
    """-1 where the published losses are to be maximised."""
    reward_scale: float = 1.0
    """Published rewards over ours."""
    reward_per_token: bool = False
    """Published rewards are divided by the reply's length, too."""

    def loss(self) -> PairLoss:
        """The component."""
        return build(Term, {"loss": self.section}).loss


def said_in_ours(function: str, params: Params) -> Ours:
    """Raises ``NotOffered`` with the reason, or ``KeyError`` where nothing is known of the function."""
    return PUBLISHED[function](params)


def dpo(p: Params) -> Ours:
    """preference_loss of the DPO authors, DPOLoss of OpenRLHF and of torchtune."""
    own = {"beta": p.get("beta", 0.1), "reference_free": p.get("reference_free", False)}
    if p.get("ipo"):
        return Ours({"name": "ipo", **own})
    return Ours({"name": "dpo", **own, "label_smoothing": p.get("label_smoothing", 0.0)})


def by_type(kind: str, beta: float, flip: float, free: bool = False) -> Section:
    """What trl's loss types say, old and new."""
    anchored: dict[str, Section] = {
        "robust": {"name": "robust", "label_smoothing": flip},
        "exo_pair": {"name": "exo", "label_smoothing": flip or 1e-3},
        "hinge": {"name": "hinge", "reference_free": free},
        "ipo": {"name": "ipo", "reference_free": free},
        "sppo_hard": {"name": "sppo"},
        "nca_pair": {"name": "nca"},
        "aot": {"name": "aot", "label_smoothing": flip},
        "aot_pair": {"name": "aot_unpaired", "label_smoothing": flip},
        "aot_unpaired": {"name": "aot_unpaired", "label_smoothing": flip},
        "apo_zero": {"name": "apo_zero"},
        "apo_down": {"name": "apo_down"},
    }
    return {**anchored[kind], "beta": beta}


def trl_dpo_loss(p: Params) -> Ours:
    """trl 0.11's DPOTrainer.dpo_loss: one loss type, on sequence log-probabilities."""
    kind, beta, flip = p.get("loss_type", "sigmoid"), p.get("beta", 0.1), p.get("label_smoothing", 0.0)
    free, divergence = p.get("reference_free", False), p.get("f_divergence_type", "reverse_kl")
    if divergence != "reverse_kl" and kind in ("robust", "exo_pair", "hinge", "ipo"):
        raise NotOffered(f"another divergence than the reverse KL is offered for dpo only, not for {kind}")
    if free and kind in ("robust", "exo_pair", "apo_zero", "apo_down"):
        raise NotOffered(f"a uniform reference is offered for dpo, hinge and ipo only, not for {kind}")
    if kind == "bco_pair":  # the first step of its running mean
        return Ours({"name": "bco", "beta": beta, "shift": "batch_mean"})
    if kind != "sigmoid":
        return Ours(by_type(kind, beta, flip, free))
    own = {"name": "dpo", "beta": beta, "label_smoothing": flip, "reference_free": free}
    if divergence == "alpha_divergence":
        alpha = (p.get("f_divergence_params") or {}).get("alpha_divergence_coef", 1.0)
        return Ours({**own, "divergence": "alpha", "alpha": alpha})
    return Ours({**own, "divergence": {"js_divergence": "js"}.get(divergence, divergence)})


def trl_compute_loss(p: Params) -> Ours:
    """trl 1.x's DPOTrainer._compute_loss: a weighted sum of loss types, on token log-probabilities."""
    if p.get("use_weighting"):
        raise NotOffered("WPO weights a pair by the policy's whole distribution, which no loss is given")
    types = p.get("loss_types") or ["sigmoid"]
    weights = p.get("loss_weights") or [1.0] * len(types)
    terms = [{"weight": w, "loss": trl_term(kind, p)} for kind, w in zip(types, weights, strict=True)]
    if types[0] == "sft":  # the rewards that trl logs beside it are DPO's
        logged = trl_term("sigmoid", {"beta": p["beta"], "ld_alpha": p.get("ld_alpha")})
        terms.insert(0, {"weight": 0.0, "loss": logged})
    if len(terms) == 1 and weights == [1.0]:
        return Ours(terms[0]["loss"])
    return Ours({"name": "mixture", "terms": terms})


def trl_term(kind: str, p: Params) -> Section:
    beta, flip = p["beta"], p.get("label_smoothing", 0.0)
    divergence, shrink = p.get("f_divergence_type", "reverse_kl"), p.get("ld_alpha")
    if kind == "sft":  # neither ld_alpha nor the divergence touches it
        return {"name": "sft", "average": "tokens"}
    if divergence != "reverse_kl" and kind not in ("sigmoid", "sigmoid_norm"):
        raise NotOffered(f"another divergence than the reverse KL is offered for dpo only, not for {kind}")
    if kind in ("sigmoid", "sigmoid_norm"):  # label_smoothing is not read there
        section = {"name": "dpo", "beta": beta, "per_token": kind == "sigmoid_norm"}
        section["divergence"] = divergence.removesuffix("_divergence")
        if divergence == "alpha_divergence":
            # trl writes f'(t) = (t^(a-1) - 1)/(a-1); the paper's α, and ours, is 1 - a.
            section["alpha"] = 1.0 - p.get("f_alpha_divergence_coef", 0.5)
    elif kind == "bco_pair":
        section = {"name": "bco", "beta": beta, "shift": "none"}
    elif kind == "ipo":
        section = {"name": "ipo", "beta": beta, "per_token": True}
    elif kind == "discopop":
        section = {"name": "discopop", "beta": beta, "tau": p.get("discopop_tau", 0.05)}
    else:
        section = by_type(kind, beta, flip)
    return section if shrink is None else {"name": "length_desensitised", "inner": section, "alpha": shrink}


def trl_cpo_loss(p: Params) -> Ours:
    """trl's CPOTrainer.cpo_loss: the preference term only."""
    kind, beta, alpha = p.get("loss_type", "sigmoid"), p.get("beta", 0.1), p.get("alpha", 0.0)
    flip = {"label_smoothing": p.get("label_smoothing", 0.0)}
    if kind == "simpo":  # simpo_gamma is the paper's γ: trl divides it by beta and multiplies it again
        gamma = p.get("simpo_gamma", 0.5)
        return Ours({"name": "simpo", "beta": beta, "gamma": gamma, "alpha": alpha, **flip})
    if alpha:
        raise NotOffered(f"AlphaPO's reward shape is offered on per-token means (simpo), not for {kind}")
    if kind == "sigmoid":
        return Ours({"name": "cpo", "beta": beta, "sft_weight": 0.0, **flip})
    return Ours(by_type(kind, beta, 0.0, free=True))


def simpo(p: Params) -> Ours:
    """The SimPO authors' simpo_loss: gamma as a ratio to beta."""
    kind = {"sigmoid": "logistic", "hinge": "hinge"}[p.get("loss_type", "sigmoid")]
    flip = p.get("label_smoothing", 0.0) if kind == "logistic" else 0.0
    gamma = p["gamma_beta_ratio"] * p["beta"]
    return Ours({"name": "simpo", "beta": p["beta"], "gamma": gamma, "kind": kind, "label_smoothing": flip})


def halos(make: Callable[[Params], Ours]) -> Callable[[Params], Ours]:
    """HALOs' trainers clamp the token log-ratios first where ``humanline`` is set."""

    def said(p: Params) -> Ours:
        if p.get("length_normalization"):
            raise NotOffered("log-ratios times 100 over the length: per_token, without the 100, is offered")
        ours = make(p)
        if not p.get("humanline"):
            return ours
        bounds = {"low": p["log_epsilon_P"], "high": p["log_epsilon_R"]}
        return replace(ours, section={"name": "humanline", "inner": ours.section, **bounds})

    return said


PUBLISHED: dict[str, Callable[[Params], Ours]] = {
    "preference_loss": dpo,
    "DPOLoss": dpo,
    "RSOLoss": lambda p: Ours({"name": "hinge", "beta": p.get("gamma", 0.1)}),
    "IPOLoss": lambda p: Ours({"name": "ipo", "beta": p.get("tau", 0.1)}),
    "SimPOLoss": lambda p: Ours(
        {
            "name": "simpo",
            "beta": p.get("beta", 2.0),
            "gamma": p.get("gamma", 0.5),
            "label_smoothing": p.get("label_smoothing", 0.0),
        }
    ),
    "DPOTrainer.dpo_loss": trl_dpo_loss,
    "DPOTrainer._compute_loss": trl_compute_loss,
    "CPOTrainer.cpo_loss": trl_cpo_loss,
    # trl returns β·log σ(log odds ratio), which its caller subtracts from the likelihood term.
    "ORPOTrainer.odds_ratio_loss": lambda p: Ours(
        {"name": "orpo", "beta": p.get("beta", 0.1), "sft_weight": 0.0}, sign=-1.0
    ),
    "SimPOTrainer.simpo_loss": simpo,
    "DPOTrainer.loss": halos(lambda p: Ours({"name": "dpo", "beta": p["beta"]})),
    "CDPOTrainer.loss": halos(
        lambda p: Ours({"name": "dpo", "beta": p["beta"], "label_smoothing": p["epsilon"]})
    ),
    # HALOs logs mean log-ratios for these two, without the factor β.
    "IPOTrainer.loss": halos(
        lambda p: Ours(
            {"name": "ipo", "beta": p["tau"], "per_token": True},
            reward_scale=1 / p["tau"],
            reward_per_token=True,
        )
    ),
    "SimPOTrainer.loss": halos(lambda p: replace(simpo(p), reward_scale=1 / p["beta"])),
    "SLiCTrainer.loss": halos(
        lambda p: Ours({"name": "slic", "delta": p["beta"], "sft_weight": p["lambda_coef"]})
    ),
}

"""Reward models' losses, the supervised loss, token log-probabilities, and how pairs make a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity.cases import Case, NotOffered, Outputs, Runner, function, leaves
from torch import Tensor

from align.losses._terms import log1mexp
from align.losses.sft import Sft
from align.models.batch import pad_replies
from align.models.logprobs import token_entropy, token_logps
from align.reward_losses.bradley_terry import BradleyTerry
from align.tensors import PairLogps, TokenLogps


def run_reward_model(case: Case) -> None:
    x, p, name = leaves(case), case["params"], function(case)
    if name == "RewardModel":
        raise NotOffered(
            "DeepSpeed-Chat trains a score at every token after the first difference; ours, one a reply"
        )
    if name not in ("PairWiseLoss", "LogExpLoss", "RewardTrainer.compute_loss", "BradleyTerryTrainer.loss"):
        raise KeyError(name)
    if "logits" in x:
        chosen, rejected = x["logits"].squeeze(-1).chunk(2)
    else:
        chosen, rejected = (
            next(x[key] for key in x if side in key).squeeze(-1) for side in ("chosen", "reject")
        )
    margin = x["margin"].squeeze(-1) if "margin" in x and name != "LogExpLoss" else None  # which ignores it
    loss = BradleyTerry(
        margin="ignore" if margin is None else "subtract", centring=p.get("center_rewards_coefficient") or 0.0
    )
    losses = loss(chosen, rejected, margin)
    out = Outputs(case, ("metrics.num_tokens",))
    scores = torch.cat([chosen, rejected])
    out.check("metrics.min_reward", scores.min())
    out.check("metrics.mean_reward", scores.mean())
    out.check("metrics.max_reward", scores.max())
    out.check("metrics.accuracy", (chosen > rejected).double().mean())
    out.check("metrics.margin", (chosen - rejected).mean())
    out.check("losses", losses)
    out.check("loss", losses.mean())
    out.check_gradients(losses.mean(), x, {})
    out.done()


def aligned(logits: Tensor, labels: Tensor, shift: bool) -> TokenLogps:
    """Token log-probabilities from logits and labels, -100 ignored; ``shift`` where they are unaligned."""
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    mask = labels != -100
    logps = token_logps(logits, labels.where(mask, torch.zeros_like(labels)))
    return TokenLogps(logps.where(mask, torch.zeros_like(logps)), mask)


def run_sft(case: Case) -> None:
    x, name = leaves(case), function(case)
    if name == "SFTLoss":
        mask = x["loss_mask"].bool()
        tokens = TokenLogps(x["per_token_logps"].where(mask, torch.zeros(())), mask)
        average = "tokens" if case["params"].get("token_level_loss", True) else "replies"
    elif name == "GPTLMLoss":
        tokens, average = aligned(x["logits"], x["labels"], shift=True), "tokens"
    else:
        raise KeyError(name)
    sums, counts = tokens.sums_B(), tokens.counts_B()
    loss = Sft(average)(PairLogps(sums, sums, None, None, counts, counts)).losses.mean()
    out = Outputs(case)
    out.check("loss", loss)
    out.check_gradients(loss, x, {})
    out.done()


def run_logps(case: Case) -> None:
    x, p = leaves(case), case["params"]
    labels = x["labels"] if "labels" in x else x["index"]
    out = Outputs(case)
    (name,) = {"logps", "logprobs", "log_probs", "out"} & set(case["outputs"])
    per_sequence = not isinstance(case["outputs"][name][0], list)
    if per_sequence:  # the functions that sum are those that shift and mask
        tokens = aligned(x["logits"], labels, shift=True)
        logps = tokens.sums_B() / (tokens.counts_B() if p.get("average_log_prob") else 1)
    else:
        logps = token_logps(x["logits"], labels, p.get("temperature", 1.0))
    out.check(name, logps)
    if "entropy" in case["outputs"]:
        out.check("entropy", token_entropy(x["logits"]))
    if "loss" in case["outputs"]:
        total = logps.sum()
        summed = total.item() == pytest.approx(case["outputs"]["loss"], rel=1e-6)
        scalar = total if summed else logps.mean()
        out.check("loss", scalar)
        out.check_gradients(scalar, x, {})
    out.done()


def run_batching(case: Case) -> None:
    assert function(case).endswith("concatenated_inputs"), function(case)
    out, nothing = Outputs(case), np.zeros(0, dtype=np.int32)
    for key in sorted(out.left):
        what = key.removeprefix("concatenated_")
        sides = [case["inputs"][f"{side}_{what}"] for side in ("chosen", "rejected")]
        rows = [np.array(row, dtype=np.int32) for side in sides for row in side]
        pad = -100 if "labels" in what else 0
        batch = pad_replies([nothing] * len(rows), rows, pad_id=pad)
        out.check(key, batch.input_ids_BT)
        if what == "attention_mask" and all(min(row) == 1 for row in rows):
            out.check(key, batch.attention_mask_BT)  # ours, where the sides come without padding of their own
    out.done()


def run_numerics(case: Case) -> None:
    if function(case) != "log1mexp":
        raise KeyError(function(case))
    out = Outputs(case)
    out.check("y", log1mexp(leaves(case)["x"]))
    out.done()


RUNNERS: dict[str, Runner] = {
    "reward_model": run_reward_model,
    "sft": run_sft,
    "logps": run_logps,
    "batching": run_batching,
    "numerics": run_numerics,
}

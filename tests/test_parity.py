"""Our formulas against numbers that published implementations produced (``tests/fixtures/parity.json``).

Any file of cases of the same functions runs: ``ALIGN_PARITY_CASES=other.json pytest tests/test_parity.py``.
Pair losses are said in our terms in ``published_losses.py``. A case whose convention is not offered is listed
with the reason; one that cannot be mapped at all fails.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_losses import NotOffered, said_in_ours
from torch import Tensor

from align.losses.sft import Sft
from align.models.batch import pad_replies
from align.models.logprobs import token_entropy, token_logps
from align.reward_losses.bradley_terry import BradleyTerry
from align.types import PairLogps, TokenLogps

FIXTURE = Path(__file__).parent / "fixtures" / "parity.json"
Case = Mapping[str, Any]

LATER = {
    "ppo": {"advantage", "gae", "grpo", "kl", "kl_controller", "numerics", "ppo_pipeline", "ppo_policy"},
    "ppo's statistics": {"ppo_reward", "ppo_value", "running_moments", "tokens", "whiten"},
    "evaluation": {"best_of_n", "ches", "eval"},
    "reward models": {"ensemble"},
    "unpaired losses": {"kto"},
}
"""Kinds of case that other rooms answer for, by room."""


def cases() -> list[Case]:
    path = Path(os.environ.get("ALIGN_PARITY_CASES") or FIXTURE)
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


def function(case: Case) -> str:
    """The published function, without the method where that is only how a module is called."""
    return str(case["source"]["function"]).removesuffix(".forward")


def leaves(case: Case) -> dict[str, Tensor]:
    """The inputs as tensors of their own dtype; floating ones are leaves of the gradient."""
    out = {}
    for name, value in case["inputs"].items():
        dtype = getattr(torch, case["input_dtypes"].get(name, "float64"))
        out[name] = torch.tensor(value, dtype=dtype, requires_grad=dtype.is_floating_point)
    return out


class Outputs:
    """What we computed, compared name by name; every published output must be asked for or excused."""

    def __init__(self, case: Case, excused: tuple[str, ...] = ()) -> None:
        self.case = case
        metrics = {f"metrics.{name}": value for name, value in case["outputs"].get("metrics", {}).items()}
        self.expected = {**case["outputs"], **metrics}
        self.left = set(self.expected) - {"metrics"} - set(excused)

    def check(self, name: str, ours: Tensor | float, where: Tensor | None = None) -> None:
        if name not in self.expected:
            return
        self.left.discard(name)
        actual = torch.as_tensor(ours).detach().double()
        expected = torch.tensor(self.expected[name], dtype=torch.float64)
        loose = name.startswith("metrics.") or self.case["output_dtypes"].get(name) == "float32"
        rtol = max(self.case["rtol"], 1e-5 if loose else 0.0)
        if where is not None:
            actual, expected = actual[where], expected[where]
        atol = rtol * float(expected.abs().max())  # elements that cancel are held to the tensor's own scale
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")

    def check_gradients(
        self, loss: Tensor, inputs: Mapping[str, Tensor], where: Mapping[str, Tensor]
    ) -> None:
        loss.backward()
        for name, leaf in inputs.items():
            if leaf.requires_grad:
                self.check(
                    f"grad_{name}", torch.zeros(()) if leaf.grad is None else leaf.grad, where.get(name)
                )

    def done(self) -> None:
        assert not self.left, f"no counterpart was compared for: {sorted(self.left)}"


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


RUNNERS: dict[str, Callable[[Case], None]] = {
    "pairwise": run_pairs,
    "pairwise_tokens": run_pairs,
    "reward_model": run_reward_model,
    "sft": run_sft,
    "logps": run_logps,
    "batching": run_batching,
}
CASES = [case for case in cases() if case["kind"] in RUNNERS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: Case, record_property: Callable[[str, object], None]) -> None:
    """Every output that we have a counterpart for, gradients included, or a reason why there is none."""
    try:
        RUNNERS[case["kind"]](case)
    except NotOffered as reason:
        record_property("not_offered", str(reason))
        print(f"NOT OFFERED {case['name']}: {reason}")


def not_offered(of: list[Case]) -> dict[str, str]:
    found = {}
    for case in of:
        try:
            RUNNERS[case["kind"]](case)
        except NotOffered as reason:
            found[case["name"]] = str(reason)
    return found


def test_what_is_not_offered_is_exactly_this() -> None:
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))["cases"]
    listed = not_offered([case for case in fixture if case["kind"] in RUNNERS])
    assert listed == {
        "dschat/RewardModel.forward": (
            "DeepSpeed-Chat trains a score at every token after the first difference; ours, one a reply"
        )
    }


def test_other_kinds_belong_to_a_room() -> None:
    counts = Counter(case["kind"] for case in cases() if case["kind"] not in RUNNERS)
    for room, kinds in LATER.items():
        print(f"for {room}: { ({kind: counts[kind] for kind in sorted(kinds & counts.keys())}) }")
    assert not counts.keys() - set().union(*LATER.values()), "kinds that no room answers for"


def test_a_case_that_cannot_be_mapped_fails() -> None:
    stranger = {**CASES[0], "source": {"function": "somebody_elses_loss"}}
    with pytest.raises(KeyError, match="somebody_elses_loss"):
        run_pairs(stranger)


def test_an_output_that_is_not_compared_fails() -> None:
    case = next(case for case in CASES if case["kind"] == "pairwise")
    with pytest.raises(AssertionError, match="surprise"):
        run_pairs({**case, "outputs": {**case["outputs"], "surprise": 1.0}})


def test_a_number_that_is_off_fails() -> None:
    case = next(case for case in CASES if case["kind"] == "pairwise")
    for name in ("loss", "grad_policy_chosen_logps"):
        off = (np.array(case["outputs"][name]) * (1 + 1e-7)).tolist()
        with pytest.raises(AssertionError, match=name):
            run_pairs({**case, "outputs": {**case["outputs"], name: off}})

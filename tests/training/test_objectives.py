"""Objectives on a tiny Llama: what their batches cost, and bfloat16 beside float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForSequenceClassification
from transformers.models.llama import LlamaForCausalLM

from align.losses.dpo import Dpo
from align.models.scalar import LastTokenScores
from align.packing.forward import Forward
from align.packing.probe import open_forward
from align.reward_losses.bradley_terry import BradleyTerry
from align.tensors import TokenExample, TokenLogps, TokenPair, Work
from align.training.objectives import Imitation, Preference, Scoring, grouped

BF16 = torch.bfloat16
PAD = 0


def tokens(*lengths: int) -> list[Any]:
    """Ids of that many tokens each, none of them alike."""
    ends = np.cumsum(lengths)
    return [np.arange(end - n, end, dtype=np.int32) + 1 for n, end in zip(lengths, ends, strict=True)]


PAIRS = [TokenPair("a", *tokens(10, 5, 3)), TokenPair("b", *tokens(4, 2, 2))]
EXAMPLES = [TokenExample("a", *tokens(10, 5)), TokenExample("b", *tokens(4, 2))]
SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "attn_implementation": "eager",
}


@pytest.fixture
def policy() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.25))


@pytest.fixture
def scalar() -> LastTokenScores:
    torch.manual_seed(0)
    return LastTokenScores(LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_labels=1)))


def padded(model: Any, dtype: torch.dtype = torch.float32) -> Forward:
    return open_forward(model, PAD, attention="padded", dtype=dtype)


def preference(policy: Any, dtype: torch.dtype = torch.float32) -> Preference:
    """DPO of a policy that is its own reference."""
    forward = padded(policy, dtype)

    def reference(items: Sequence[TokenPair]) -> TokenLogps:
        with torch.no_grad():
            return forward.logps(grouped(items))

    return Preference(forward, Dpo(), reference)


def test_a_padded_batch_repeats_prompts_and_pads(policy: Any) -> None:
    """Pairs of 10 + (5, 3) and 4 + (2, 2) tokens: 26 distinct, 15 + 6 + 13 + 6 = 40 computed, in four rows
    of 15. Demonstrations of 10 + 5 and 4 + 2: 21 of each kind, in two rows of 15."""
    pairs, examples = preference(policy)(PAIRS).work, Imitation(padded(policy))(EXAMPLES).work
    assert pairs is not None
    assert examples is not None
    assert (pairs.distinct, pairs.total, pairs.computed, pairs.slots) == (26, 40, 40, 60)
    assert (examples.distinct, examples.total, examples.computed, examples.slots) == (21, 21, 21, 30)


def test_a_score_reads_the_head_once_a_reply(policy: Any, scalar: LastTokenScores) -> None:
    """Both need the same of the blocks; the policy's head of 16 x 40 is read at the 12 reply tokens, the
    score's of 16 at 4 replies, at six operations a weight."""
    one, other = preference(policy)(PAIRS).work, Scoring(padded(scalar), BradleyTerry())(PAIRS).work
    assert one is not None
    assert other is not None
    assert one.flops - 6 * 16 * 40 * 12 == other.flops - 6 * 16 * 4
    assert (one.distinct, one.slots) == (other.distinct, other.slots)


def test_one_token_replies_cost_what_torch_counts(policy: Any) -> None:
    """A prompt of one token and a reply of one, eight times: nothing is padded. Causal attention needs 1 + 2
    keys of the 2 x 2 that eager attention multiplies; torch counts the fourth one too: 12 operations for each
    of the 16 wide values, in 2 layers."""
    examples = [TokenExample(str(i), *tokens(1, 1)) for i in range(8)]
    with FlopCounterMode(display=False) as counter:
        step = Imitation(padded(policy))(examples)
        step.loss_sum.backward()
    assert step.work == Work(16, 16, 16, 16, counter.get_total_flops() - 8 * 12 * 16 * 2)


def test_bfloat16_changes_products_only(policy: Any, scalar: LastTokenScores) -> None:
    """Log-probabilities, scores, losses and gradients come out in float32, close to float32's, not equal."""
    for make in (
        lambda dtype: preference(policy, dtype),
        lambda dtype: Imitation(padded(policy, dtype)),
        lambda dtype: Scoring(padded(scalar, dtype), BradleyTerry()),
    ):
        items: Any = EXAMPLES if isinstance(make(BF16), Imitation) else PAIRS
        model: Any = scalar if isinstance(make(BF16), Scoring) else policy
        found = []
        for dtype in (torch.float32, BF16):
            model.zero_grad()
            step = make(dtype)(items)
            step.loss_sum.backward()
            assert step.loss_sum.dtype == torch.float32
            assert {one.dtype for one in model.parameters()} == {torch.float32}
            assert {one.grad.dtype for one in model.parameters()} == {torch.float32}
            gradient = torch.cat([one.grad.flatten() for one in model.parameters()])
            found.append((step.loss_sum.item(), gradient))
        (loss, gradient), (rough_loss, rough_gradient) = found
        assert rough_loss == pytest.approx(loss, rel=0.01)
        assert not torch.equal(rough_gradient, gradient)
        assert float((rough_gradient - gradient).norm() / gradient.norm()) < 0.05


def test_log_probabilities_and_scores_keep_their_bits(policy: Any, scalar: LastTokenScores) -> None:
    """Rounded to bfloat16 they would change; what is summed in float32 does."""
    logps = preference(policy, BF16).logps(PAIRS)
    chosen, rejected = Scoring(padded(scalar, BF16), BradleyTerry()).scores(PAIRS)
    for values in (logps.policy_chosen, logps.reference_rejected, chosen, rejected):
        assert values is not None
        assert values.dtype == torch.float32
        assert not torch.equal(values, values.to(BF16).float())
    plain = Scoring(padded(scalar), BradleyTerry()).scores(PAIRS)[0]
    assert not torch.equal(chosen, plain)


def test_policy_and_reference_are_rounded_alike(policy: Any) -> None:
    """The first step's loss is ln 2 to the last bit of float32."""
    step = preference(policy, BF16)(PAIRS)
    assert step.loss_sum.item() / 2 == pytest.approx(float(np.log(2)), abs=1e-7)

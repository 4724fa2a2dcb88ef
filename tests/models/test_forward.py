from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_architectures import ARCHITECTURES, random_causal

from align.errors import ModelError
from align.models.build import seeded
from align.models.forward import reply_logps
from align.models.logprobs import token_logps

PAD = 0
# rows of unlike lengths, the padding id inside two of them, and a reply as long as the longest prompt
PROMPTS = [np.array(ids, dtype=np.int32) for ids in ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [20], [0, 30, 0])]
REPLIES = [
    np.array(ids, dtype=np.int32) for ids in ([40, 2], [50, 51, 52, 53, 54, 55, 56, 57, 58, 2], [0, 0, 2])
]


def alone(model, row: int, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of one reply from the whole logits of its unpadded text, written out."""
    ids = torch.tensor([[*PROMPTS[row], *REPLIES[row]]])
    logits = model(input_ids=ids).logits[:, :-1] / temperature
    logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[0, :, 0]
    return logps[len(PROMPTS[row]) - 1 :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_padded_batch_equals_each_row_alone(architecture: str):
    model = random_causal(architecture)
    got = reply_logps(model, PROMPTS, REPLIES, PAD)
    assert got.mask_BT.tolist() == [[True] * n + [False] * (10 - n) for n in (2, 10, 3)]
    assert got.counts_B().tolist() == [2, 10, 3]
    for row in range(3):
        expected = alone(model, row)
        torch.testing.assert_close(got.logps_BT[row, : len(expected)], expected, atol=1e-5, rtol=0)
        assert got.logps_BT[row, len(expected) :].abs().sum() == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_of_a_padded_batch_equal_the_sum_over_rows(architecture: str):
    model = random_causal(architecture)
    weights_B = torch.tensor([1.0, -0.5, 2.0])

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    batch = gradients((weights_B * reply_logps(model, PROMPTS, REPLIES, PAD).sums_B()).sum())
    rows = gradients(sum(weights_B[row] * alone(model, row).sum() for row in range(3)))
    assert batch.keys() == rows.keys()
    scale = max(float(one.abs().max()) for one in rows.values())
    for name, gradient in batch.items():
        torch.testing.assert_close(gradient, rows[name], atol=1e-5 * scale, rtol=0, msg=name)


def test_temperature_divides_the_logits():
    model = random_causal("llama")
    got = reply_logps(model, PROMPTS, REPLIES, PAD, temperature=0.5)
    torch.testing.assert_close(got.logps_BT[1], alone(model, 1, temperature=0.5), atol=1e-5, rtol=0)


def test_a_model_that_cannot_pick_positions_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    model = random_causal("gpt2")
    expected = reply_logps(model, PROMPTS, REPLIES, PAD).logps_BT
    forward = model.forward
    # an older or foreign architecture: takes the option and ignores it
    monkeypatch.setattr(
        model,
        "forward",
        lambda input_ids, attention_mask, use_cache, logits_to_keep=0: forward(
            input_ids=input_ids, attention_mask=attention_mask
        ),
    )
    torch.testing.assert_close(
        reply_logps(model, PROMPTS, REPLIES, PAD).logps_BT, expected, atol=1e-6, rtol=0
    )
    # one that does not take it at all
    monkeypatch.setattr(
        model,
        "forward",
        lambda input_ids, attention_mask, use_cache: forward(
            input_ids=input_ids, attention_mask=attention_mask
        ),
    )
    torch.testing.assert_close(
        reply_logps(model, PROMPTS, REPLIES, PAD).logps_BT, expected, atol=1e-6, rtol=0
    )


def test_an_empty_prompt_or_reply_is_refused():
    model, empty = random_causal("llama"), np.array([], dtype=np.int32)
    with pytest.raises(ModelError, match="row 1 of the batch has an empty prompt"):
        reply_logps(model, [PROMPTS[0], empty], REPLIES[:2], PAD)
    with pytest.raises(ModelError, match="row 0 of the batch has an empty reply"):
        reply_logps(model, PROMPTS[:1], [empty], PAD)


def test_token_logps_agree_with_log_softmax():
    with seeded(1):
        logits = torch.randn(2, 3, 7, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2], [6, 5, 4]])
    expected = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(token_logps(logits, labels), expected)

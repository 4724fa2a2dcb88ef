"""Tokens are drawn by the inverse of the cumulative distribution."""

from __future__ import annotations

import pytest
import torch

from align.generation.choose import choose, inverse_cdf


def test_frequencies_are_those_of_softmax():
    """Chi-square over 200 tokens, 100,000 draws: mean 199, standard deviation 20; six of them are allowed."""
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0))
    draws = 100_000
    uniforms = torch.rand(draws, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for temperature in (0.7, 1.3):
        found = choose(logits.repeat(draws, 1), uniforms, temperature, top_p=1.0)
        expected = (logits.double() / temperature).softmax(-1)
        counts = torch.bincount(found.tokens_B, minlength=200)
        chi = float(((counts - draws * expected) ** 2 / (draws * expected)).sum())
        assert 79 < chi < 319
        torch.testing.assert_close(found.logps_B.double(), expected.log()[found.tokens_B], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 5, 64, 65, 300])
def test_it_is_the_first_index_whose_cumulative_weight_exceeds_the_share(size: int):
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(50, size, generator=generator)
    weights[torch.rand(50, size, generator=generator) < 0.5] = 0
    weights[:, size // 2] = 0.3
    shares = torch.rand(50, dtype=torch.float64, generator=generator)
    upto = weights.double().cumsum(-1)
    expected = (upto <= shares.unsqueeze(-1) * upto[:, -1:]).sum(-1)
    assert inverse_cdf(weights, shares).tolist() == expected.tolist()


@pytest.mark.parametrize("share", [0.0, 1 - 2**-53])
def test_a_token_of_no_weight_is_never_drawn(share: float):
    weights = torch.zeros(300, 200)
    only = torch.arange(300) % 200
    weights[torch.arange(300), only] = torch.rand(300, generator=torch.Generator().manual_seed(0)) + 0.1
    assert inverse_cdf(weights, torch.full((300,), share, dtype=torch.float64)).tolist() == only.tolist()


def test_top_p_keeps_the_smallest_set_and_tells_whole_log_probabilities():
    logits = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2]).log().repeat(1000, 1)
    uniforms = torch.arange(1000, dtype=torch.float64) / 1000
    found = choose(logits.clone(), uniforms, 1.0, top_p=0.6)
    # 0.4 and 0.25 hold 0.65; of the draws 0.4 / 0.65 = 615.4 of 1000 are token 1
    assert torch.bincount(found.tokens_B, minlength=5).tolist() == [0, 616, 0, 384, 0]
    torch.testing.assert_close(found.logps_B, logits[0][found.tokens_B])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_rows_that_are_not_finite_are_marked(bad: float):
    logits = torch.zeros(3, 100)
    logits[1, 50] = bad
    for temperature in (0.0, 1.0):
        found = choose(logits.clone(), torch.full((3,), 0.5, dtype=torch.float64), temperature, 1.0)
        assert found.finite_B.tolist() == [True, False, True]
        assert found.tokens_B.max() < 100


def test_half_precision_is_widened_first():
    logits = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = choose(logits, torch.full((4,), 0.5, dtype=torch.float64), 1.0, 1.0)
    expected = logits.float().log_softmax(-1).gather(-1, found.tokens_B.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found.logps_B, expected)

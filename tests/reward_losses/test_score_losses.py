"""Bradley-Terry on scores: its equations by hand, its extremes, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from align.config import build
from align.errors import ConfigError, DataError
from align.reward_losses.bradley_terry import BradleyTerry

CHOSEN = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
REJECTED = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
MARGIN = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)


def logistic(x: float) -> float:
    return math.log(1 + math.exp(-x))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Differences 1, -1, 0; margins 1, 0, 3; sums of the scores 1, 0, 4.
        ({}, [logistic(1), logistic(-1), logistic(0)]),
        ({"margin": "subtract"}, [logistic(0), logistic(-1), logistic(-3)]),
        ({"margin": "scale"}, [logistic(1), 0.0, 3 * logistic(0)]),
        ({"centring": 0.01}, [logistic(1) + 0.01, logistic(-1), logistic(0) + 0.16]),
        ({"margin": "scale", "centring": 0.5}, [logistic(1) + 0.5, 0.0, 3 * logistic(0) + 8]),
    ],
)
def test_by_hand(settings: dict[str, object], expected: list[float]) -> None:
    losses = build(BradleyTerry, settings)(CHOSEN, REJECTED, MARGIN)
    assert losses.tolist() == pytest.approx(expected, rel=1e-12)


def test_it_is_the_log_exp_loss() -> None:
    """-log σ(d) = log(1 + e^-d), the form of Bai et al. 2022."""
    log_exp = (1 + (REJECTED - CHOSEN).exp()).log()
    torch.testing.assert_close(BradleyTerry()(CHOSEN, REJECTED, None), log_exp, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_does_not_overflow(dtype: torch.dtype) -> None:
    chosen = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
    losses = BradleyTerry(centring=0.01)(chosen, -chosen.detach(), None)
    assert losses.dtype == torch.float32
    # bfloat16 rounds 1e4 to 9984, and so the difference of 2e4 to 19968.
    assert losses.tolist() == pytest.approx([20000.0 if dtype == torch.float32 else 19968.0, 0.0])
    losses.sum().backward()
    assert chosen.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["subtract", "scale"])
def test_a_margin_that_the_data_lacks_is_named(mode: str) -> None:
    with pytest.raises(DataError, match=f"margin={mode} needs pairs that carry a margin.*margin=ignore"):
        BradleyTerry(margin=mode)(CHOSEN, REJECTED, None)


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"one of ignore, subtract, scale, got 'substract'\. Did you mean"):
        build(BradleyTerry, {"margin": "substract"})

"""Direct preference optimisation: plain, conservative, under another divergence, without a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from align.errors import ConfigError
from align.losses._terms import (
    FlipRate,
    Sides,
    log_ratios,
    log_sigmoid,
    logged_ratios,
    logistic,
    power_score,
    with_rewards,
)
from align.settings import Positive

if TYPE_CHECKING:
    from torch import Tensor

    from align.tensors import PairLogps, PairLosses

__all__ = ["Dpo"]


@dataclass(frozen=True)
class Dpo:
    """DPO (Rafailov et al. 2023, eq. 7); with ``label_smoothing`` conservative DPO (Mitchell 2023, eq. 3).

    ``divergence`` is what keeps the policy near the reference (Wang et al. 2023, "Beyond Reverse KL"): with
    u = π/π_ref the log-ratio gives way to f'(u). The implicit rewards that are logged stay beta times the
    log-ratio.
    """

    needs_tokens: ClassVar[bool] = False
    couples_batch: ClassVar[bool] = False

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    label_smoothing: FlipRate = 0.0
    """Probability ε that a label is wrong; the margin then settles at logit(1-ε)/beta."""
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl"
    """Divergence from the reference; the paper's is the reverse KL."""
    alpha: float | None = None
    """α of the alpha divergence (1 - u^-α)/α: 0 is the reverse KL, 1 the forward; none for the others."""
    per_token: bool = False
    """Divides each reply's score by its length in tokens (length-normalised DPO; Lambert et al. 2024)."""
    reference_free: bool = False
    """Takes a uniform reference, which drops out: no reference pass is made."""

    def __post_init__(self) -> None:
        if (self.divergence == "alpha") != (self.alpha is not None):
            raise ConfigError(
                f"alpha goes with divergence=alpha and only with it: got divergence={self.divergence} and "
                f"alpha={'none' if self.alpha is None else self.alpha}"
            )

    @property
    def needs_reference(self) -> bool:
        """False where the reference is taken to be uniform."""
        return not self.reference_free

    def __call__(self, logps: PairLogps) -> PairLosses:
        ratios = log_ratios(logps, self.reference_free)
        scores = Sides(self._score(ratios.chosen), self._score(ratios.rejected))
        if self.per_token:
            scores = scores.per_token(logps)
        losses = logistic(self.beta * scores.margin(), self.label_smoothing)
        return with_rewards(losses, self.beta, logged_ratios(logps))

    def _score(self, log_u: Tensor) -> Tensor:
        """f'(u) from log u (Wang et al. 2023, table 1), each 0 at u = 1."""
        if self.divergence == "js":  # log 2u/(1+u)
            return math.log(2) + log_sigmoid(log_u)
        alpha = 1.0 if self.divergence == "forward_kl" else self.alpha or 0.0
        return power_score(log_u, alpha)

"""KTO: replies labelled desirable or undesirable, each held against how far the policy has drifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from align.errors import ConfigError
from align.settings import NonNegative, Positive
from align.tensors import UnpairedLosses

if TYPE_CHECKING:
    from torch import Tensor

    from align.tensors import UnpairedLogps

__all__ = ["Kto"]


@dataclass(frozen=True)
class Kto:
    """KTO (Ethayarajh et al. 2024, eq. 8): w_D·(1 - σ(β(r - z))) if desirable, else w_U·(1 - σ(β(z - r))).

    r is the log-ratio log π(y|x)/π_ref(y|x), and z, the baseline, an estimate of KL(π || π_ref) that is never
    below 0 and carries no gradient. It is the micro-batch's own, so that the loss couples the batch. The
    paper has β inside z as well, which is the same number.
    """

    beta: Positive = 0.1
    """Strength of the pull towards the reference; the implicit reward is beta times the log-ratio."""
    desirable_weight: NonNegative = 1.0
    """Weight w_D of a desirable reply. The paper keeps w_D·n_D / (w_U·n_U) within 1 and 4/3."""
    undesirable_weight: NonNegative = 1.0
    """Weight w_U of an undesirable reply."""
    baseline: Literal["mismatched", "other_label", "none"] = "mismatched"
    """What z is the mean log-ratio of: ``mismatched`` replies to other prompts (the paper's), the replies of
    the ``other_label`` (OpenRLHF's; no further pass), or ``none``: z = 0, which is unpaired APO-zero
    (D'Oosterlinck et al. 2024)."""

    def __post_init__(self) -> None:
        if not self.desirable_weight and not self.undesirable_weight:
            raise ConfigError("desirable_weight and undesirable_weight are both 0, so that nothing is learnt")

    @property
    def needs_mismatched(self) -> bool:
        """True where log-probabilities of replies to other prompts are looked at."""
        return self.baseline == "mismatched"

    def __call__(self, logps: UnpairedLogps) -> UnpairedLosses:
        ratios = _widened(logps.policy) - _widened(logps.reference)
        baselines = self._baselines(logps, ratios.detach())
        gains = (ratios - baselines).where(logps.desirable, baselines - ratios)
        weights = ratios.new_full(ratios.shape, self.undesirable_weight).masked_fill(
            logps.desirable, self.desirable_weight
        )
        losses = weights * (-self.beta * gains).sigmoid()  # 1 - σ(x) = σ(-x), without the cancellation
        return UnpairedLosses(losses, self.beta * ratios.detach(), baselines)

    def _baselines(self, logps: UnpairedLogps, ratios: Tensor) -> Tensor:
        """z of each reply (N,), in nats."""
        if self.baseline == "none":
            return ratios.new_zeros(ratios.shape)
        if self.baseline == "other_label":
            good, bad = logps.desirable, ~logps.desirable
            return _estimate(ratios[bad]).expand_as(ratios).where(good, _estimate(ratios[good]))
        if logps.policy_mismatched is None or logps.reference_mismatched is None:
            raise ValueError(
                "baseline=mismatched needs the log-probabilities of mismatched replies, which are missing"
            )
        mismatched = _widened(logps.policy_mismatched.detach()) - _widened(logps.reference_mismatched)
        return _estimate(mismatched).expand_as(ratios)


def _estimate(ratios: Tensor) -> Tensor:
    """A mean log-ratio, at least 0; 0 where there is none."""
    return ratios.mean().clamp(min=0) if ratios.numel() else ratios.new_zeros(())


def _widened(values: Tensor) -> Tensor:
    """Half precision as float32; anything wider as it is."""
    return values.float() if values.element_size() < 4 else values

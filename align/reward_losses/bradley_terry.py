"""Bradley-Terry: the probability that the chosen reply wins is σ of the difference of the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from align.errors import DataError
from align.settings import NonNegative

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BradleyTerry"]


@dataclass(frozen=True)
class BradleyTerry:
    """-log σ(r_w - r_l) (Ouyang et al. 2022, eq. 1), also written log(1 + e^(r_l - r_w)).

    With ``margin`` the data says by how much: ``subtract`` is -log σ(r_w - r_l - m) (Touvron et al. 2023,
    eq. 2), ``scale`` is -m log σ(r_w - r_l) (Wang et al. 2024, "HelpSteer2-Preference").
    """

    margin: Literal["ignore", "subtract", "scale"] = "ignore"
    """What becomes of a pair's margin (in the data's own unit)."""
    centring: NonNegative = 0.0
    """Weight of (r_w + r_l)², which holds the scores near 0 (Eisenstein et al. 2023); 0.01 is theirs."""

    def __call__(self, chosen: Tensor, rejected: Tensor, margin: Tensor | None) -> Tensor:
        from torch.nn.functional import logsigmoid

        if chosen.element_size() < 4:
            chosen, rejected = chosen.float(), rejected.float()
        losses = -logsigmoid(chosen - rejected - self._subtracted(margin))
        if self.margin == "scale":
            losses = losses * self._required(margin)
        if self.centring:
            losses = losses + self.centring * (chosen + rejected) ** 2
        return losses

    def _subtracted(self, margin: Tensor | None) -> Tensor | float:
        return self._required(margin) if self.margin == "subtract" else 0.0

    def _required(self, margin: Tensor | None) -> Tensor:
        if margin is None:
            raise DataError(
                f"reward_loss.margin={self.margin} needs pairs that carry a margin, and these carry none: "
                f"set reward_loss.margin=ignore, or name the margin's column in the dataset"
            )
        return margin

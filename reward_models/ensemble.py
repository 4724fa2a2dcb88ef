"""Several scalar models as one reward: their mean, their worst, or their mean minus their variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from align.config import Range
from align.errors import ConfigError, ModelError
from align.types import Scores
from reward_models.bradley_terry import BradleyTerry, Ready

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from align.models.policy import Policy
    from align.types import Prompt

__all__ = ["Ensemble"]

How = Literal["mean", "worst_case", "mean_minus_variance"]


@dataclass(frozen=True)
class Ensemble:
    """A conservative reward from members that were trained alike with other seeds (Coste et al. 2023).

    Where members agree their common score counts; where they do not, a policy has left what their data
    could teach them, and ``worst_case`` and ``mean_minus_variance`` take that off.

    A Bradley-Terry model is trained on differences: adding a constant to all of one member's scores
    changes nothing that it was trained on, but decides which member is the worst and how far they are
    apart. By default each member is therefore shifted so that its scores of unseen pairs have mean zero;
    the authors' code takes scores as they come (``scale=raw``). The mean is the same either way, up to a
    constant.
    """

    paths: tuple[str, ...]
    """The members, each as in ``reward=bradley_terry``: ``[runs/seed=1,runs/seed=2]``."""
    how: How = "mean_minus_variance"
    """``mean``, ``worst_case`` (the lowest), or ``mean_minus_variance`` (uncertainty-weighted)."""
    coefficient: Annotated[float, Range(low=0)] = 0.5
    """Lambda of ``mean_minus_variance``, in units of 1 / score."""
    unbiased: bool = False
    """Divides the variance by members - 1 rather than by members."""
    scale: Literal["centred", "standardised", "raw"] = "centred"
    """What makes members comparable: their mean on unseen pairs taken off, also their standard deviation
    divided out, or nothing."""
    batch_size: Annotated[int, Range(low=1)] = 32
    """Replies scored at once by each member."""
    too_long: Literal["truncate_left", "error"] = "truncate_left"
    """What a text with more tokens than a member has positions for does: cut its oldest, or stop."""
    device: str | None = None
    """Where the members run (``cpu``, ``cuda:1``); none takes an accelerator where there is one."""

    def __post_init__(self) -> None:
        if len(self.paths) < 2:
            raise ConfigError(
                f"an ensemble has two members or more, paths={list(self.paths)} names {len(self.paths)}: "
                "type reward.paths=[runs/a,runs/b], or reward=bradley_terry for one"
            )
        twice = next((path for path in self.paths if self.paths.count(path) > 1), None)
        if twice is not None:
            raise ConfigError(f"paths names {twice} twice: a member counts once")

    def prepare(self, cache: Path | None = None) -> Members:
        """Loads every member, in eval mode.

        Raises:
            ModelError: a member cannot be loaded, or does not say how it scores unseen pairs where
                ``scale`` asks for that.
        """
        return self._together(tuple(one.prepare(cache) for one in self._each()))

    def prepare_on(self, policy: Policy, cache: Path | None = None) -> Members:
        """The same, each member on the policy's frozen weights where it was trained as an adapter on them.

        Raises:
            ModelError: as ``prepare``.
        """
        return self._together(tuple(one.prepare_on(policy, cache) for one in self._each()))

    def _each(self) -> list[BradleyTerry]:
        return [BradleyTerry(path, self.batch_size, self.too_long, self.device) for path in self.paths]

    def _together(self, members: tuple[Ready, ...]) -> Members:
        lines = tuple(self._line(*one) for one in zip(self.paths, members, strict=True))
        return Members(self, members, lines)

    def _line(self, path: str, member: Ready) -> tuple[float, float]:
        """What is taken off a member's scores, and what they are then divided by."""
        if self.scale == "raw":
            return 0.0, 1.0
        seen = member.seen
        if seen is None:
            raise ModelError(
                f"reward=ensemble: {path} does not say how it scores unseen pairs (a run of stage=reward "
                "writes that to model/scores.json), so its zero cannot be compared with the others': give "
                "runs of stage=reward, or reward.scale=raw to take the scores as they come"
            )
        if self.scale == "centred":
            return seen.mean, 1.0
        if not seen.std > 0:
            raise ModelError(f"reward=ensemble: {path} scores all unseen replies alike, nothing to divide by")
        return seen.mean, seen.std


@dataclass(frozen=True)
class Members:
    """Loaded members, and the line (offset, divisor) that puts each on the common scale."""

    settings: Ensemble
    members: tuple[Ready, ...]
    lines: tuple[tuple[float, float], ...]

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Where the combined scores of texts like the members' unseen pairs lie.

        The combination of the members' own ranges: that of their bounds for ``mean`` and ``worst_case``;
        for ``mean_minus_variance`` without a lower bound, since members may be any distance apart.
        """
        ranges = [member.score_range for member in self.members]
        known = [one for one in ranges if one is not None]
        if len(known) < len(ranges):
            return None
        bounds = [
            [(bound - offset) / divisor for bound in one]
            for one, (offset, divisor) in zip(known, self.lines, strict=True)
        ]
        how: How = "worst_case" if self.settings.how == "worst_case" else "mean"
        low, high = combine(bounds, how).tolist()
        return (float("-inf") if self.settings.how == "mean_minus_variance" else low), high

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One combined score a reply.

        Raises:
            ModelError: as each member.
            NonFiniteError: as each member.
        """
        return self.score_in_parts(prompts, replies).scores

    def score_by_member(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[float]]:
        """Each member's scores on the common scale, in the order of ``paths``.

        Raises:
            ModelError: as each member.
            NonFiniteError: as each member.
        """
        return [
            [(score - offset) / divisor for score in member.score(prompts, replies)]
            for member, (offset, divisor) in zip(self.members, self.lines, strict=True)
        ]

    def score_in_parts(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> Scores:
        """The same, with ``disagreement``: the members' standard deviation (biased) on the common scale."""
        import numpy as np

        settings = self.settings
        scores_MN = np.array(self.score_by_member(prompts, replies))
        combined_N = combine(scores_MN, settings.how, settings.coefficient, unbiased=settings.unbiased)
        return Scores(combined_N.tolist(), {"disagreement": scores_MN.std(axis=0).tolist()})


def combine(
    scores_MN: ArrayLike, how: How, coefficient: float = 0.5, *, unbiased: bool = False
) -> NDArray[np.float64]:
    """The scores (N,) that M members' scores (M, N) come to (Coste et al. 2023, section 3.2).

    ``mean``: (1/M) sum_m s_m. ``worst_case``: min_m s_m. ``mean_minus_variance``: the mean minus
    ``coefficient`` times (1/M) sum_m (s_m - mean)^2, as the paper writes it and the authors' best-of-n
    code does; with ``unbiased`` 1/(M - 1), as their PPO code does. One member has no unbiased variance.
    """
    import numpy as np

    scores = np.asarray(scores_MN, dtype=np.float64)
    if how == "worst_case":
        lowest: NDArray[np.float64] = scores.min(axis=0)
        return lowest
    mean: NDArray[np.float64] = scores.mean(axis=0)
    if how == "mean":
        return mean
    variance: NDArray[np.float64] = scores.var(axis=0, ddof=1 if unbiased else 0)
    return mean - coefficient * variance

"""Settings of the stages that learn from their own replies: ppo, rloo, grpo. One dataclass a noun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from align.config import Range
from align.errors import ConfigError
from align.settings import NonNegative, Positive, PositiveInt

Share = Annotated[float, Range(low=0, high=1)]


@dataclass(frozen=True)
class RolloutSettings:
    """What is sampled in an iteration; ``training.batch_size`` counts its prompts."""

    replies: PositiveInt = 1
    """Replies to each prompt. The estimators of rloo and grpo compare them, and need two at least."""
    old_logps: Literal["sampled", "recomputed"] = "sampled"
    """Where the ratio's denominator comes from: ``sampled`` takes what was written down while sampling (no
    pass of its own), ``recomputed`` asks the policy again in the layout of the update, which makes the first
    minibatch's ratio exactly 1."""
    importance_cap: Positive | None = None
    """With ``recomputed``: multiplies each token's loss by the ratio of recomputed to sampled probability, at
    most this (truncated importance sampling, Yao et al. 2025), where the two disagree, as in bfloat16."""

    def __post_init__(self) -> None:
        if self.importance_cap is not None and self.old_logps == "sampled":
            raise ConfigError(
                "importance_cap corrects recomputed log-probabilities: set old_logps=recomputed, "
                "or leave it out"
            )


@dataclass(frozen=True)
class OnlineSettings:
    """How ``stage=online_dpo`` makes pairs of fresh replies."""

    replies: Annotated[int, Range(low=2)] = 2
    """Replies to each prompt; the best becomes the chosen one, the worst the rejected one."""
    labels: Literal["scores", "bradley_terry"] = "scores"
    """Whether the best always wins, or with probability sigmoid(score difference / ``label_temperature``)."""
    label_temperature: Positive = 1.0
    """Of ``labels=bradley_terry``, in the reward's unit."""
    epochs: PositiveInt = 1
    """Passes over the pairs of an iteration; after the first step they are another policy's."""
    minibatches: PositiveInt = 1
    """Optimiser steps a pass; must divide ``training.batch_size``."""


@dataclass(frozen=True)
class ScoreSettings:
    """What happens to a reward model's score before it is a reward."""

    missing_end: Literal["none", "subtract", "replace"] = "none"
    """What a reply that was cut before it ended pays: nothing, ``penalty`` off its score, or minus
    ``penalty`` instead of its score (Huang et al. 2024)."""
    penalty: NonNegative = 1.0
    """Size of that, in the reward's unit."""
    normalise: Literal["none", "scale", "standard"] = "none"
    """``scale`` divides by the running standard deviation of all scores so far, ``standard`` takes their
    running mean off, too: a critic that starts at zero is then right on average (Ziegler et al. 2019)."""
    clip: Positive | None = None
    """Scores are kept within plus and minus this, after they were normalised."""


@dataclass(frozen=True)
class KlSettings:
    """What holds the policy near its reference."""

    coef: NonNegative = 0.05
    """Reward, or loss, for each nat of KL; 0 with a fixed controller asks no reference at all."""
    place: Literal["reward", "loss"] = "reward"
    """Whether the estimate is taken off the reward of each token, or added to its loss."""
    estimator: Literal["k1", "k2", "k3", "abs"] = "k1"
    """Schulman's estimators. In a loss, k1 has no gradient on average, and k2 or k3 is meant."""
    controller: Literal["fixed", "adaptive"] = "fixed"
    """``adaptive`` moves the coefficient until a reply's KL is ``target`` (Ziegler et al. 2019)."""
    target: Positive = 6.0
    """Nats of a reply that the adaptive controller aims at."""
    horizon: PositiveInt = 10000
    """Replies over which it acts."""

    def __post_init__(self) -> None:
        if self.place == "loss" and self.estimator == "k1":
            raise ConfigError(
                "estimator=k1 in the loss has no gradient on average and holds nothing: "
                "take estimator=k3 (or k2), or place=reward"
            )
        if self.controller == "adaptive" and self.coef == 0:
            raise ConfigError("an adaptive coefficient that starts at coef=0 stays there: give coef above 0")


@dataclass(frozen=True)
class GaeSettings:
    """How much better than expected each token was, by a critic (Schulman et al. 2016)."""

    gamma: Share = 1.0
    """Discount a token."""
    lam: Share = 0.95
    """Trades the critic's bias (0) against the variance of returns (1)."""
    whiten: bool = True
    """Advantages of an iteration to mean 0 and variance 1."""
    shift_mean: bool = True
    """Whether whitening takes the mean off, too; false leaves it what it was."""
    whiten_rewards: bool = False
    """The rewards of all tokens to variance 1 first, their mean kept (Huang et al. 2024)."""
    unbiased: bool = True
    """Variance over n - 1; false over n."""


@dataclass(frozen=True)
class GroupSettings:
    """How much better than a prompt's other replies each reply was, without a critic."""

    baseline: Literal["leave_one_out", "group_mean"] = "leave_one_out"
    """The mean of the other replies (Ahmadian et al. 2024), or of all of them (Shao et al. 2024)."""
    scale: Literal["none", "group", "batch"] = "none"
    """What ``group_mean`` divides by: nothing (Liu et al. 2025), the standard deviation of the prompt's
    replies (Shao et al. 2024), or that of all replies."""
    whiten: bool = False
    """Advantages of an iteration to mean 0 and variance 1."""

    def __post_init__(self) -> None:
        if self.baseline == "leave_one_out" and self.scale != "none":
            raise ConfigError(
                f"scale={self.scale} is for baseline=group_mean: set that, or scale=none, as leave_one_out "
                f"divides by nothing"
            )


@dataclass(frozen=True)
class ObjectiveSettings:
    """What an iteration's replies are used for."""

    epochs: PositiveInt = 4
    """Passes over the replies of an iteration."""
    minibatches: PositiveInt = 4
    """Optimiser steps a pass; must divide ``training.batch_size``."""
    clip_low: Share = 0.2
    """The ratio of new to old probability counts down to 1 minus this."""
    clip_high: Positive = 0.2
    """And up to 1 plus this."""
    dual_clip: Annotated[float, Range(low=1, low_open=True)] | None = None
    """Bounds what one token of negative advantage can cost, in advantages (Ye et al. 2020); 3 there."""
    ratio: Literal["token", "reply", "reply_mean"] = "token"
    """A ratio for each token, for the whole reply (RLOO: the reply is one action), or the reply's geometric
    mean (GSPO, Zheng et al. 2025)."""
    form: Literal["clip", "cispo"] = "clip"
    """PPO's minimum, or a bounded weight on the log-probability (CISPO)."""
    mean: Literal["token", "sequence", "fixed_length"] = "token"
    """Each token counts alike; each reply does; or each reply's sum over ``sampling.max_new_tokens``."""
    entropy_coef: NonNegative = 0.0
    """Reward for each nat of a token's entropy."""
    ptx_coef: NonNegative = 0.0
    """Weight of imitating the dataset's own replies (chosen ones, of pairs) in the same step (PPO-ptx,
    Ouyang et al. 2022)."""
    target_kl: Positive | None = None
    """Ends an iteration's passes once the update has moved a token's log-probability by this much: the mean
    approximate KL of a minibatch, in nats a token."""

    def __post_init__(self) -> None:
        if self.dual_clip is None:
            return
        if self.form != "clip":
            raise ConfigError(f"dual_clip is for form=clip: leave it out with form={self.form}")
        if self.dual_clip <= 1 + self.clip_high:
            raise ConfigError(
                f"dual_clip={self.dual_clip:g} would cut the clip range, which ends at 1 + clip_high = "
                f"{1 + self.clip_high:g}: give more than that, say 3"
            )


@dataclass(frozen=True)
class CriticSettings:
    """Who says what a reply will be worth, at each of its tokens."""

    kind: Literal["shared", "separate"] = "shared"
    """A value head on the policy's own trunk, or a network of its own. Under LoRA that is an adapter and a
    head on the policy's frozen weights, where it starts from them."""
    path: str | None = None
    """What a separate one starts from: a run of ``stage=reward``, say; none takes the policy's own start."""
    value_coef: NonNegative = 0.1
    """Weight of the critic's loss beside the policy's."""
    value_clip: Positive | None = 0.2
    """A value moves by this much in an iteration before its gradient stops; none never stops it."""

    def __post_init__(self) -> None:
        if self.kind == "shared" and self.path is not None:
            raise ConfigError("path is for kind=separate: a value head on the policy starts from zero")


@dataclass(frozen=True)
class Recipe:
    """The settings of an iteration, one noun each."""

    rollout: RolloutSettings
    score: ScoreSettings
    kl: KlSettings
    advantage: GaeSettings | GroupSettings
    objective: ObjectiveSettings
    critic: CriticSettings | None

    @property
    def asks_reference(self) -> bool:
        """Whether the reference's log-probabilities count for anything."""
        return self.kl.coef > 0 or self.kl.controller == "adaptive"

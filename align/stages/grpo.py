"""Group-relative policy optimisation (GRPO, Shao et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from align.alarms.settings import AlarmSettings
from align.generation.address import ServerSettings
from align.generation.serving import ServingSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.ppo.settings import (
    GroupSettings,
    KlSettings,
    ObjectiveSettings,
    Recipe,
    RolloutSettings,
    ScoreSettings,
)
from align.protocols import RewardModel
from align.settings import (
    DatasetSettings,
    DeepspeedSettings,
    EvaluationSettings,
    SamplingSettings,
    TrainingSettings,
)
from align.stages._recipe import refuse_misfits

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Grpo"]


@dataclass(frozen=True)
class Grpo:
    """``stage=grpo``: a policy from a reward, by its own replies, without a critic."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    reward: RewardModel
    sampling: SamplingSettings
    training: TrainingSettings
    alarms: AlarmSettings
    rollout: RolloutSettings
    score: ScoreSettings
    kl: KlSettings
    advantage: GroupSettings
    objective: ObjectiveSettings
    evaluation: EvaluationSettings
    server: ServerSettings | None = None
    """Who writes the replies in the policy's place."""
    serving: ServingSettings = field(default_factory=ServingSettings)
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def __post_init__(self) -> None:
        refuse_misfits(self)

    @property
    def recipe(self) -> Recipe:
        """The settings of an iteration."""
        return Recipe(self.rollout, self.score, self.kl, self.advantage, self.objective, None)

    def execute(self, run: Run) -> None:
        """Writes ``model/``, and what unseen prompts' replies score before and after to results.json."""
        from align.stages._rollouts import optimise

        optimise(run, self)

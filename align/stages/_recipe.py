"""What ppo, rloo and grpo are made of, and which settings cannot be together; imports no torch."""

from __future__ import annotations

from typing import Protocol

from align.errors import ConfigError
from align.ppo.settings import GroupSettings, Recipe
from align.protocols import RewardModel
from align.settings import (
    AdapterSettings,
    AlarmSettings,
    DatasetSettings,
    DeepspeedSettings,
    EvaluationSettings,
    ModelSettings,
    SamplingSettings,
    TrainingSettings,
)


class TrainingStage(Protocol):
    """The groups that every stage has that trains."""

    @property
    def training(self) -> TrainingSettings: ...

    @property
    def alarms(self) -> AlarmSettings: ...

    @property
    def deepspeed(self) -> DeepspeedSettings: ...


class SamplingStage(TrainingStage, Protocol):
    """The groups that ppo, rloo, grpo and online_dpo have in common."""

    @property
    def model(self) -> ModelSettings: ...

    @property
    def adapter(self) -> AdapterSettings: ...

    @property
    def dataset(self) -> DatasetSettings: ...

    @property
    def reward(self) -> RewardModel: ...

    @property
    def sampling(self) -> SamplingSettings: ...

    @property
    def evaluation(self) -> EvaluationSettings: ...


class RolloutStage(SamplingStage, Protocol):
    """Those of ppo, rloo and grpo, and their recipe."""

    @property
    def recipe(self) -> Recipe: ...


def refuse_sampling(sampling: SamplingSettings, model: ModelSettings) -> None:
    """What a policy that learns from its own replies cannot sample with.

    Raises:
        ConfigError: says which setting, and what to type.
    """
    if sampling.temperature == 0:
        raise ConfigError("sampling.temperature=0 always says the same: give a temperature above 0, say 1")
    if sampling.top_p < 1:
        raise ConfigError(
            f"sampling.top_p={sampling.top_p} samples from another distribution than the one that is "
            f"trained: leave it at 1"
        )
    if sampling.max_new_tokens >= model.max_length:
        raise ConfigError(
            f"sampling.max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt in "
            f"model.max_length={model.max_length}: lower the one or raise the other"
        )


def refuse_looks(training: TrainingSettings) -> None:
    """What asks for a validation value, which a policy that learns from its own replies does not have.

    Raises:
        ConfigError: says which setting, and what to type.
    """
    for name in ("early_stopping", "eval_every"):
        if getattr(training, name) is not None:
            raise ConfigError(
                f"training.{name}={getattr(training, name)}: this stage looks at no validation split, its "
                f"replies are new in every step: set training.{name}=null"
            )


def refuse_misfits(stage: RolloutStage) -> None:
    """What typed settings cannot be together.

    Raises:
        ConfigError: says which, and what to type.
    """
    sampling, training, recipe = stage.sampling, stage.training, stage.recipe
    refuse_sampling(sampling, stage.model)
    refuse_looks(training)
    for name, value in (("model.dropout", stage.model.dropout), ("adapter.dropout", stage.adapter.dropout)):
        if value:
            raise ConfigError(
                f"{name}={value}: with dropout the first ratio is not 1, and clipping acts on noise "
                f"(Huang et al. 2024); set it to 0"
            )
    if training.batch_size % recipe.objective.minibatches:
        raise ConfigError(
            f"objective.minibatches={recipe.objective.minibatches} does not divide "
            f"training.batch_size={training.batch_size}: change the one or the other"
        )
    minibatch = training.batch_size // recipe.objective.minibatches
    if training.micro_batch_size and minibatch % training.micro_batch_size:
        raise ConfigError(
            f"training.micro_batch_size={training.micro_batch_size} does not divide the {minibatch} prompts "
            f"of a minibatch (training.batch_size / objective.minibatches)"
        )
    if isinstance(recipe.advantage, GroupSettings) and recipe.rollout.replies < 2:
        raise ConfigError(
            f"rollout.replies={recipe.rollout.replies}: a prompt's replies are compared with each other, "
            f"so there must be two at least"
        )

"""What ppo, rloo and grpo are made of, and which settings cannot be together; imports no torch."""

from __future__ import annotations

from typing import Protocol

from align.alarms.settings import AlarmSettings
from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.generation.serving import ServingSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.ppo.settings import GroupSettings, Recipe
from align.protocols import RewardModel
from align.settings import (
    DatasetSettings,
    DeepspeedSettings,
    EvaluationSettings,
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

    @property
    def server(self) -> ServerSettings | None: ...

    @property
    def serving(self) -> ServingSettings: ...


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


def refuse_serving(stage: SamplingStage) -> None:
    """What replies from a server cannot be together with.

    Raises:
        ConfigError: says which setting, and what to type.
    """
    serving, temperature = stage.serving, stage.sampling.temperature
    if stage.server is None:
        if serving != ServingSettings():
            raise ConfigError(
                "serving is for replies from a server: give server.url=ADDRESS server.model=NAME, or leave "
                "out serving"
            )
        return
    if serving.logprobs == "raw" and temperature != 1:
        raise ConfigError(
            f"serving.logprobs=raw cannot be compared with the policy's at "
            f"sampling.temperature={temperature:g}: type sampling.temperature=1, or "
            f"serving.logprobs=tempered where the server gives those (vLLM with "
            f"--logprobs-mode processed_logprobs, SGLang), or serving.logprobs=none"
        )
    if serving.reload == "vllm_lora" and stage.adapter.kind != "lora":
        raise ConfigError("serving.reload=vllm_lora hands an adapter over: type adapter=lora, or reload=vllm")


def refuse_served_rollouts(stage: RolloutStage) -> None:
    """The same for ratios and their weights.

    Raises:
        ConfigError: says which setting, and what to type.
    """
    rollout, serving = stage.recipe.rollout, stage.serving
    if stage.server is None:
        return
    if rollout.old_logps == "sampled":
        raise ConfigError(
            "rollout.old_logps=sampled takes the policy's own numbers, and a server's are its own: "
            "type rollout.old_logps=recomputed"
        )
    if rollout.importance_cap is not None and serving.logprobs == "none":
        raise ConfigError(
            "rollout.importance_cap weighs by the server's log-probabilities: set serving.logprobs=raw"
        )
    if rollout.importance_cap is None and serving.reload == "none":
        raise ConfigError(
            "the server keeps its weights while the policy moves: weigh its replies with "
            "rollout.importance_cap=2, or let it load the policy's with serving.reload=vllm (or sglang ...)"
        )
    if rollout.importance_cap is None and serving.refresh_every > 1:
        raise ConfigError(
            f"serving.refresh_every={serving.refresh_every} lets the server fall behind the policy: weigh "
            f"its replies with rollout.importance_cap=2, or leave it at 1"
        )


def refuse_misfits(stage: RolloutStage) -> None:
    """What typed settings cannot be together.

    Raises:
        ConfigError: says which, and what to type.
    """
    sampling, training, recipe = stage.sampling, stage.training, stage.recipe
    refuse_sampling(sampling, stage.model)
    refuse_looks(training)
    refuse_serving(stage)
    refuse_served_rollouts(stage)
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

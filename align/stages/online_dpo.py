"""Online DPO: sample, label with the reward, any pair loss on the fresh pairs, again (Guo et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from align.alarms.settings import AlarmSettings
from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.generation.serving import ServingSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.ppo.settings import OnlineSettings
from align.protocols import PairLoss, RewardModel
from align.settings import (
    DatasetSettings,
    DeepspeedSettings,
    EvaluationSettings,
    SamplingSettings,
    TrainingSettings,
)
from align.stages._recipe import refuse_looks, refuse_sampling, refuse_serving

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["OnlineDpo"]


@dataclass(frozen=True)
class OnlineDpo:
    """``stage=online_dpo``: a policy from a reward, by pairs of its own replies."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    reward: RewardModel
    loss: PairLoss
    sampling: SamplingSettings
    training: TrainingSettings
    alarms: AlarmSettings
    online: OnlineSettings
    evaluation: EvaluationSettings
    server: ServerSettings | None = None
    """Who writes the replies in the policy's place."""
    serving: ServingSettings = field(default_factory=ServingSettings)
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def __post_init__(self) -> None:
        refuse_sampling(self.sampling, self.model)
        refuse_looks(self.training)
        refuse_serving(self)
        if self.training.batch_size % self.online.minibatches:
            raise ConfigError(
                f"online.minibatches={self.online.minibatches} does not divide "
                f"training.batch_size={self.training.batch_size}: change the one or the other"
            )

    def execute(self, run: Run) -> None:
        """Writes ``model/``, and what unseen prompts' replies score before and after to results.json."""
        from dataclasses import replace

        from align.alarms.watch import counted
        from align.distributed.device import device
        from align.distributed.world import led
        from align.models.policy import save_policy
        from align.ppo.asking import Asking
        from align.ppo.online import OnlinePairs
        from align.stages._common import input_hashes, open_policy, open_reward, ready, warn_if_coupled
        from align.stages._rollouts import opened_reference, opened_server, read_questions, report
        from align.training.loop import train

        policy = open_policy(run, self.model, self.adapter, self.dataset)
        questions = read_questions(run, self, policy)
        warn_if_coupled(self.loss, self.training)
        scorer, forward = open_reward(run, self.reward, policy), ready(policy, self.training)
        with opened_server(run, self, policy) as served:
            replies = self.online.replies
            course = OnlinePairs(
                asking=Asking(policy, scorer, questions, self.sampling, replies, run.seed, served),
                forward=forward,
                loss=self.loss,
                reference=opened_reference(self, policy, forward) if self.loss.needs_reference else None,
                online=self.online,
                training=self.training,
            )
            summary = train(
                run=run,
                settings=replace(self.training, length_window=1),  # batches are of prompts: nothing is padded
                model=policy.model,
                course=course,
                alarms=self.alarms,
                device=device(),
                deepspeed=self.deepspeed,
                fingerprint=input_hashes(run),
            )
        led(lambda: save_policy(policy, run.directory / "model"))
        run.offer_model()
        report(run, self, policy, scorer, counted(run.stage_name, summary.alarms, summary.watched))

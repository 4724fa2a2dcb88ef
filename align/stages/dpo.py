"""Direct preference optimisation and its kin: any pair loss (``loss=``), no reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from align.alarms.settings import AlarmSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.pairs.read import refuse_demonstrations
from align.protocols import PairLoss
from align.settings import DatasetSettings, DeepspeedSettings, TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from align.pairs.store import TokenStore
    from align.run import Run
    from align.tensors import TokenPair
    from align.types import Result

__all__ = ["Dpo"]


@dataclass(frozen=True)
class Dpo:
    """``stage=dpo``: a policy from pairs; the reference is the model that it starts from."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    loss: PairLoss
    training: TrainingSettings
    alarms: AlarmSettings
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def __post_init__(self) -> None:
        refuse_demonstrations(self.dataset)

    def execute(self, run: Run) -> None:
        """Writes ``model/``; ``dpo/implicit/accuracy`` (unseen pairs) and ``dpo/alarms`` to results.json."""
        from align.distributed.world import led
        from align.models.policy import save_policy
        from align.report.closing import closing
        from align.report.figures import training_figure
        from align.stages._common import (
            fit,
            open_policy,
            pair_accuracy,
            prepare_data,
            ready,
            warn_if_coupled,
        )
        from align.stages._reference import reference_logps
        from align.training.objectives import Preference

        policy = open_policy(run, self.model, self.adapter, self.dataset)
        data = prepare_data(run, self.dataset, policy.chat, self.model, "pairs")
        warn_if_coupled(self.loss, self.training)
        forward = ready(policy, self.training)
        reference = None
        if self.loss.needs_reference:
            reference = reference_logps(run, policy, forward, data, self.training)
        objective = Preference(forward, self.loss, reference)

        def implicit_rewards(items: list[TokenPair]) -> tuple[Tensor, Tensor]:
            values = self.loss(objective.logps(items))
            return values.chosen_rewards, values.rejected_rewards

        def unseen(items: TokenStore[Any, Any]) -> list[Result]:
            return pair_accuracy("dpo/implicit", policy.model, implicit_rewards, items, self.training)

        def look() -> float:
            return unseen(data.validation)[0].value

        alarms = fit(run, self, policy.model, objective, data, validate=look)
        led(lambda: save_policy(policy, run.directory / "model"))
        run.offer_model()
        run.write_results([*unseen(data.test), *alarms])
        led(lambda: training_figure(run.directory, run.directory / "figures" / "training.png"))
        closing(run)

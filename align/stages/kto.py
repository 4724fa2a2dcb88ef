"""KTO: a policy from replies that are each labelled good or bad; pairs serve as one of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from align.alarms.settings import AlarmSettings
from align.errors import ConfigError
from align.models.settings import AdapterSettings, ModelSettings
from align.pairs.read import refuse_unlabelled
from align.protocols import UnpairedLoss
from align.settings import DatasetSettings, DeepspeedSettings, TrainingSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Kto"]


@dataclass(frozen=True)
class Kto:
    """``stage=kto``: a policy from labelled replies; the reference is the model that it starts from."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    unpaired_loss: UnpairedLoss
    training: TrainingSettings
    alarms: AlarmSettings
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def __post_init__(self) -> None:
        refuse_unlabelled(self.dataset)
        for name in ("batch_size", "micro_batch_size"):
            if self.unpaired_loss.needs_mismatched and getattr(self.training, name) == 1:
                raise ConfigError(
                    f"training.{name}=1 leaves a prompt no other reply to estimate the drift from: "
                    f"give 2 or more, or unpaired_loss.baseline=none"
                )

    def execute(self, run: Run) -> None:
        """Writes ``model/``; ``kto/loss`` and its parts (unseen replies), ``kto/alarms`` to results.json."""
        from align.distributed.world import led
        from align.models.policy import save_policy
        from align.report.closing import closing
        from align.report.figures import training_figure
        from align.stages._common import fit, open_policy, prepare_data, ready, some_unseen
        from align.stages._unpaired import held_out_loss, unpaired_reference, warn_of_micro_batches
        from align.training.unpaired import Unpaired

        policy = open_policy(run, self.model, self.adapter, self.dataset)
        data = prepare_data(run, self.dataset, policy.chat, self.model, "unpaired")
        warn_of_micro_batches(self.unpaired_loss, self.training)
        forward = ready(policy, self.training)
        reference = unpaired_reference(run, policy, forward, data, self.training, self.unpaired_loss)
        objective = Unpaired(forward, self.unpaired_loss, reference, policy.max_length)

        def validation() -> float:
            loss = held_out_loss(policy.model, objective, data.validation, self.training)[0]
            return -loss.value

        alarms = fit(run, self, policy.model, objective, data, validate=validation)
        led(lambda: save_policy(policy, run.directory / "model"))
        run.offer_model()
        unseen = data.test if some_unseen(data.test) else None
        found = [] if unseen is None else held_out_loss(policy.model, objective, unseen, self.training)
        run.write_results([*found, *alarms])
        led(lambda: training_figure(run.directory, run.directory / "figures" / "training.png"))
        closing(run)

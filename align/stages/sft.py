"""Supervised fine-tuning: imitate the demonstrations (or the chosen replies of pairs)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from align.alarms.settings import AlarmSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.settings import DatasetSettings, DeepspeedSettings, TrainingSettings

if TYPE_CHECKING:
    from align.pairs.store import TokenStore
    from align.run import Run
    from align.types import Result

__all__ = ["Sft"]


@dataclass(frozen=True)
class Sft:
    """``stage=sft``: a policy that gives the demonstrations' replies; the next stages start from it."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    training: TrainingSettings
    alarms: AlarmSettings
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def execute(self, run: Run) -> None:
        """Writes ``model/``, and ``sft/nll`` (nats a reply token on unseen prompts) to results.json."""
        from align.distributed.world import led
        from align.models.policy import save_policy
        from align.report.closing import closing
        from align.report.figures import training_figure
        from align.stages._common import fit, held_out, open_policy, prepare_data, ready
        from align.training.objectives import Imitation

        policy = open_policy(run, self.model, self.adapter, self.dataset)
        data = prepare_data(run, self.dataset, policy.chat, self.model, "demonstrations")
        objective = Imitation(ready(policy, self.training))

        def unseen(items: TokenStore[Any, Any]) -> list[Result]:
            return held_out(policy.model, objective, items, self.training, {"nll": "sft/nll"})

        def look() -> float:
            return -unseen(data.validation)[0].value

        alarms = fit(run, self, policy.model, objective, data, validate=look)
        led(lambda: save_policy(policy, run.directory / "model"))
        run.offer_model()
        run.write_results([*unseen(data.test), *alarms])
        led(lambda: training_figure(run.directory, run.directory / "figures" / "training.png"))
        closing(run)

"""Reward model: a scalar head that scores the preferred reply above the other (Bradley-Terry)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from align.pairs.read import refuse_demonstrations
from align.protocols import ScoreLoss
from align.settings import AdapterSettings, AlarmSettings, DatasetSettings, ModelSettings, TrainingSettings

if TYPE_CHECKING:
    from align.pairs.store import TokenStore
    from align.run import Run
    from align.types import Result

__all__ = ["Reward"]


@dataclass(frozen=True)
class Reward:
    """``stage=reward``: a reward model from pairs; its accuracy on unseen pairs beside the Bayes limit."""

    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    reward_loss: ScoreLoss
    training: TrainingSettings
    alarms: AlarmSettings

    def __post_init__(self) -> None:
        refuse_demonstrations(self.dataset)

    def execute(self, run: Run) -> None:
        """Writes ``model/`` (a sequence classifier) and ``reward/accuracy`` to results.json."""
        from align.models.scalar import save_scalar
        from align.report.figures import reward_figure
        from align.stages._common import fit, open_scalar, pair_accuracy, prepare_data, ready
        from align.stages._truth import bayes_accuracy
        from align.training.objectives import Scoring

        scalar = open_scalar(run, self.model, self.adapter, self.dataset)
        data = prepare_data(run, self.dataset, scalar.chat, self.model, "pairs")
        objective = Scoring(ready(scalar, self.training), self.reward_loss)

        def unseen(items: TokenStore[Any, Any]) -> list[Result]:
            return pair_accuracy("reward", scalar.model, objective.scores, items, self.training)

        def look() -> float:
            return unseen(data.validation)[0].value

        alarms = fit(run, self.training, scalar.model, objective, data, self.alarms, validate=look)
        save_scalar(scalar, run.directory / "model")
        run.offer_model()
        truth = bayes_accuracy(self.dataset.source, data.test)
        run.write_results([*unseen(data.test), *truth, *alarms])
        reward_figure(run.directory, run.directory / "figures" / "reward.png")

"""Reward model: a scalar head that scores the preferred reply above the other (Bradley-Terry)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from align.alarms.settings import AlarmSettings
from align.models.settings import AdapterSettings, ModelSettings
from align.pairs.read import refuse_demonstrations
from align.protocols import ScoreLoss
from align.settings import DatasetSettings, DeepspeedSettings, TrainingSettings

if TYPE_CHECKING:
    from align.pairs.store import TokenStore
    from align.run import Run

__all__ = ["Reward"]


@dataclass(frozen=True)
class Reward:
    """``stage=reward``: a reward model from pairs; its accuracy on unseen pairs beside the Bayes limit."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    adapter: AdapterSettings
    dataset: DatasetSettings
    reward_loss: ScoreLoss
    training: TrainingSettings
    alarms: AlarmSettings
    deepspeed: DeepspeedSettings = field(default_factory=DeepspeedSettings)

    def __post_init__(self) -> None:
        refuse_demonstrations(self.dataset)

    def execute(self, run: Run) -> None:
        """Writes ``model/`` (a sequence classifier), pairs.jsonl (of unseen pairs) and results.json.

        Where its scores of validation and test pairs lie is written to ``model/scores.json``.
        """
        from align.distributed.world import led
        from align.evaluation.pair_scores import write_pair_scores
        from align.models.scalar import save_scalar
        from align.models.unseen import write_unseen
        from align.report.closing import closing
        from align.report.figures import reward_figure
        from align.stages._common import accuracy_of, fit, open_scalar, pair_scores, prepare_data, ready
        from align.stages._truth import bayes_accuracy, pair_lines
        from align.training.objectives import Scoring

        scalar = open_scalar(run, self.model, self.adapter, self.dataset)
        data = prepare_data(run, self.dataset, scalar.chat, self.model, "pairs")
        objective = Scoring(ready(scalar, self.training), self.reward_loss)

        def scores(items: TokenStore[Any, Any]) -> tuple[list[float], list[float]]:
            return pair_scores(scalar.model, objective.scores, items, self.training)

        def look() -> float:
            return accuracy_of("reward", scores(data.validation), data.validation)[0].value

        alarms = fit(run, self, scalar.model, objective, data, validate=look)
        led(lambda: save_scalar(scalar, run.directory / "model"))
        chosen, rejected = scores(data.test)
        unseen = [*chosen, *rejected, *itertools.chain(*scores(data.validation))]
        led(lambda: write_unseen(run.directory / "model", unseen))
        run.offer_model()
        if len(data.test):
            lines = pair_lines(self.dataset.source, data.test, chosen, rejected)
            led(lambda: write_pair_scores(run.directory, lines))
        measured = accuracy_of("reward", (chosen, rejected), data.test)
        truth = bayes_accuracy(self.dataset.source, data.test)
        run.write_results([*measured, *truth, *alarms])
        led(lambda: reward_figure(run.directory, run.directory / "figures" / "reward.png"))
        closing(run)

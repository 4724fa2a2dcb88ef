"""A few examples as the model will see them: text, tokens, and which of them count in the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from align.models.settings import AdapterSettings, ModelSettings
from align.settings import DatasetSettings, ShowSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Show"]


@dataclass(frozen=True)
class Show:
    """``stage=show``: reads the dataset, tokenises it and prints examples; trains nothing."""

    model: ModelSettings
    dataset: DatasetSettings
    show: ShowSettings = field(default_factory=ShowSettings)

    def execute(self, run: Run) -> None:
        """Prints ``show.examples`` examples of the training split."""
        from align.report.examples import print_example
        from align.stages._common import open_policy, prepare_data

        policy = open_policy(run, self.model, AdapterSettings(), self.dataset)
        wants = self.dataset.source.offers
        data = prepare_data(run, self.dataset, policy.chat, self.model, wants)
        for i in range(min(self.show.examples, len(data.train))):
            print_example(i + 1, data.train.text(i), data.train[i], policy.tokenizer)

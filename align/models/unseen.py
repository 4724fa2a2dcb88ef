"""How a reward model scores unseen pairs: written beside its weights, read by whoever trusts its scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from align.errors import ModelError
from align.files import write_json
from align.models.source import find_model

FILE = "scores.json"
"""Beside ``config.json``, in the folder of the model."""
TAIL = 0.001
"""Share of the scores that lies below ``low``, and above ``high``."""


@dataclass(frozen=True)
class UnseenScores:
    """Scores of both replies of pairs that a reward model was not trained on, in its own unit."""

    count: int
    """Replies scored."""
    mean: float
    std: float
    """Standard deviation over all the replies, divided by ``count``."""
    low: float
    """Quantile 0.001, between neighbours in proportion; near the minimum where there are few."""
    high: float
    """Quantile 0.999."""


def unseen_scores(scores: Sequence[float]) -> UnseenScores:
    """The summary of some scores, one at least."""
    values = np.asarray(scores, dtype=np.float64)
    low, high = np.quantile(values, (TAIL, 1 - TAIL)).tolist()
    return UnseenScores(values.size, float(values.mean()), float(values.std()), low, high)


def write_unseen(folder: Path, scores: Sequence[float]) -> None:
    """Writes the summary into a model's folder; nothing where there is no score."""
    if len(scores):
        write_json(folder / FILE, asdict(unseen_scores(scores)))


def read_unseen(path: str) -> UnseenScores | None:
    """The summary of the reward model that ``path`` stands for (as ``model.path``), where one was written.

    An adapter's folder and a Hub name have none: a base model's scores are not the adapted one's.

    Raises:
        ModelError: the file is damaged.
    """
    source = find_model(path)
    file = Path(source.weights) / FILE
    if source.adapter not in (None, source.weights) or not file.is_file():
        return None
    try:
        return UnseenScores(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{file} is damaged ({error}): delete it, or train the reward model anew") from error

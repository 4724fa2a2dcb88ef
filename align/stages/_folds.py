"""Scores of pairs by the reward models that had not seen them: those of several folds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from align.errors import DataError
from align.evaluation.accuracy import accuracy
from align.evaluation.pair_scores import PAIRS, read_pair_scores
from align.report.files import write_samples
from align.types import Result


def pooled(path: Path, folds: Mapping[str, Path], label: str) -> list[Result]:
    """Writes the scores of all folds as one file, each row with its fold, and returns their accuracy.

    Each pair was scored by the model that had not seen its prompt. Intervals are clustered by prompt; they do
    not count that the folds' models were trained on data that they share.

    Raises:
        DataError: a pair was tested twice, so that the folds are not those of one split; or none was.
    """
    files = {name: folder / PAIRS for name, folder in folds.items()}
    scores = [(name, one) for name, file in files.items() if file.is_file() for one in read_pair_scores(file)]
    if not scores:
        raise DataError(f"no pair was tested in {len(folds)} folds: the dataset is too small")
    twice = [pair for pair, count in Counter(one.id for _, one in scores).items() if count > 1]
    if twice:
        raise DataError(
            f"pair {twice[0]} was tested in two folds of {path.parent}: they are not of one split"
        )
    write_samples(path, [{"fold": name, **asdict(one)} for name, one in scores])
    pairs = [one for _, one in scores]
    chosen, rejected = [one.chosen_score for one in pairs], [one.rejected_score for one in pairs]
    return accuracy(chosen, rejected, [one.prompt for one in pairs], label)

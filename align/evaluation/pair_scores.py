"""What a reward model gave to each unseen pair: ``pairs.jsonl`` of ``stage=reward``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from align.errors import DataError
from align.report.files import read_samples, write_samples

PAIRS = "pairs.jsonl"
"""The file's name in a run directory."""


@dataclass(frozen=True)
class PairScore:
    """One pair of the test split. A Bradley-Terry model gives its chosen reply sigmoid(margin)."""

    id: str
    prompt: str
    """16 hexadecimal digits of the prompt: pairs that share it are no independent units."""
    chosen_score: float
    rejected_score: float
    margin: float
    """``chosen_score - rejected_score``, in the model's own unit."""
    chosen_tokens: int
    rejected_tokens: int
    """Lengths of the replies, by the model's tokenizer, their end included."""
    stated_margin: float | None
    """How much better the data says that the chosen reply is, in its own unit; None where it does not."""
    probability: float | None
    """The labeller's P(chosen preferred), noise included, where the dataset knows how it labels."""


def write_pair_scores(directory: Path, scores: Sequence[PairScore]) -> None:
    """``pairs.jsonl``, a line a pair in the order of the test split, whole or absent.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    write_samples(directory / PAIRS, [asdict(one) for one in scores])


def read_pair_scores(path: Path) -> list[PairScore]:
    """What ``write_pair_scores`` wrote: the file itself.

    Raises:
        DataError: there is no such file, or a line is no scored pair.
    """
    names = [field.name for field in fields(PairScore)]
    found = []
    for number, row in enumerate(read_samples(path), start=1):
        if sorted(row) != sorted(names):
            raise DataError(f"{path}:{number}: a scored pair has {', '.join(names)}; got {', '.join(row)}")
        found.append(PairScore(**row))
    return found

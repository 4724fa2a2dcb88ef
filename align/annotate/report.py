"""What an admin is told of a project: a pure function of the desk's answers. No page, no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.agreement.coefficients import Coefficient, Undefined, bootstrap
from align.agreement.table import CountTable, table_of_votes
from align.agreement.table import Vote as Triple
from align.annotate.consistency import (
    DECIDED,
    Consistency,
    Times,
    consistencies,
    counts,
    left_rate,
    pairwise,
    seconds_of,
    times,
    warnings,
)
from align.annotate.settings import AllocationSettings
from align.annotate.types import AnnotatorStatus, ProjectStatus, Vote
from align.types import Result

MATRIX_SIZE = 16
"""Annotators that the matrix of agreement shows at most: those with the most votes."""


@dataclass(frozen=True)
class Missing:
    """A number that these answers do not have, and why."""

    metric: str
    reason: str


@dataclass(frozen=True)
class Person:
    """One annotator: what the desk counts, what the answers show, what lies beyond a threshold."""

    status: AnnotatorStatus
    shown: Consistency | None
    """None where nothing has been answered."""
    flags: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """Agreement of each two annotators: (equal votes, pairs that both voted on), by their places."""

    names: tuple[str, ...]
    cells: Mapping[tuple[int, int], tuple[int, int]]
    left_out: int
    """Annotators with fewer votes than those shown."""


@dataclass(frozen=True)
class Report:
    """Everything on the overview, from one snapshot."""

    status: ProjectStatus
    agreement: tuple[Result | Missing, ...]
    """Percent, Fleiss' kappa, Krippendorff's alpha nominal and ordinal, over the pairs with two votes."""
    scale: int
    """Steps of a side in the ordinal alpha: 1 where choices have no strength."""
    said: Mapping[str, int]
    """How often each answer was given by the votes that count."""
    left: Result | None
    times: Times | None
    seconds: tuple[float, ...]
    """Each time that ``times`` sums up."""
    judged_at: tuple[str, ...]
    """When each vote that counts was given, oldest first."""
    people: tuple[Person, ...]
    matrix: Matrix
    flagged: tuple[Vote, ...]
    """Answers with a flag, newest first."""

    def warned(self) -> list[Person]:
        """Those with something beyond a threshold, or paused."""
        return [person for person in self.people if person.warnings or person.status.paused]

    def results(self) -> list[Result]:
        """All numbers of the whole project, as lines of a results.json."""
        numbers = [one for one in self.agreement if isinstance(one, Result)]
        return numbers + ([] if self.left is None else [self.left])


def build(
    votes: Sequence[Vote],
    annotators: Sequence[AnnotatorStatus],
    status: ProjectStatus,
    settings: AllocationSettings,
) -> Report:
    """The report on one snapshot of answers."""
    counted = [vote for vote in votes if counts(vote)]
    shown = consistencies(votes)
    flagged = [vote for vote in votes if vote.flag is not None]
    flags = Counter(vote.annotator for vote in flagged)
    agreed, scale = agreement(counted)
    seconds = tuple(value for value in map(seconds_of, votes) if value is not None)
    people = [_person(one, shown.get(one.name), flags[one.name], settings) for one in annotators]
    said = Counter(vote.said for vote in counted)
    return Report(
        status=status,
        agreement=agreed,
        scale=scale,
        said={word: said[word] for word in DECIDED},
        left=left_rate(votes),
        times=times(seconds),
        seconds=seconds,
        judged_at=tuple(sorted(vote.judged_at for vote in counted)),
        people=tuple(people),
        matrix=matrix(counted),
        flagged=tuple(sorted(flagged, key=lambda vote: vote.judged_at, reverse=True)),
    )


def agreement(votes: Sequence[Vote]) -> tuple[tuple[Result | Missing, ...], int]:
    """The four coefficients of the votes that count, and the steps of a side on the ordinal scale.

    Ordinal ranks run from the first reply by far over a tie to the second by far; two bad replies have no
    place between them and are missing there. Strength is used where every choice of a side has one.
    """
    triples: list[Triple] = [(vote.pair_id, vote.annotator, vote.said) for vote in votes]
    nominal = table_of_votes(triples, DECIDED)
    ranks, scale = _ranked(votes)
    ordinal = table_of_votes(ranks, range(-scale, scale + 1))
    tables: list[tuple[Coefficient, CountTable]] = [
        ("percent_agreement", nominal),
        ("fleiss_kappa", nominal),
        ("alpha_nominal", nominal),
        ("alpha_ordinal", ordinal),
    ]
    return tuple(_measured(coefficient, table) for coefficient, table in tables), scale


def matrix(votes: Sequence[Vote]) -> Matrix:
    """Agreement of each two of the annotators with the most votes, these in the order of their names."""
    totals = Counter(vote.annotator for vote in votes)
    most = sorted(totals, key=lambda name: (-totals[name], name))[:MATRIX_SIZE]
    names = tuple(sorted(most))
    places = {name: place for place, name in enumerate(names)}
    cells = {(places[a], places[b]): cell for (a, b), cell in pairwise(votes, names).items()}
    return Matrix(names, cells, len(totals) - len(names))


def _ranked(votes: Sequence[Vote]) -> tuple[list[Triple], int]:
    sides = [vote for vote in votes if vote.said in ("first", "second")]
    strengths = [vote.strength for vote in sides if vote.strength is not None]
    graded = bool(strengths) and len(strengths) == len(sides)
    signs = {"first": -1, "tie": 0, "second": 1}
    ranks: list[Triple] = [
        (vote.pair_id, vote.annotator, signs[vote.said] * ((vote.strength or 1) if graded else 1))
        for vote in votes
        if vote.said in signs
    ]
    return ranks, max(strengths) if graded else 1


def _measured(coefficient: Coefficient, table: CountTable) -> Result | Missing:
    try:
        return bootstrap(coefficient, table)
    except Undefined as error:
        return Missing(coefficient, str(error))


def _person(
    status: AnnotatorStatus, shown: Consistency | None, flags: int, settings: AllocationSettings
) -> Person:
    found = () if shown is None else warnings(shown, settings)
    return Person(status, shown, flags, found)

"""What a component of each group must offer. One protocol where two files do one job; no base classes.

A component is a frozen dataclass in a file of its own: its fields are its settings, constructing it
is free, and heavy libraries (torch among them) are imported inside its methods, because checking a
config builds every component and must stay under two seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import Tensor

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth
    from align.run import Run
    from align.sweeps.axes import Swept
    from align.sweeps.jobs import Ended, Proposal
    from align.tensors import PairLogps, PairLosses, UnpairedLogps, UnpairedLosses
    from align.types import CandidatePair, PreferenceRecord, Prompt, Record, Result, Row, Scores


class Source(Protocol):
    """Where records come from (``dataset=``): rows, and how one row becomes a record."""

    @property
    def offers(self) -> Literal["pairs", "demonstrations", "unpaired"]:
        """What ``record`` returns: preference records, demonstrations, or labelled replies."""

    def rows(self) -> Iterator[Row]:
        """The raw rows in order, lazily, each with its location.

        A row that holds several judgements comes as often, one judgement each (``align.pairs.judgements``).
        """

    def record(self, values: Mapping[str, Any]) -> Record:
        """One row as a record, without id and location (the reader fills them in). Raises ``BadRow``."""


@runtime_checkable
class HoldsCandidates(Protocol):
    """A source whose files may hold pairs that nobody has judged, for those who judge or choose."""

    def with_candidates(self) -> Source:
        """The same source, such a pair being a tie by ``align.pairs.candidates.NOBODY``."""


@runtime_checkable
class KnownContent(Protocol):
    """A source or a chat format that can say what its results follow from, so that they can be kept."""

    def content_hash(self) -> str | None:
        """Hexadecimal digits that change with whatever changes its results.

        A source's fields and its module's code need not be in it. None where it cannot be known.
        """


@runtime_checkable
class KnownTruth(Source, Protocol):
    """A source that knows how its labels were drawn, and so what no reward model can beat."""

    reward: ClassVar[str]
    """Name of the reward model (in ``reward_models/``) that is the truth."""

    def preference_probability(self, prompt: Prompt, first: str, second: str) -> float:
        """P(the labeller prefers ``first``), noise included."""


class PairLoss(Protocol):
    """One loss over preference pairs (``loss=``): a pure function of log-probabilities."""

    @property
    def needs_reference(self) -> bool:
        """True where the reference's log-probabilities are looked at (a class constant in most losses)."""

    @property
    def needs_tokens(self) -> bool:
        """True where the per-token view is looked at."""

    @property
    def couples_batch(self) -> bool:
        """True where one pair's loss depends on the others in its micro-batch (AOT, BCO)."""

    def __call__(self, logps: PairLogps) -> PairLosses: ...


class ScoreLoss(Protocol):
    """One loss over a pair's two scores (``reward_loss=``), for ``stage=reward``."""

    def __call__(self, chosen: Tensor, rejected: Tensor, margin: Tensor | None) -> Tensor:
        """Per-pair losses (B,) from scores (B,) and margins (B,) in the data's unit, or None."""


class UnpairedLoss(Protocol):
    """One loss over replies that are each good or bad by themselves (``unpaired_loss=``, ``stage=kto``)."""

    @property
    def needs_mismatched(self) -> bool:
        """True where the log-probabilities of replies to other prompts are looked at."""

    def __call__(self, logps: UnpairedLogps) -> UnpairedLosses: ...


class Scorer(Protocol):
    """Something ready to score replies."""

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One finite score a reply; the same text scores the same alone and in any batch."""


@runtime_checkable
class ScoresInParts(Protocol):
    """A scorer that can say what its scores are made of (the parts of a sum, members' disagreement)."""

    def score_in_parts(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> Scores:
        """The scores that ``score`` gives, with their parts, for the work of one call."""


@runtime_checkable
class ScoresByMember(Protocol):
    """A scorer that is made of several, each of which could score alone."""

    def score_by_member(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[list[float]]:
        """Each member's scores of all replies, on one scale."""


@runtime_checkable
class KnownRange(Protocol):
    """A scorer that may know between which scores it can be trusted."""

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Nearly all scores of unseen data lay within (low, high); a bound may be infinite. None: unknown."""


class RewardModel(Protocol):
    """What can score a reply (``reward=``, in ``reward_models/``); ``prepare`` loads what it needs."""

    def prepare(self, cache: Path | None = None) -> Scorer:
        """Something ready to score. ``cache``: the run's; None takes the user's own (``ALIGN_CACHE``)."""


class Collecting(Protocol):
    """A collecting method at work."""

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        """What a chunk comes to: for each of ``given``, in order, its pairs and what came to no pair.

        Follows from the chunk and the seed alone, so that a chunk that a kill took comes back the same.
        """


class Collector(Protocol):
    """Where pairs come from and who prefers (``collect=``, in ``align/collect/``)."""

    @property
    def starts_from(self) -> Literal["prompts", "demonstrations", "pairs"]:
        """What the dataset gives: prompts alone, prompts with one reply, or judged pairs."""

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """What it works with: somebody who writes (``model.path`` or ``server``), a ``reward``. What is given
        beyond that is refused."""

    def open(self, bench: Bench) -> Collecting:
        """Loads what it needs."""


@runtime_checkable
class Arranges(Protocol):
    """A collector that looks at all its pairs once they are there, to put them in order."""

    def arrange(self, records: Sequence[PreferenceRecord], seed: int) -> list[Outcome]:
        """The records in their final order, an ``Abstained`` for each that is left out; none is new."""


@runtime_checkable
class Chooses(Protocol):
    """A collector that chooses among all its unjudged pairs once they are there."""

    def select(self, candidates: Sequence[CandidatePair], seed: int) -> list[Outcome]:
        """The chosen ones in their final order, an ``Abstained`` for each of the others; none is new."""


@runtime_checkable
class Reports(Protocol):
    """A collector with results of its own: what theory says of its labels, say."""

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """Results over what is kept and what came to no pair; ``truth`` where the dataset has one."""


Part = Literal["model", "reference", "dataset", "reward", "sampling"]
"""A section of the config that a benchmark may work with."""


class Benchmark(Protocol):
    """One thing to measure (``benchmark=``, in ``align/benchmarks/``), of a policy, a reward or a file."""

    @property
    def needs(self) -> tuple[Part, ...]:
        """What it works with."""

    @property
    def takes(self) -> tuple[Part, ...]:
        """What it works with where it is given; what no benchmark of a run needs or takes is refused."""

    def measure(self, label: str, given: Material) -> Measured:
        """Results named ``<label>/<metric>``, each with its interval, and what they rest on.

        What could not be measured (no score, a refusal to judge, an empty reply) is counted by itself, and
        is neither a success nor a failure.
        """


class Stage(Protocol):
    """One word after ``stage=``: its fields are the groups it uses, ``execute`` is the work.

    One with ``many_ranks: ClassVar[bool] = True`` divides it among the ranks that ``launch`` asks for.
    """

    def execute(self, run: Run) -> None: ...


class Tracker(Protocol):
    """Where a run's numbers are mirrored. ``metrics.jsonl`` is written whatever the tracker does."""

    def start(self, run: Run) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def summary(self, values: Mapping[str, float]) -> None:
        """The run's final numbers, those of results.json."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Refer to a folder (by path and hash, nothing is uploaded) as this run's product."""

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        """Refer to what this run is made from, by the name under which its own run offered it."""

    def finish(self, exit_code: int) -> None: ...


class Search(Protocol):
    """Which jobs a sweep runs (``sweep=``)."""

    learns: ClassVar[bool]
    """Whether what a job finds decides later ones."""

    def begin(self, swept: Swept, root: Path) -> Proposals:
        """Jobs for these words; ``root`` is the sweep's folder, maybe with jobs of an earlier sitting."""


class Proposals(Protocol):
    """The jobs of a sweep that has begun."""

    total: int
    """How many there will be, over all sittings."""

    def next(self) -> Proposal | None:
        """The next job; None where all are proposed."""

    def seen(self, proposal: Proposal, values: Sequence[tuple[int, float]]) -> str | None:
        """Why a running job should stop, by its validation values so far (step, value), or None."""

    def told(self, proposal: Proposal, ended: Ended, directory: Path) -> Ended:
        """What became of a job; returns it, ``failed`` where what it left cannot be used."""

    def summary(self) -> list[str]:
        """Lines to print at the end."""

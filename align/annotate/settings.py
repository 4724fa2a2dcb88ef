"""Typed settings of ``stage=annotate``: the server, what is asked, and who is asked what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from align.config import Range
from align.errors import ConfigError
from align.settings import Fraction, NaturalInt, NonNegative, Positive, PositiveInt

Share = Annotated[float, Range(low=0, high=1)]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine can reach."""


@dataclass(frozen=True)
class QuestionSettings:
    """What an annotator is asked about two replies, and what may be answered."""

    guidelines: str | None = None
    """A text file shown at the key g; its hash is the guideline version of every record."""
    strength: Literal[0, 4, 7] = 0
    """Steps of the scale that a choice is made on: 0 asks for a side only, 4 are two steps on each side, 7
    are three on each side with the tie between them."""
    tie: bool = True
    """Whether the replies may be called equally good."""
    both_bad: bool = True
    """Whether both may be called too bad to prefer one."""
    skip: bool = True
    """Whether an item may be passed on to somebody else."""
    criteria: tuple[str, ...] = ()
    """Further questions, a side or a tie each: ``[helpful, honest, harmless]``."""
    reason: bool = True
    """Whether there is a box for a reason in one's own words."""

    def __post_init__(self) -> None:
        names = [name.strip() for name in self.criteria]
        if any(not name or len(name) > 60 for name in names) or len(set(names)) < len(names):
            raise ConfigError(f"criteria={list(self.criteria)}: names of 1 to 60 characters, each once")
        if self.strength == 7 and not self.tie:
            raise ConfigError("strength=7 has the tie in its middle: tie=true, or strength=4")
        if len(names) > 12:
            raise ConfigError(f"criteria are {len(names)}: nobody answers more than 12 questions an item")

    def steps(self) -> int:
        """Steps of the scale on either side; 0 where none is asked. The middle of 7 is the tie."""
        return self.strength // 2


@dataclass(frozen=True)
class AllocationSettings:
    """Who is asked what, how often, and what an annotator's record leads to. Nothing is ever deleted."""

    overlap: PositiveInt = 1
    """Annotators that each item is shown to."""
    extra_votes: NaturalInt = 0
    """Further annotators, at most, for an item on which the first ones disagree."""
    vote_margin: PositiveInt = 1
    """Votes by which the most frequent answer must lead the next, or there are ``extra_votes``: with 2, an
    item at two to one is asked again."""
    items_per_annotator: PositiveInt | None = None
    """Items after which an annotator is done; none goes on while there are any."""
    lease_minutes: Positive = 30.0
    """Minutes that an item waits for the annotator it was shown to, before it may go to another."""
    gold: str | None = None
    """A run or file of records whose preferences are known: they look like any other item."""
    gold_share: Fraction = 0.0
    """Share of an annotator's items that are gold."""
    repeat_share: Fraction = 0.0
    """Share of an annotator's items that were shown to the same annotator before, for self-consistency."""
    repeat_distance: PositiveInt = 10
    """Items of the annotator that lie between the two showings, at least; the sides are the other way
    round."""
    attention_share: Fraction = 0.0
    """Share of items that say which side to choose: explicit attention checks."""
    judged_after: PositiveInt = 5
    """Gold items (or attention checks) answered before an annotator's share of right answers counts."""
    warn_below: Share = 0.0
    """Share of right answers on gold items below which the admin page warns; 0 never does."""
    pause_below: Share = 0.0
    """The same below which the annotator is paused until an admin resumes; 0 never does."""
    attention_failures: NaturalInt = 0
    """Failed attention checks at which an annotator is paused; 0 never does."""
    too_fast_seconds: NonNegative = 0.0
    """Median seconds an item below which the admin page warns; 0 never does."""
    left_beyond: Annotated[float, Range(low=0, high=0.5)] = 0.0
    """Distance from a half that the 95 % interval of an annotator's left choices lies wholly beyond when the
    admin page warns; 0 never does."""
    repeats_below: Share = 0.0
    """Share of repeated items with the same answer below which the admin page warns; 0 never does."""
    pause_beyond: bool = False
    """Whether ``too_fast_seconds``, ``left_beyond`` and ``repeats_below`` pause an annotator (once; an admin
    resumes), and not only warn."""

    def __post_init__(self) -> None:
        if self.gold_share and self.gold is None:
            raise ConfigError(f"gold_share={self.gold_share} needs gold=RUN: a run or file of records")
        if self.gold_share + self.repeat_share + self.attention_share > 0.9:
            raise ConfigError("gold_share + repeat_share + attention_share leave under a tenth to new items")
        limit = self.items_per_annotator
        if self.repeat_share and limit is not None and limit < self.repeat_distance + 2:
            raise ConfigError(
                f"repeat_share={self.repeat_share} repeats nothing: items_per_annotator={limit} ends before "
                f"repeat_distance={self.repeat_distance} items lie between"
            )
        if self.pause_below > self.warn_below > 0:
            raise ConfigError(f"pause_below={self.pause_below} lies above warn_below={self.warn_below}")


@dataclass(frozen=True)
class AnnotateSettings:
    """Where the app listens, where it keeps what people say, and how they come in."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine (0.0.0.0) needs ``public_url``."""
    port: Annotated[int, Range(low=0, high=65535)] = 8400
    """Port to listen on; 0 takes a free one."""
    public_url: str | None = None
    """What people type to reach the app, ``https://study.example.org`` behind a proxy that holds the
    certificate; none is the address that it listens on. Requests for another host are refused."""
    database: str | None = None
    """SQLAlchemy URL (``postgresql+psycopg://user@host/name``); none is annotations.sqlite in run.dir."""
    annotators: NaturalInt = 1
    """Personal links printed at the start; further ones are made on the admin page."""
    recruits: Literal["none", "prolific", "mturk"] = "none"
    """Who may come in with the ids of a crowd platform in the address, without a personal link."""
    completion_code: str | None = None
    """Shown to those who are done; a crowd platform pays by it."""
    completion_url: str | None = None
    """Where those who are done are sent back to, as a link that they click."""
    session_hours: Positive = 12.0
    """Hours after which an annotator's browser has to come in by the link again."""

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.public_url is None:
            raise ConfigError(
                f"host={self.host} lets others in: say how they reach it, public_url=https://NAME "
                f"(the address of the proxy that holds the certificate, or http://THIS_HOST:{self.port})"
            )
        if self.public_url is not None and not self.public_url.startswith(("https://", "http://")):
            raise ConfigError(f"public_url={self.public_url} is no address: https://NAME")
        if self.completion_url is not None and not self.completion_url.startswith("https://"):
            raise ConfigError(f"completion_url={self.completion_url} must start with https://")

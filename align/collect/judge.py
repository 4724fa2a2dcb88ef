"""Two replies labelled by a language model, here or behind a server, asked in both orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.generation.questions import refuse_pattern
from align.models.settings import ModelSettings
from align.settings import NaturalInt, NonNegative, PositiveInt, SamplingSettings

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Outcome, Truth, Writer
    from align.collect._two import Two
    from align.collect._verdict import Verdict
    from align.protocols import Collecting
    from align.types import Prompt, Result

__all__ = ["Judge"]

_ROOM = 2048
"""Tokens of question and answer, where nobody says how many."""
_LETTER = 8
"""Tokens that are enough for "A" or "B" and what ends a reply."""


@dataclass(frozen=True)
class Judge:
    """Labels from a model that is shown each pair twice, either reply first (Zheng et al. 2023).

    Where the orders disagree there is no label (``orders_disagree``), and none where an answer cannot be
    read (``unreadable``); a tie is one only where the judge says so both times. Answers of a server are kept
    in the run's cache, so that nothing is asked twice.
    """

    server: ServerSettings | None = None
    """Where the judge is served; or else ``path``."""
    path: str | None = None
    """A judge in this process: a run directory, a Hugging Face folder, or a Hub name."""
    max_length: PositiveInt | None = None
    """Tokens of question and answer together, at most, for a judge in this process; a longer question is not
    asked (``question_too_long``). None takes 2048, or as many as it was built for where those are fewer."""
    candidates: Literal["dataset", "sampled"] = "dataset"
    """Whose replies are judged: the dataset's pairs, or two samples a prompt from ``model.path`` or
    ``server``."""
    verdict: Literal["written", "letter"] = "written"
    """``written``: read from what the judge writes. ``letter``: whichever of the answers "A" and "B" is
    likelier, for a judge in this process."""
    template: str | None = None
    """A text file with ``{reply_a}``, ``{reply_b}`` and ``{conversation}`` (or ``{question}``, its last
    turn); none takes ``align/collect/prompts/judge.txt`` (or ``judge_letter.txt``)."""
    pattern: str = r"(?im)\bverdict\W*?(?:reply\s+)?(a\s+tie|tie|[ab])\W*$"
    """Regular expression with one group that holds A, B or tie; the last match of an answer counts."""
    reminders: NaturalInt = 1
    """Times that the judge is told that no verdict could be read."""
    temperature: NonNegative = 0.0
    """Divides the judge's logits; 0 takes its most likely answer."""
    max_new_tokens: PositiveInt = 512
    """Tokens of an answer, at most; ``verdict=letter`` needs a few whatever stands here."""

    def __post_init__(self) -> None:
        if (self.server is None) == (self.path is None):
            raise ConfigError(
                "a judge is behind a server or here: give either server.url=ADDRESS "
                "server.model=NAME, or path=MODEL"
            )
        if self.verdict == "letter" and self.path is None:
            raise ConfigError("verdict=letter looks at log-probabilities, which no server gives: give a path")
        if self.path is not None and self.max_length is not None:
            self._refuse_no_room(self.max_length)
        refuse_pattern(self.pattern, "A, B or tie")

    @property
    def starts_from(self) -> Literal["prompts", "pairs"]:
        """Pairs, or prompts where the replies are sampled."""
        return "pairs" if self.candidates == "dataset" else "prompts"

    @property
    def needs(self) -> tuple[Literal["writer", "reward"], ...]:
        """Somebody who writes the replies, where the dataset does not give them."""
        return () if self.candidates == "dataset" else ("writer",)

    def open(self, bench: Bench) -> Collecting:
        """Reads the template, and loads the judge or looks whether its server is there.

        Raises:
            ConfigError: the template cannot be used, or an answer leaves a question no room.
            ServerError: nothing answers at the server's address.
            ModelError: nothing can be loaded from the path.
        """
        from align.collect._verdict import judge_template

        template = judge_template(
            self.template, "judge.txt" if self.verdict == "written" else "judge_letter.txt"
        )
        if self.template is not None:
            bench.note("template", self.template)
        place = self.server or self._here()
        sampling = SamplingSettings(max_new_tokens=self._longest_answer(), temperature=self.temperature)
        return _Judging(self, template, bench.open_writer("judge", place).sampling_by(sampling), bench)

    def _here(self) -> ModelSettings:
        from align.collect._sources import room_of

        assert self.path is not None, "or else a server"
        room = self.max_length or room_of(self.path, _ROOM)
        self._refuse_no_room(room)
        return ModelSettings(path=self.path, max_length=room)

    def _longest_answer(self) -> int:
        return self.max_new_tokens if self.verdict == "written" else _LETTER

    def _refuse_no_room(self, room: int) -> None:
        if self._longest_answer() >= room:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens} leaves no room in max_length={room}: lower the one or "
                f"raise the other"
            )

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """``judge/orders_disagree`` (d) and ``judge/first_shown``, and what follows for the labels.

        Over the pairs on which both answers named a reply; ``first_shown`` is the share of those answers
        that name the reply shown first: half without a bias. ``labels/expected_accuracy`` is
        (1 - e)^2 / (1 - d), with d = 2 e (1 - e): that of a judge who errs with probability e, whatever the
        pair and the order. Where it errs on some pairs in both orders alike, the labels are worse; where it
        disagrees with itself on more than half (the whole interval), no such judge does, and nothing is
        expected.
        """
        from align.collect._bench import Abstained
        from align.evaluation.statistics import proportion
        from align.types import PreferenceRecord

        firsts = []
        for one in found.outcomes:
            if isinstance(one, PreferenceRecord) and one.preferred in ("first", "second"):
                firsts.append(0.5)
            elif isinstance(one, Abstained) and one.reason == "orders_disagree" and "tie" not in one.detail:
                firsts.append(float(one.detail == "A, A"))
        if not firsts:
            return []
        apart = proportion("judge/orders_disagree", [one != 0.5 for one in firsts])
        shown = proportion("judge/first_shown", firsts)
        if (apart.ci_low or 0.0) > 0.5:
            return [apart, shown]
        bounds = [_right_where_agreed(share) for share in (apart.value, apart.ci_high, apart.ci_low)]
        expected = replace(
            apart,
            metric="labels/expected_accuracy",
            value=bounds[0],
            ci_low=bounds[1],
            ci_high=bounds[2],
            method="from orders_disagree",
        )
        return [apart, shown, expected]


def _right_where_agreed(disagreeing: float | None) -> float:
    """P(right | both orders agree) where each errs alone with e < 1/2 and 2 e (1 - e) disagree."""
    apart = min(disagreeing or 0.0, 0.5)
    error = (1 - math.sqrt(1 - 2 * apart)) / 2
    return (1 - error) ** 2 / (1 - apart)


class _Judging:
    """Asks about a chunk of pairs, each twice."""

    def __init__(self, settings: Judge, template: str, asked: Writer, bench: Bench) -> None:
        self.settings, self.template, self.asked, self.bench = settings, template, asked, bench

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        from align.collect._bench import Abstained
        from align.collect._two import given_two, sampled_two
        from align.collect._verdict import question
        from align.types import Message

        if self.settings.candidates == "dataset":
            twos = given_two(given)
        else:
            twos = sampled_two(given, self.bench.writer(), seed)
        questions: list[Prompt] = []
        for item, two in zip(given, twos, strict=True):
            if not isinstance(two, Abstained):
                first, second = (reply.text for reply in two)
                for shown in ((first, second), (second, first)):
                    questions.append((Message("user", question(self.template, item.prompt, *shown)),))
        answers = iter(self._verdicts(questions, seed))
        return [
            (two if isinstance(two, Abstained) else self._outcome(item, two, next(answers), next(answers)),)
            for item, two in zip(given, twos, strict=True)
        ]

    def _verdicts(self, questions: Sequence[Prompt], seed: int) -> list[Verdict | None]:
        """Each question's verdict; None where the question does not fit."""
        fitting = [place for place, one in enumerate(questions) if self.asked.fits(one)]
        ask = self._written if self.settings.verdict == "written" else self._letters
        found: list[Verdict | None] = [None] * len(questions)
        for place, said in zip(fitting, ask([questions[place] for place in fitting], seed), strict=True):
            found[place] = said
        return found

    def _written(self, questions: Sequence[Prompt], seed: int) -> list[Verdict]:
        from align.collect._verdict import PROMPTS, Verdict, read_verdict
        from align.generation.questions import Reading, answers_to
        from align.generation.server import derived_seed

        settings = self.settings
        reading = Reading(
            readable=lambda answer: read_verdict(settings.pattern, answer) is not None,
            reminder=(PROMPTS / "reminder.txt").read_text(encoding="utf-8").strip(),
            reminders=settings.reminders,
        )
        answers = answers_to(
            lambda asked, turn: self.asked.write(asked, derived_seed(seed, turn)), questions, reading
        )
        last = [each[-1].text for each in answers]
        return [Verdict(read_verdict(settings.pattern, text), text) for text in last]

    def _letters(self, questions: Sequence[Prompt], seed: int) -> list[Verdict]:
        from align.collect._letters import letter_log_odds
        from align.collect._verdict import Verdict
        from align.collect._writers import LocalWriter

        assert isinstance(self.asked, LocalWriter), "letters are for a judge in this process"
        odds = letter_log_odds(self.asked.policy, questions)
        return [Verdict("A" if one > 0 else "B" if one < 0 else "tie", one) for one in odds]

    def _outcome(
        self,
        item: Candidates,
        two: Two,
        straight: Verdict | None,
        turned: Verdict | None,
    ) -> Outcome:
        from align.collect._bench import Abstained, judged, named
        from align.collect._verdict import settled, template_hash
        from align.types import Judge as Who
        from align.types import PreferenceRecord

        if straight is None or turned is None:
            return Abstained("question_too_long")
        both = settled(straight.letter, turned.letter)
        if isinstance(both, Abstained):
            if both.reason == "unreadable":
                unread = straight.source if straight.letter is None else turned.source
                return replace(both, detail=f"{both.detail}: {str(unread)[-200:]!r}")
            return both
        who, template = Who("model", self.asked.name, self.asked.version), template_hash(self.template)
        said = [straight.source, turned.source]
        details = {"answers": said} if self.settings.verdict == "written" else {"log_odds": said}
        if both.preferred == "tie":
            record = PreferenceRecord("", item.prompt, two, "tie", who)
            return named(replace(record, method="judge", template=template, details=details))
        preferred, other = two if both.preferred == "first" else two[::-1]
        margin = None
        if self.settings.verdict == "letter":
            margin = abs(float(straight.source) - float(turned.source)) / 2
        return judged(
            item.prompt, preferred, other, who, "judge", margin=margin, template=template, details=details
        )

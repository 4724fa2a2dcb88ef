"""Records that Argilla exported as JSON, in the layout of its version 1 or 2: one record, several users.

Both have ``fields``. Version 1 (``FeedbackRecord``) lists ``responses``, one a user: ``user_id``, ``status``
and ``values`` (question -> ``{"value": ...}``). Version 2 (``records.to_json``) has them by question, each a
list of ``{"value", "user_id"}``, and no status. Each user's response is a record of its own; a discarded or
unfinished one is no judgement and is counted (``not_judged``).

Three kinds of questions compare two replies:

| question | value | preferred |
|---|---|---|
| ranking | version 1: ``[{"value": "response_1", "rank": 1}, ...]`` | the lower rank; an equal one is a tie |
| | version 2: ``["response_1", "response_2"]`` | the first (this export has lost which ranks were equal) |
| label | an option | the reply or the tie that ``options`` makes of it |
| two ratings | a number each | the higher one, by the difference as margin; the same number is a tie |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow, ConfigError
from align.pairs.fields import number_of, objects_of, prompt_of, section_of, text_of, value_of
from align.pairs.files import content_hash, read_rows
from align.pairs.judgements import one_a_judgement
from align.types import Judge, PreferenceRecord, Preferred, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from align.types import Row

__all__ = ["Argilla"]

_VERDICTS: tuple[Preferred, ...] = ("first", "second", "tie", "both_bad")


@dataclass(frozen=True)
class Argilla:
    """Pairs that people compared, one record a response."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file (a list of records, or one a line), or a folder with a file a split."""
    prompt: str = "prompt"
    """The field that holds the prompt: text, or a list of messages (a chat field)."""
    first: str = "response_1"
    """The field that holds the first reply."""
    second: str = "response_2"
    """The field that holds the second reply."""
    questions: tuple[str, ...] = ("preference",)
    """One ranking or label question; or two rating questions, of the first reply and of the second."""
    options: tuple[str, ...] = ()
    """What the question calls the first reply, the second, and perhaps a tie and two bad ones, in this order;
    none: the names of the two fields, ``tie`` and ``both_bad``."""
    suggestions: bool = False
    """Whether a suggestion (what a model filled in beforehand) is a judgement, too."""

    def __post_init__(self) -> None:
        if len(self.questions) not in (1, 2):
            raise ConfigError(
                "dataset.questions takes one ranking or label question, or two rating questions: "
                f"dataset.questions=[preference]; got {list(self.questions)}"
            )
        if len(self.options) not in (0, 2, 3, 4):
            raise ConfigError(
                "dataset.options takes what stands for the first reply, the second, a tie and two bad ones: "
                f"dataset.options=[A,B,tie,neither]; got {list(self.options)}"
            )

    def rows(self) -> Iterator[Row]:
        """One row a response (and a suggestion, where asked for), at its record's place."""
        return one_a_judgement(read_rows(self.path), self._judgements)

    def content_hash(self) -> str | None:
        """That of the file."""
        return content_hash(self.path)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One response (or suggestion) as a record.

        Raises:
            BadRow: ``not_judged``, ``unknown_option``, ``not_a_ranking``, or what is wrong with a field.
        """
        if values["status"] not in (None, "submitted"):
            raise BadRow("not_judged", f"the response of {values['who']} is a {values['status']} one")
        fields = section_of(values, "fields")
        preferred, margin = self._preferred(section_of(values, "answers"))
        return PreferenceRecord(
            id=f"{values['id']}:{values['who']}" if values.get("id") is not None else "",
            prompt=prompt_of(fields, self.prompt),
            replies=(Reply(text_of(fields, self.first)), Reply(text_of(fields, self.second))),
            preferred=preferred,
            judge=Judge(values["kind"], values["who"]),
            margin=margin,
            method="argilla",
            details={"metadata": values["metadata"]} if values.get("metadata") else {},
        )

    def _judgements(self, record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        responses = value_of(record, "responses")
        if isinstance(responses, Mapping):
            found = [
                {"kind": "human", "who": who, "status": None, "answers": answers}
                for who, answers in _by_user(responses).items()
            ]
        else:
            found = [
                {"kind": "human", "who": _who(one), "status": one.get("status"),
                 "answers": _answers(section_of(one, "values"))}
                for one in objects_of(record, "responses")
            ]  # fmt: skip
        if self.suggestions:
            found += self._suggested(record)
        if not found:
            raise BadRow("not_judged", "the record has no response")
        own = record.get("external_id") if record.get("external_id") is not None else record.get("id")
        shared = {"id": own, "fields": record.get("fields"), "metadata": record.get("metadata")}
        return [{**shared, **one} for one in found]

    def _suggested(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Suggestions by who made them; version 1 lists them, version 2 has them by question."""
        suggestions = record.get("suggestions") or {}
        if not isinstance(suggestions, Mapping):
            named = objects_of(record, "suggestions")
            suggestions = {text_of(one, "question_name"): one for one in named}
        by_agent: dict[str, dict[str, Any]] = {}
        for question in self.questions:
            if suggestions.get(question):
                one = section_of(suggestions, question)
                agent = str(one.get("agent") or "suggestion")
                by_agent.setdefault(agent, {})[question] = value_of(one, "value")
        return [
            {"kind": "model", "who": agent, "status": None, "answers": answers}
            for agent, answers in by_agent.items()
        ]

    def _preferred(self, answers: Mapping[str, Any]) -> tuple[Preferred, float | None]:
        missing = [name for name in self.questions if answers.get(name) is None]
        if missing:
            raise BadRow("not_judged", f"no answer to '{missing[0]}'; answered: {', '.join(answers) or '-'}")
        if len(self.questions) == 2:
            first, second = (number_of(answers, name) for name in self.questions)
            return _higher(first, second), abs(first - second)
        answer = answers[self.questions[0]]
        if isinstance(answer, list):
            first, second = self._ranks(answer)
            return _higher(-first, -second), None
        options = self._options()
        if not isinstance(answer, str) or answer not in options:
            raise BadRow("unknown_option", f"{answer!r}; dataset.options has {', '.join(options)}")
        return options[answer], None

    def _ranks(self, answer: list[Any]) -> tuple[int, int]:
        """The ranks of both replies; 1 is best. Version 2 lists names alone, the best first."""
        ranks: dict[str, Any] = {}
        for place, one in enumerate(answer, 1):
            option: Mapping[str, Any] = one if isinstance(one, Mapping) else {"value": one}
            ranks[str(option.get("value"))] = option.get("rank", place)
        names = list(self._options())[:2]
        first, second = (ranks.get(name) for name in names)
        if type(first) is not int or type(second) is not int:
            raise BadRow("not_a_ranking", f"{answer!r} does not rank {' and '.join(names)}")
        return first, second

    def _options(self) -> dict[str, Preferred]:
        names = self.options or (self.first, self.second, "tie", "both_bad")
        return dict(zip(names, _VERDICTS, strict=False))


def _higher(first: float, second: float) -> Preferred:
    if first == second:
        return "tie"
    return "first" if first > second else "second"


def _who(response: Mapping[str, Any]) -> str:
    """The user's id; a response that was logged without one is nobody's in particular."""
    return str(response.get("user_id") or "argilla")


def _answers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {question: section_of(values, question).get("value") for question in values}


def _by_user(responses: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Version 2's responses, question by question, as each user's answers."""
    users: dict[str, dict[str, Any]] = {}
    for question in responses:
        for one in objects_of(responses, question):
            users.setdefault(_who(one), {})[question] = one.get("value")
    return users

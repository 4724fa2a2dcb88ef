"""Pairs in the formats that others read: one row an example, what a format cannot hold refused or told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from align.errors import BadRow
from align.types import (
    Demonstration,
    Example,
    Message,
    PreferencePair,
    PreferenceRecord,
    Prompt,
    Reply,
    UnpairedExample,
)

if TYPE_CHECKING:
    from align.pairs.read import Wants
    from align.types import Record

    Values = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """One format: the kind of example that is a row of it, and who reads it back."""

    wants: Wants
    reader: str
    """The ``dataset=`` that reads it."""
    row: Callable[[Any], Values]
    """An example as a row. Raises ``BadRow`` where the format cannot hold it."""
    carries: tuple[str, ...]
    """What of ``LOSSES`` it holds after all."""


@dataclass(frozen=True)
class Loss:
    """Something that a record may hold and a format may not."""

    what: str
    touches: Callable[[Record, Example], bool]
    """Whether a record holds it."""


def _standard(pair: PreferencePair) -> Values:
    """trl's standard format: a text prompt, which is one user's message."""
    if len(pair.prompt) != 1 or pair.prompt[0].role != "user":
        turns = ", ".join(message.role for message in pair.prompt)
        raise BadRow(
            "not_one_message", f"the prompt is {turns}; a text prompt is one user's: use trl_conversational"
        )
    values = {"prompt": pair.prompt[0].content, "chosen": pair.chosen, "rejected": pair.rejected}
    return values | _margin_and_id(pair)


def _conversational(pair: PreferencePair) -> Values:
    """trl's conversational format, the prompt explicit."""
    prompt, replies = _messages(pair.prompt), (pair.chosen, pair.rejected)
    chosen, rejected = (_messages((Message("assistant", reply),)) for reply in replies)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _margin_and_id(pair)


def _margin_and_id(pair: PreferencePair) -> Values:
    """No ``margin`` where there is none: null would be another claim."""
    return {"id": pair.id} | ({} if pair.margin is None else {"margin": pair.margin})


def _completion(example: Demonstration | UnpairedExample) -> Values:
    """trl's prompt-completion format, conversational; with a label it is the unpaired one."""
    prompt, completion = _messages(example.prompt), _messages((Message("assistant", example.reply),))
    label = {"label": example.desirable} if isinstance(example, UnpairedExample) else {}
    return {"prompt": prompt, "completion": completion, **label, "id": example.id}


def _transcripts(pair: PreferencePair) -> Values:
    """HH's two transcripts, whitespace around the turns taken off, as its readers do."""
    roles = [message.role for message in pair.prompt]
    texts = [*(message.content for message in pair.prompt), pair.chosen, pair.rejected]
    if "system" in roles:
        raise BadRow("system_turn", "a transcript has no system's turns")
    if any(role == after for role, after in itertools.pairwise(roles)):
        raise BadRow("turns_in_a_row", "a transcript makes one of two turns that one speaker takes in a row")
    marked = next((name for name in _SPEAKERS.values() if any(name in text.strip() for text in texts)), None)
    if marked:
        raise BadRow("marker_in_text", f"a text holds {marked!r}, where a transcript begins the next turn")
    chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
    if chosen == rejected:
        raise BadRow("same_replies", "the replies differ only in the whitespace around them")
    start = "".join(f"{_SPEAKERS[one.role]} {one.content.strip()}" for one in pair.prompt)
    ends = (f"{start}{_SPEAKERS['assistant']} {reply}" for reply in (chosen, rejected))
    return dict(zip(("chosen", "rejected"), ends, strict=True))


_SPEAKERS = {"user": "\n\nHuman:", "assistant": "\n\nAssistant:"}


def _messages(turns: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in turns]


FORMATS = {
    "trl_standard": Format("pairs", "preference", _standard, ("id", "margin", "pair", "whitespace")),
    "trl_conversational": Format(
        "pairs", "preference", _conversational, ("id", "margin", "pair", "whitespace")
    ),
    "hh": Format("pairs", "hh_rlhf", _transcripts, ("pair",)),
    "prompt_completion": Format("demonstrations", "demonstrations", _completion, ("id", "whitespace")),
    "unpaired": Format("unpaired", "unpaired", _completion, ("id", "whitespace")),
}


def _of_record(holds: Callable[[PreferenceRecord], object]) -> Callable[[Record, Example], bool]:
    return lambda record, _: isinstance(record, PreferenceRecord) and bool(holds(record))


def _has_whitespace(_: Record, example: Example) -> bool:
    replies = (example.chosen, example.rejected) if isinstance(example, PreferencePair) else (example.reply,)
    return any(text != text.strip() for text in (*(turn.content for turn in example.prompt), *replies))


_UNKNOWN = Reply("")

LOSSES = {
    "judge": Loss("who judged", _of_record(lambda record: record.judge)),
    "order": Loss("which reply stood first", _of_record(lambda record: record.replies)),
    "place": Loss("the file and line it came from", lambda record, _: record.location is not None),
    "id": Loss("its id", lambda record, _: bool(record.id)),
    "pair": Loss("which two replies were compared", _of_record(lambda record: record.replies)),
    "tie": Loss("that it was a tie", _of_record(lambda record: record.preferred == "tie")),
    "margin": Loss("how much better the preferred reply is", _of_record(lambda r: r.margin is not None)),
    "strength": Loss("how strongly a side was preferred", _of_record(lambda record: record.strength)),
    "origin": Loss(
        "which model wrote a reply, how it was sampled, the seed",
        _of_record(lambda record: any(replace(reply, text="") != _UNKNOWN for reply in record.replies)),
    ),
    "method": Loss("how the pair came about", _of_record(lambda record: record.method)),
    "guideline": Loss("which guidelines were followed", _of_record(lambda record: record.guideline)),
    "times": Loss("when it was judged", _of_record(lambda record: record.asked_at or record.judged_at)),
    "template": Loss("which template asked", _of_record(lambda record: record.template)),
    "details": Loss("the details of its judgement", _of_record(lambda record: record.details)),
    "whitespace": Loss("whitespace around a turn", _has_whitespace),
}
"""What a record may hold beside its texts, by the name under which ``lost.json`` counts it."""

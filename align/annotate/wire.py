"""What the page's script sends and is sent: JSON into an ``Answer``, a ``Task`` into JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from align.annotate.settings import QuestionSettings
from align.annotate.types import Answer, Finished, Paused, Progress, Side, Task
from align.config import build
from align.errors import ConfigError, Refused


def read_answer(body: bytes, question: QuestionSettings) -> Answer:
    """The answer in a request's body, held against what the question allows.

    Raises:
        Refused: ``bad_answer``, with every mistake in one line.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("bad_answer", "the body is no JSON") from None
    if not isinstance(values, dict):
        raise Refused("bad_answer", "the body is no JSON object")
    try:
        answer = build(Answer, values)
    except ConfigError as error:
        raise Refused("bad_answer", " ".join(str(error).split())[:500]) from None
    _refuse_unasked(answer, question)
    return answer


def _refuse_unasked(answer: Answer, question: QuestionSettings) -> None:
    offered = {"left", "right", *(name for name in ("tie", "both_bad", "skip") if getattr(question, name))}
    if answer.choice not in offered:
        raise Refused("bad_answer", f"choice {answer.choice} is not offered here")
    sided = answer.choice in get_args(Side)
    steps = question.steps()
    if sided and steps and not (answer.strength and answer.strength <= steps):
        raise Refused("bad_answer", f"strength is a step from 1 to {steps}")
    if answer.strength is not None and not (sided and steps):
        raise Refused("bad_answer", "strength is not asked here")
    if set(answer.criteria) - set(question.criteria):
        raise Refused("bad_answer", "a criterion that is not asked here")
    if answer.choice != "skip" and set(answer.criteria) != set(question.criteria):
        raise Refused("bad_answer", f"each criterion takes an answer: {', '.join(question.criteria)}")
    if answer.reason and not question.reason:
        raise Refused("bad_answer", "a reason is not asked here")


def view(found: Task | Finished | Paused, progress: Progress) -> dict[str, Any]:
    """What the script shows: the item, the end, or a pause. Texts only, and an opaque id."""
    shown: dict[str, Any] = {"done": progress.done, "total": progress.total}
    if isinstance(found, Task):
        item: Mapping[str, Any] = {
            "id": found.assignment,
            "number": found.number,
            "prompt": [{"role": turn.role, "text": turn.content} for turn in found.prompt],
            "left": found.left,
            "right": found.right,
        }
        return {**shown, "state": "item", "item": item, "can_undo": found.can_undo}
    if isinstance(found, Finished):
        return {**shown, "state": "finished", "code": found.code}
    return {**shown, "state": "paused", "reason": found.reason}

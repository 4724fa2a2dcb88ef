"""One value of a raw row, as what it must be, or ``BadRow`` with the reason. What sources are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast, get_args

from align import registry
from align.errors import BadRow
from align.types import Message, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from align.types import Prompt


def value_of(values: Mapping[str, Any], key: str) -> Any:
    """What stands under a key. Raises ``BadRow`` (``missing_key``, ``null``)."""
    if key not in values:
        names = [str(name) for name in values]
        raise BadRow(
            "missing_key",
            f"no '{key}'.{registry.near(key, names)} The row has: {', '.join(names) or 'nothing'}",
        )
    if values[key] is None:
        raise BadRow("null", f"'{key}' is null")
    return values[key]


def text_of(values: Mapping[str, Any], key: str) -> str:
    """The text under a key, unchanged. Raises ``BadRow`` (``missing_key``, ``null``, ``not_text``)."""
    value = value_of(values, key)
    if not isinstance(value, str):
        raise BadRow("not_text", f"'{key}' is {_shown(value)}, not text")
    return value


def messages_of(values: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    """The conversation under a key: a list of ``{"role": ..., "content": ...}``.

    Raises:
        BadRow: ``missing_key``, ``null``, ``not_messages``, ``not_text``, ``unknown_role``.
    """
    value = value_of(values, key)
    if not isinstance(value, list):
        raise BadRow("not_messages", f"'{key}' is {_shown(value)}, not a list of messages")
    return tuple(_message(one, f"{key}[{i}]") for i, one in enumerate(value))


def maybe_text(values: Mapping[str, Any], key: str) -> str | None:
    """The text under a key, or None where there is none or null. Raises ``BadRow`` (``not_text``)."""
    return None if values.get(key) is None else text_of(values, key)


def section_of(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key. Raises ``BadRow`` (``missing_key``, ``null``, ``not_an_object``)."""
    value = value_of(values, key)
    if not isinstance(value, dict):
        raise BadRow("not_an_object", f"'{key}' is {_shown(value)}, not {{...}}")
    return value


def objects_of(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The list of objects under a key. Raises ``BadRow`` (``missing_key``, ``null``, ``not_a_list``)."""
    value = value_of(values, key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRow("not_a_list", f"'{key}' is {_shown(value)}, not [{{...}}, ...]")
    return value


def known_of(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Those of the keys that hold something, for a record's ``details``."""
    return {key: values[key] for key in keys if values.get(key) is not None}


def instruction_prompt(values: Mapping[str, Any]) -> Prompt:
    """Alpaca's ``instruction``, with its ``input`` after a blank line where the row has one.

    Raises:
        BadRow: what is wrong with a field.
    """
    instruction, more = text_of(values, "instruction"), maybe_text(values, "input")
    return text_prompt(f"{instruction}\n\n{more}" if more else instruction)


def prompt_of(values: Mapping[str, Any], key: str) -> Prompt:
    """The prompt under a key: text, which is one user message, or messages.

    Raises:
        BadRow: what is wrong with the field.
    """
    if isinstance(values.get(key), list):
        return messages_of(values, key)
    return text_prompt(text_of(values, key))


def number_of(values: Mapping[str, Any], key: str) -> float:
    """The finite number under a key; a table of text (CSV) may hold it as text.

    Raises:
        BadRow: ``missing_key``, ``null``, ``not_a_number``.
    """
    value = value_of(values, key)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRow("not_a_number", f"'{key}' is {_shown(value)}, not a finite number")
    return number


def label_of(values: Mapping[str, Any], key: str) -> bool:
    """The truth under a key: true or false, 1 or 0; a table of text (CSV) may hold it as text.

    Raises:
        BadRow: ``missing_key``, ``null``, ``not_a_label``.
    """
    value = value_of(values, key)
    known = {"true": True, "false": False, "1": True, "0": False}
    text = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if text not in known:
        raise BadRow("not_a_label", f"'{key}' is {_shown(value)}, not true or false")
    return known[text]


def margin_of(values: Mapping[str, Any]) -> float | None:
    """How much better the chosen reply is: ``margin``, or ``score_chosen - score_rejected``, or None.

    Raises:
        BadRow: not a number; ``negative_margin``, where the numbers prefer the rejected reply.
    """
    if "margin" in values:
        margin = number_of(values, "margin")
    elif "score_chosen" in values or "score_rejected" in values:
        margin = number_of(values, "score_chosen") - number_of(values, "score_rejected")
    else:
        return None
    if margin < 0:
        raise BadRow("negative_margin", f"the rejected reply is rated higher, by {-margin:g}")
    return margin


def own_id(values: Mapping[str, Any]) -> str:
    """The row's own ``id`` as text, or nothing where it has none (the reader then makes one)."""
    value = values.get("id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def text_prompt(text: str) -> Prompt:
    """A plain-text prompt is one user message."""
    return (Message("user", text),)


def last_reply(conversation: tuple[Message, ...], key: str) -> tuple[Prompt, str]:
    """A conversation as the turns before its last one, and that one, which must be the assistant's.

    Raises:
        BadRow: ``no_reply``.
    """
    if not conversation or conversation[-1].role != "assistant":
        ending = f"ends with the {conversation[-1].role}'s turn" if conversation else "is empty"
        raise BadRow("no_reply", f"'{key}' {ending}; the last turn must be the assistant's")
    return conversation[:-1], conversation[-1].content


def prompt_and_reply(values: Mapping[str, Any]) -> tuple[Prompt, str]:
    """The reply of ``messages``, or of ``prompt`` and ``completion`` (text or messages), and what it answers.

    Raises:
        BadRow: ``missing_key``, ``mixed_formats``, ``no_reply``, or what is wrong with a field.
    """
    if "messages" in values:
        return last_reply(messages_of(values, "messages"), "messages")
    if "prompt" not in values and "completion" not in values:
        found = ", ".join(map(str, values)) or "nothing"
        raise BadRow("missing_key", f"neither 'messages' nor 'prompt' and 'completion'. The row has: {found}")
    if isinstance(value_of(values, "completion"), list):
        if isinstance(value_of(values, "prompt"), str):
            raise BadRow("mixed_formats", "the prompt is text and the completion is messages")
        whole = messages_of(values, "prompt") + messages_of(values, "completion")
        return last_reply(whole, "completion")
    return text_prompt(text_of(values, "prompt")), text_of(values, "completion")


def two_replies(
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
    names: tuple[str, str] = ("chosen", "rejected"),
) -> tuple[Prompt, str, str]:
    """Two whole conversations (by their ``names`` in the row) as the prompt that they share and their ends.

    Raises:
        BadRow: ``no_reply``; ``prompts_differ``, where they part before the last turn.
    """
    prompt, chosen_reply = last_reply(chosen, names[0])
    other, rejected_reply = last_reply(rejected, names[1])
    if prompt != other:
        at = next((i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b), None)
        turn = (min(len(prompt), len(other)) if at is None else at) + 1
        raise BadRow("prompts_differ", f"the conversations part at turn {turn}, before the last reply")
    return prompt, chosen_reply, rejected_reply


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict) or "role" not in value or "content" not in value:
        raise BadRow("not_messages", f"{where} is {_shown(value)}, not {{'role': ..., 'content': ...}}")
    role, content = value["role"], value["content"]
    if role not in get_args(Role):
        raise BadRow("unknown_role", f"{where} has role {role!r}; known: {', '.join(get_args(Role))}")
    if not isinstance(content, str):
        reason = "null" if content is None else "not_text"
        raise BadRow(reason, f"the content of {where} is {_shown(content)}, not text")
    return Message(cast("Role", role), content)


def _shown(value: object) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 80 else text[:77] + "..."

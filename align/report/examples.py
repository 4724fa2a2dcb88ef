"""``stage=show``: one example as the model will see it: text, tokens, and which of them count in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from align.tensors import TokenItem, TokenPair
from align.types import Example, PreferencePair, UnpairedExample

_COUNTED = "bold green"
_CONTEXT = "dim"


def print_example(
    number: int,
    text: Example,
    tokens: TokenItem,
    tokenizer: Any,
    console: Console | None = None,
) -> None:
    """Prints turns and replies as text, then the token rows; ``[brackets]`` mark what counts in the loss."""
    out = console or Console(soft_wrap=True, highlight=False)
    out.rule(f"example {number}: {text.id}" + (f"  ({text.location})" if text.location else ""), align="left")
    for message in text.prompt:
        out.print(Text(f"{message.role}: {message.content}"))
    if isinstance(text, PreferencePair) and isinstance(tokens, TokenPair):
        margin = "" if text.margin is None else f" (margin {text.margin:.3g})"
        out.print(Text(f"chosen{margin}: {text.chosen}"))
        out.print(Text(f"rejected: {text.rejected}"))
        rows: list[tuple[str, Sequence[int]]] = [
            ("chosen", tokens.chosen_ids.tolist()),
            ("rejected", tokens.rejected_ids.tolist()),
        ]
    else:
        assert not isinstance(text, PreferencePair)
        assert not isinstance(tokens, TokenPair)
        label = ("undesirable ", "desirable ")[text.desirable] if isinstance(text, UnpairedExample) else ""
        out.print(Text(f"{label}reply: {text.reply}"))
        rows = [("reply", tokens.reply_ids.tolist())]
    prompt_ids = tokens.prompt_ids.tolist()
    for name, reply_ids in rows:
        count = f"{len(prompt_ids)} prompt tokens, [{len(reply_ids)}] counted in the loss"
        out.print(Text(f"\n{name} as tokens: {count}"))
        out.print(token_row(prompt_ids, reply_ids, tokenizer))
    out.print()


def token_row(prompt_ids: Sequence[int], reply_ids: Sequence[int], tokenizer: Any) -> Text:
    """Tokens apart by ``|``, those that count in the loss within brackets (and green on a terminal)."""
    row = Text()
    row.append("|".join(_pieces(prompt_ids, tokenizer)), style=_CONTEXT)
    row.append(" [" + "|".join(_pieces(reply_ids, tokenizer)) + "]", style=_COUNTED)
    return row


def _pieces(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Each token's own text, with line ends and spaces visible."""
    return [tokenizer.decode([one]).replace("\n", "↵").replace(" ", "␣") for one in ids]

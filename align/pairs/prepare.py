"""A dataset and a chat format -> tokens on disk, split, checked and fitted to a length, and a report."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, overload

import numpy as np
from tqdm import tqdm

from align.errors import BadRow, DataError, ModelError
from align.pairs.cache import FILES, Outcome, fetch, keep
from align.pairs.content import content_key
from align.pairs.read import Wants, examples, report_for
from align.pairs.split import SPLITS
from align.pairs.store import Text, Tokens, TokenStore, prompt_json, store_writer
from align.tensors import TokenExample, TokenPair, TokenUnpaired
from align.types import Demonstration, PreferencePair, UnpairedExample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from align.settings import DatasetSettings
    from align.tensors import TokenIds, TokenItem
    from align.types import Example, Location, Prompt


KINDS: dict[Wants, type[Example]] = {
    "pairs": PreferencePair,
    "demonstrations": Demonstration,
    "unpaired": UnpairedExample,
}


class Chat(Protocol):
    """What turns text into tokens (``align.models.chat.ChatFormat``)."""

    def prompt_ids(self, prompt: Prompt) -> TokenIds:
        """The prompt's tokens, up to where the reply begins."""

    def reply_ids(self, prompt: Prompt, reply: str) -> TokenIds:
        """The reply's tokens and the end of turn."""


@dataclass(frozen=True)
class Prepared(Generic[Tokens, Text]):
    """A dataset as training sees it. ``fingerprint`` is a SHA-256 over ids and texts, split by split."""

    train: TokenStore[Tokens, Text]
    validation: TokenStore[Tokens, Text]
    test: TokenStore[Tokens, Text]
    fingerprint: str


@overload
def prepare(
    dataset: DatasetSettings,
    chat: Chat,
    max_length: int,
    directory: Path,
    wants: Literal["pairs"],
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> Prepared[TokenPair, PreferencePair]: ...
@overload
def prepare(
    dataset: DatasetSettings,
    chat: Chat,
    max_length: int,
    directory: Path,
    wants: Literal["demonstrations"],
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> Prepared[TokenExample, Demonstration]: ...
@overload
def prepare(
    dataset: DatasetSettings,
    chat: Chat,
    max_length: int,
    directory: Path,
    wants: Literal["unpaired"],
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> Prepared[TokenUnpaired, UnpairedExample]: ...
@overload
def prepare(
    dataset: DatasetSettings,
    chat: Chat,
    max_length: int,
    directory: Path,
    wants: Wants,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> Prepared[Any, Any]: ...
def prepare(
    dataset: DatasetSettings,
    chat: Chat,
    max_length: int,
    directory: Path,
    wants: Wants,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> Prepared[Any, Any]:
    """Reads, checks, splits and tokenises; writes ``data/<split>.arrow`` and ``data_report.json``.

    A pair's two replies see the same prompt tokens, so a cut is made for the longer of them. Where prompt
    and reply exceed ``max_length`` tokens, ``dataset.too_long`` decides; a reply that leaves no room for a
    single prompt token is refused under every rule. The report is written when this raises, too.

    What was made before from the same bytes, rules, tokenizer and code is taken from ``cache``, and what is
    made is kept there; none keeps nothing. The files in ``directory`` are the same either way.

    Raises:
        ConfigError: the dataset offers nothing that makes examples of the kind that is wanted.
        DataError: a missing file; bad rows under ``bad_rows=error``; a long one under ``too_long=error``;
            no row that can be used, or none to train on.
    """
    key = content_key(dataset, chat, max_length, wants) if cache else None
    entry = cache / "tokens" / key if cache and key else None
    outcome = fetch(entry, directory, say) if entry else None
    is_kept = outcome is not None
    if outcome is None:
        outcome = _make(dataset, chat, max_length, directory, wants)
        # a file that was written to meanwhile must not pass for what it was when this began
        if entry and content_key(dataset, chat, max_length, wants) == key:
            keep(entry, directory, outcome, say)
    for line in outcome.summary:
        say(line)
    if outcome.lists_rows:
        say(f"  each of them: {directory / 'data_report.json'}")
    if is_kept:
        say(f"  tokens from the cache: {entry}")
    stores = {split: TokenStore[Any, Any](directory / FILES[f"{split}.arrow"]) for split in SPLITS}
    return Prepared(**stores, fingerprint=outcome.fingerprint)


def _make(dataset: DatasetSettings, chat: Chat, max_length: int, directory: Path, wants: Wants) -> Outcome:
    """Reads every row and writes every file; raises as ``prepare`` does."""
    report = report_for(dataset)
    digest = hashlib.sha256()
    kind: type[Example] = KINDS[wants]
    try:
        with ExitStack() as stack:
            write = {
                split: stack.enter_context(store_writer(directory / FILES[f"{split}.arrow"], kind))
                for split in SPLITS
            }
            rows = examples(dataset, report, wants)
            # on a terminal, and only where it takes longer than a second
            bar = tqdm(rows, f"reading {report.dataset}", unit=" rows", delay=1, disable=None, leave=False)
            for split, text, at in bar:
                try:
                    tokens, cut = _fit(_tokens(text, chat), max_length, dataset.too_long, at)
                except BadRow as bad:
                    report.refuse(at, bad.reason, bad.detail)
                    continue
                if cut:
                    report.cut(at, cut)
                write[split](text, tokens)
                report.keep(split)
                digest.update(f"{split}\n{_content(text)}\n".encode())
            report.finish()
            if not report.kept["train"]:
                raise DataError(
                    f"dataset {report.dataset}: all of {report.kept.total():,} rows fell to the test and "
                    f"validation splits; lower dataset.test_fraction or dataset.validation_fraction"
                )
    finally:
        report.write(directory / "data_report.json")
    lists_rows = bool(report.refused or report.truncated)
    return Outcome(digest.hexdigest(), tuple(report.summary()), lists_rows)


def _tokens(text: Example, chat: Chat) -> TokenItem:
    """Raises ``BadRow``: a side has no tokens, both replies have the same, the template refuses the row."""
    try:
        prompt_ids = chat.prompt_ids(text.prompt)
        texts = (text.chosen, text.rejected) if isinstance(text, PreferencePair) else (text.reply,)
        replies = [chat.reply_ids(text.prompt, one) for one in texts]
    except ModelError as error:
        raise BadRow("refused_by_template", str(error)) from error
    if not len(prompt_ids):
        raise BadRow("no_prompt_tokens", "the tokenizer makes no token of the prompt")
    if not all(map(len, replies)):
        raise BadRow("no_reply_tokens", "the tokenizer makes no token of a reply")
    if isinstance(text, Demonstration):
        return TokenExample(text.id, prompt_ids, reply_ids=replies[0])
    if isinstance(text, UnpairedExample):
        return TokenUnpaired(text.id, prompt_ids, reply_ids=replies[0], desirable=text.desirable)
    chosen_ids, rejected_ids = replies
    if np.array_equal(chosen_ids, rejected_ids):
        raise BadRow("same_tokens", "the two replies differ, but not in their tokens")
    return TokenPair(text.id, prompt_ids, chosen_ids, rejected_ids, text.margin)


def _fit(tokens: TokenItem, max_length: int, too_long: str, at: Location) -> tuple[TokenItem, int]:
    """The example within ``max_length`` tokens, and how many of the prompt's oldest tokens that took."""
    longest = max(map(len, tokens.replies()))
    excess = len(tokens.prompt_ids) + longest - max_length
    if excess <= 0:
        return tokens, 0
    what = f"prompt {len(tokens.prompt_ids)} + reply {longest} tokens, model.max_length={max_length}"
    if too_long == "error":
        raise DataError(
            f"{at}: too_long: {what}, and dataset.too_long=error. "
            f"Raise model.max_length, or give dataset.too_long=truncate_left or drop"
        )
    if longest >= max_length:
        raise BadRow("reply_too_long", f"{what}: no prompt token would be left")
    if too_long == "drop":
        raise BadRow("too_long", what)
    return replace(tokens, prompt_ids=tokens.prompt_ids[excess:]), excess


def _content(text: Example) -> str:
    """An example as one line, the same on every machine (its location is not part of it)."""
    parts: list[object] = [text.id, prompt_json(text.prompt)]
    if isinstance(text, PreferencePair):
        parts += [text.chosen, text.rejected, text.margin]
    else:
        parts += [text.reply, text.desirable] if isinstance(text, UnpairedExample) else [text.reply]
    return json.dumps(parts, ensure_ascii=False)

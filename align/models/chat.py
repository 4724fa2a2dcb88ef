"""Conversations as tokens, through the model's own chat template.

What is trained is what is sampled: a reply's tokens are those of the text that follows the rendered
prompt, tokenised apart from it and cut at the token that ends a reply, which is where sampling stops.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from align.errors import ModelError
from align.models.tokenizer import end_token
from align.types import Message, Prompt

TokenIds = NDArray[np.int32]

_PROBE = "Qzx7"
"""Stands for a reply; no template writes it by itself."""
_MARKS = range(0xE000, 0xF8FF)
"""Private-use characters; two that a conversation does not hold fence off what must stay plain text."""


class ChatFormat:
    """A tokenizer and its chat template, as the only way from conversations to tokens and back.

    Text that spells a special token (``<|eos|>`` typed by a user) stays text: in the messages handed to
    the template such strings are fenced by two private-use characters, and what lies between the fences
    is encoded with special tokens switched off. All other text is encoded as the tokenizer encodes it.

    ``stop_ids``: the tokens at which a reply has ended; the first is the one that training replies end with.

    Raises:
        ModelError: the template cannot render a plain exchange, renders it so that the prompt is not how
            the whole text begins, or no token can end a reply.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._backend = self._private_backend()
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special_ids = set(tokenizer.convert_tokens_to_ids(special)) - {tokenizer.unk_token_id}
        longest_first = sorted(special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._last_prompt: tuple[tuple[Prompt, tuple[str, str] | None], str] | None = None
        self._glues_a_space = self._starts_with_a_space()
        self._lead, self.stop_ids = self._probe()

    def prompt_ids(self, prompt: Prompt) -> TokenIds:
        """The conversation up to where the reply begins, generation prompt included: (T,).

        Raises:
            ModelError: the template refuses the conversation.
        """
        marks = self._marks(prompt)
        return np.array(self._encode(self._text(prompt, marks, ends=True), marks), dtype=np.int32)

    def reply_ids(self, prompt: Prompt, reply: str) -> TokenIds:
        """The reply as the model has to produce it after ``prompt_ids``, ending with ``stop_ids[0]``: (T,).

        Raises:
            ModelError: the template refuses the conversation, or changes the prompt once a reply follows.
        """
        whole = (*prompt, Message("assistant", reply))
        marks = self._marks(whole)
        text = self._suffix(self._text(prompt, marks, ends=True), self._text(whole, marks, ends=False))
        return np.array(self._until_stop(self._encode(text, marks, inside=True)), dtype=np.int32)

    def decode_reply(self, ids: Iterable[int]) -> str:
        """The text of a reply's tokens: up to the first stop token, without what the template puts before."""
        kept: list[int] = []
        for token in ids:
            if token in self.stop_ids:
                break
            kept.append(int(token))
        return self._decode(kept).removeprefix(self._lead)

    def written_ids(self, text: str) -> TokenIds:
        """Tokens of a text that stands right after a prompt, as plain text, without an end: (T,)."""
        return np.array(self._piece(text, inside=True, plain=True), dtype=np.int32)

    def read_back(self, text: str) -> str:
        """What the tokens of a message's text spell: the text itself, less what the tokenizer cannot hold."""
        ids = self._piece(text, inside=True, plain=True)
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def render(self, prompt: Prompt, reply: str | None = None) -> str:
        """The template's text of a prompt (generation prompt included), or of a whole exchange."""
        if reply is None:
            return self._text(prompt, None, ends=True)
        return self._text((*prompt, Message("assistant", reply)), None, ends=False)

    @functools.cached_property
    def _fingerprint(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            rules = self.tokenizer.get_vocab()
        else:  # truncation and padding are left behind by the last call, no part of the tokenizer
            rules = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        parts = [self.tokenizer.chat_template, rules, special]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 of the template and of all that decides how the tokenizer encodes."""
        return self._fingerprint

    def content_hash(self) -> str | None:
        """What decides the tokens of a conversation, so that they can be kept; None where that is not known.

        A template that asks for the date writes other text tomorrow. What a tokenizer without a fast backend
        does is written in its code, which cannot be hashed from here.
        """
        if self._backend is None:
            return None
        today = time.strftime(" %Y-%m-%d") if "strftime_now" in str(self.tokenizer.chat_template) else ""
        return self.fingerprint() + today

    def template_fingerprint(self) -> str:
        """SHA-256 of the template alone."""
        return hashlib.sha256(json.dumps(self.tokenizer.chat_template, sort_keys=True).encode()).hexdigest()

    def _text(self, messages: Prompt, marks: tuple[str, str] | None, *, ends: bool) -> str:
        # a pair asks for its prompt's text three times in a row, and rendering costs more than encoding
        asked = (messages, marks)
        if ends and self._last_prompt is not None and self._last_prompt[0] == asked:
            return self._last_prompt[1]
        text = self._render(messages, marks, ends=ends)
        if ends:
            self._last_prompt = (asked, text)
        return text

    def _render(self, messages: Prompt, marks: tuple[str, str] | None, *, ends: bool) -> str:
        turns = [{"role": one.role, "content": self._fenced(one.content, marks)} for one in messages]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ends)
        except TemplateError as error:
            roles = ", ".join(one.role for one in messages)
            raise ModelError(
                f"the chat template refuses a conversation of turns {roles}: {error}; "
                "give another one with model.chat_template=FILE, or raw"
            ) from error
        return str(text)

    def _marks(self, messages: Sequence[Message]) -> tuple[str, str] | None:
        """Two fences that no message holds; None where nothing needs fencing."""
        contents = [message.content for message in messages]
        if not any(self._special_text.search(content) for content in contents):
            return None
        taken = set().union(*contents)
        free = (chr(code) for code in _MARKS if chr(code) not in taken)
        return next(free), next(free)

    def _fenced(self, content: str, marks: tuple[str, str] | None) -> str:
        if marks is None:
            return content
        return self._special_text.sub(lambda found: f"{marks[0]}{found[0]}{marks[1]}", content)

    def _encode(self, text: str, marks: tuple[str, str] | None, *, inside: bool = False) -> list[int]:
        """Tokens of a rendered text; ``inside`` where it does not begin the sequence."""
        if marks is None:
            return self._piece(text, inside=inside, plain=False)
        ids: list[int] = []
        # a template may drop a fence (by splitting a message); the other one still separates
        for part in re.split(f"({marks[0]}[^{marks[1]}]*{marks[1]})", text):
            plain = part.startswith(marks[0])
            piece = part.replace(marks[0], "").replace(marks[1], "")
            if piece:
                ids += self._piece(piece, inside=inside or bool(ids), plain=plain)
        return ids

    def _piece(self, text: str, *, inside: bool, plain: bool) -> list[int]:
        ids = self._tokens(text, inside, plain)
        if plain and self._special_ids.intersection(ids):
            # the vocabulary spells the token by itself (word-level models); letters alone cannot
            ids = [token for letter in text for token in self._tokens(letter, True, plain)]
        return ids

    def _tokens(self, text: str, inside: bool, plain: bool) -> list[int]:
        def encode(one: str) -> list[int]:
            if self._backend is not None:
                # what the call below comes to, without its overhead
                self._backend.encode_special_tokens = plain
                return list(self._backend.encode(one, add_special_tokens=False).ids)
            ids = self.tokenizer(one, add_special_tokens=False, split_special_tokens=plain, verbose=False)
            return list(ids["input_ids"])

        if inside and self._glues_a_space:
            # sentencepiece puts a space before whatever begins a string: begin with a newline, then drop it
            newline = encode("\n")
            ids = encode("\n" + text)
            if ids[: len(newline)] == newline:
                return ids[len(newline) :]
        return encode(text)

    def _private_backend(self) -> Any:
        """A copy of the fast tokenizer inside, so that no caller's truncation or padding reaches it."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        copied = copy.deepcopy(backend)
        copied.no_truncation()
        copied.no_padding()
        return copied

    def _starts_with_a_space(self) -> bool:
        newline, letter, both = (
            self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("\n", "a", "\na")
        )
        return bool(both[: len(newline)] == newline and both[len(newline) :] != letter)

    def _suffix(self, prompt: str, whole: str) -> str:
        if not whole.startswith(prompt):
            pairs = enumerate(zip(prompt, whole, strict=False))
            same = next((place for place, (a, b) in pairs if a != b), len(whole))
            raise ModelError(
                "the chat template writes the prompt differently once a reply follows: "
                f"{prompt[same : same + 40]!r} becomes {whole[same : same + 40]!r}; "
                "give another one with model.chat_template=FILE, or raw"
            )
        return whole[len(prompt) :]

    def _until_stop(self, ids: list[int]) -> list[int]:
        """Up to and with the first stop token, which is added where the template writes none."""
        stop = next((place for place, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return [*ids[:stop], self.stop_ids[0]]

    def _probe(self) -> tuple[str, tuple[int, ...]]:
        """What the template writes before a reply, and the tokens that end one."""
        prompt: Prompt = (Message("user", _PROBE),)
        whole = (*prompt, Message("assistant", _PROBE))
        text = self._suffix(self._text(prompt, None, ends=True), self._text(whole, None, ends=False))
        lead, found, tail = text.partition(_PROBE)
        if not found:
            raise ModelError("the chat template drops the reply; give model.chat_template=FILE, or raw")
        eos = self.tokenizer.convert_tokens_to_ids(end_token(self.tokenizer))
        written = [token for token in self._tokens(tail, True, False) if token in self._special_ids]
        return self._decode(self._tokens(lead, True, False)), tuple(dict.fromkeys([*written[:1], eos]))

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

"""Completions of prompts that are tokens, from a server that speaks OpenAI's older API, with what it says of
their tokens: vLLM, SGLang and llama.cpp each in their own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from align.errors import ServerError
from align.settings import SamplingSettings

if TYPE_CHECKING:
    from align.generation.http import Requests

PATH = "/completions"
_AS_ID = "token_id:"
"""What vLLM writes before a number where it is asked for numbers in place of a token's text."""


@dataclass(frozen=True)
class Completion:
    """What a server wrote behind a prompt. Each of the last three has an entry a token, where it is known."""

    text: str
    ended: bool
    token_ids: tuple[int, ...] | None
    pieces: tuple[str, ...] | None
    """The tokens' texts."""
    logps: tuple[float, ...] | None


def complete(
    requests: Requests,
    prompt_ids: Sequence[int],
    sampling: SamplingSettings,
    seed: int,
    stops: Sequence[int],
    *,
    logprobs: bool,
) -> Completion:
    """One completion.

    What would bend the distribution is switched off by name: vLLM takes such defaults from the model's
    ``generation_config.json``, llama.cpp has its own (top-k 40, top-p 0.95, min-p 0.05).

    Raises:
        ServerError: the server cannot be reached, refuses, is another model, or answers no completion.
    """
    body: dict[str, Any] = {
        "model": requests.settings.model,
        "prompt": [int(token) for token in prompt_ids],
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [int(token) for token in stops],
        "seed": seed,
        "return_token_ids": True,
    }
    if logprobs:
        body["logprobs"] = 1
    answer = requests.post(PATH, body)
    named = answer.get("model")
    if named is not None and named != requests.settings.model:
        raise ServerError(
            f"{requests.place} answers as {named!r}: another model's replies are not to be learnt from; "
            f"type server.model={named} if that is the one"
        )
    try:
        choice = answer["choices"][0]
        text, finish = choice["text"], choice.get("finish_reason")
        ids, pieces, logps = _tokens(choice)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ServerError(
            f"{requests.place} answers what is no completion ({PATH}): {str(answer)[:200]}"
        ) from error
    if not isinstance(text, str):
        raise ServerError(f"{requests.place} gives a reply without text (finish_reason {finish!r})")
    if not text and not ids and finish != "stop":
        raise ServerError(f"{requests.place} gives a reply without a token (finish_reason {finish!r})")
    return Completion(text, finish == "stop", ids, pieces, logps)


def _tokens(
    choice: Mapping[str, Any],
) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None, tuple[float, ...] | None]:
    """Numbers, texts and log-probabilities of a choice's tokens, each where the server gives it for all."""
    said = choice.get("logprobs") or {}
    ids, pieces, logps = choice.get("token_ids"), said.get("tokens"), said.get("token_logprobs")
    if said.get("content") is not None:  # as in the chat API: llama.cpp, with the tokens' numbers
        entries = said["content"]
        pieces = [one["token"] for one in entries]
        logps = [one["logprob"] for one in entries]
        if ids is None and all("id" in one for one in entries):
            ids = [one["id"] for one in entries]
    if ids is None and pieces and all(one.startswith(_AS_ID) for one in pieces):
        ids = [one.removeprefix(_AS_ID) for one in pieces]
    return _each(int, ids), _each(str, pieces), _each(float, logps)


def _each(kind: Any, values: Sequence[Any] | None) -> Any:
    if values is None or any(one is None for one in values):
        return None
    return tuple(kind(one) for one in values)

"""Replies from a server that speaks OpenAI's chat API: vLLM, llama.cpp, or a provider's.

For collecting replies and for judges by conversations; for rollouts by tokens (``complete``).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from align.errors import ServerError
from align.generation.address import ServerSettings
from align.generation.completions import Completion, complete
from align.settings import SamplingSettings
from align.types import Message, Prompt

if TYPE_CHECKING:
    from align.generation.http import Requests

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told after each reply how many came."""


@dataclass(frozen=True)
class ServedReply:
    """A reply that a server sampled: its text, and whether it ended by itself. Its tokens are unknown."""

    text: str
    ended: bool


class Server:
    """A server that answered once; safe to use from several threads. Close it, or use it in a ``with``."""

    def __init__(self, settings: ServerSettings, requests: Requests) -> None:
        self.settings = settings
        self._requests = requests

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the connections go."""
        self._requests.close()

    def chat(
        self, messages: Sequence[Message], sampling: SamplingSettings, n: int = 1, seed: int = 0
    ) -> list[ServedReply]:
        """``n`` replies to one conversation. Reply i is asked for by itself and has a seed of its own.

        Raises:
            ServerError: the server cannot be reached, refuses, or answers what is no chat completion.
        """
        return self.each(lambda i: self.ask(messages, sampling, derived_seed(seed, i)), n)

    def sample_replies(
        self,
        prompts: Sequence[Prompt],
        settings: SamplingSettings,
        seed: int,
        progress: Progress | None = None,
    ) -> list[ServedReply]:
        """One reply to each prompt, in the order of the prompts, as ``align.generation.local`` gives.

        Each request has a seed made of ``seed`` and its place: a server that honours seeds gives the same
        replies again, as far as its own arithmetic does. ``settings.batch_size`` is not used.

        Raises:
            ServerError: as ``chat``; the requests that have not begun are then not made.
        """

        def sample(i: int) -> ServedReply:
            reply = self.ask(prompts[i], settings, derived_seed(seed, i))
            if progress is not None:
                progress(1)
            return reply

        return self.each(sample, len(prompts))

    def each(self, work: Callable[[int], T], count: int) -> list[T]:
        """``work(0) ... work(count - 1)``, ``concurrency`` at once, in order. The first failure stops all.

        ``work`` runs in threads and asks through ``ask``; it does not call ``each`` itself.
        """
        stop = self._requests.stop = threading.Event()
        places, lock = iter(range(count)), threading.Lock()
        outcomes: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()

        def go_on() -> None:
            while not stop.is_set():
                with lock:
                    place = next(places, None)
                if place is None:
                    return
                try:
                    outcomes.put((place, work(place), None))
                except BaseException as error:
                    outcomes.put((place, None, error))
                    return

        for _ in range(min(self.settings.concurrency, count)):
            # nobody waits for these after an error: a request under way may take minutes
            threading.Thread(target=go_on, name="server", daemon=True).start()
        found: dict[int, Any] = {}
        try:
            while len(found) < count:
                place, result, error = outcomes.get()
                if error is not None:
                    raise error
                found[place] = result
        finally:
            stop.set()
            self._requests.stop = threading.Event()
        return [found[place] for place in range(count)]

    def complete(
        self,
        prompt_ids: Sequence[Sequence[int]],
        sampling: SamplingSettings,
        seed: int,
        stops: Sequence[int],
        *,
        logprobs: bool,
    ) -> list[Completion]:
        """One completion of each prompt, in their order, with seeds as ``sample_replies`` gives them.

        Raises:
            ServerError: as ``align.generation.completions.complete``.
        """
        return self.each(
            lambda i: complete(
                self._requests, prompt_ids[i], sampling, derived_seed(seed, i), stops, logprobs=logprobs
            ),
            len(prompt_ids),
        )

    def command(self, path: str, body: Mapping[str, Any]) -> str:
        """See ``Requests.command``."""
        return self._requests.command(path, body)

    def ask(self, messages: Sequence[Message], sampling: SamplingSettings, seed: int) -> ServedReply:
        """One reply to one conversation: a single request, with this very seed.

        Raises:
            ServerError: as ``chat``.
        """
        answer = self._requests.post(
            "/chat/completions",
            {
                "model": self.settings.model,
                "messages": [{"role": one.role, "content": one.content} for one in messages],
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "seed": seed,
            },
        )
        return _reply_of(answer, self._requests.place)


def open_server(settings: ServerSettings) -> Server:
    """A server that is there and takes the key.

    Raises:
        ConfigError: the environment holds no key where one is asked for.
        ServerError: nothing listens there, or it refuses the key.
    """
    from align.generation.http import Requests

    requests = Requests(settings)
    try:
        requests.check()
    except BaseException:
        requests.close()
        raise
    return Server(settings, requests)


def derived_seed(seed: int, place: int) -> int:
    """A seed of 31 bits for one request of many."""
    digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _reply_of(answer: Mapping[str, Any], place: str) -> ServedReply:
    try:
        choice = answer["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ServerError(f"{place} answers what is no chat completion: {str(answer)[:200]}") from error
    if text is None and finish == "length":
        text = ""  # a model that thinks first and was cut before it said anything
    if not isinstance(text, str):
        raise ServerError(
            f"{place} gives a reply without text (finish_reason {finish!r}): {str(answer)[:200]}"
        )
    return ServedReply(text, ended=finish == "stop")

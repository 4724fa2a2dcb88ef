"""Requests to an OpenAI-compatible server: tried again where that may help, else one error that says why."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from align.distributed.pulse import excused
from align.errors import ServerError
from align.registry import near

if TYPE_CHECKING:
    from align.generation.address import ServerSettings

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Answers after which the same request may succeed."""
_QUOTED = 200
"""Characters of a server's answer in a message."""


class Turns:
    """When each request may begin, so that there are no more than ``per_minute``: evenly, one after another.

    Evenly and not sixty at once and then none: a server that counts by the second refuses the burst.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._apart = 60.0 / per_minute if per_minute else 0.0
        self._free = 0.0
        self._lock = threading.Lock()

    def wait(self, now: float) -> float:
        """Seconds from ``now`` (a monotonic clock's) until the next turn, which is then taken."""
        with self._lock:
            turn = max(now, self._free)
            self._free = turn + self._apart
        return turn - now


class Requests:
    """A connection to one server, shared by threads.

    A request that finds the server busy, broken or silent is made again, up to ``attempts`` times, after a
    pause: the server's ``Retry-After``, or ``pause`` doubled each time and shortened by chance, so that
    threads do not come back all at once. A connection that is refused before anything was ever answered is
    an error at once: then nothing is there. ``stop`` ends pauses, and with them the requests.
    """

    def __init__(self, settings: ServerSettings) -> None:
        key = settings.key()
        self.settings = settings
        self.place = f"{settings.url.rstrip('/')} (model {settings.model})"
        self.stop = threading.Event()
        self._answered = False
        self._turns = Turns(settings.per_minute)
        # not the global generator, whose state belongs to the run
        self._chance = random.SystemRandom()
        self._client = httpx.Client(
            timeout=settings.timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=settings.concurrency),
        )

    def close(self) -> None:
        """Lets the connections go."""
        self._client.close()

    def check(self) -> None:
        """Asks for the models, so that a missing server or key is known before there is work to lose.

        Raises:
            ServerError: nothing answers, or the key is refused. A server without such a list passes.
        """
        answer = self._answer("GET", self._address("/models"), None)
        if answer.status_code in (401, 403):
            raise self._refusal(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The server's JSON answer.

        Raises:
            ServerError: says what was tried, how often, and what the server said last.
        """
        with excused(f"an answer of {self.place}"):
            answer = self._answer("POST", self._address(path), body)
        if not answer.is_success:
            raise self._refusal(answer)
        try:
            content = answer.json()
        except ValueError as error:
            raise ServerError(f"{self.place} answers what is no JSON: {_quoted(answer)}") from error
        if not isinstance(content, dict):
            raise ServerError(f"{self.place} answers what is no chat completion: {_quoted(answer)}")
        return content

    def command(self, path: str, body: Mapping[str, Any]) -> str:
        """Tells the server to do something, at a path from its root; returns what it says (no JSON, perhaps).

        Raises:
            ServerError: as ``post``, and it says itself that it did not (``"success": false``).
        """
        url = re.sub(r"/v\d+$", "", self.settings.url.rstrip("/")) + path
        with excused(f"an answer of {self.place}"):
            answer = self._answer("POST", url, body)
        try:
            failed = answer.json().get("success") is False
        except (ValueError, AttributeError):
            failed = False
        if failed or not answer.is_success:
            raise ServerError(f"{url} did not do what it was told ({answer.status_code}: {_quoted(answer)})")
        return answer.text

    def _address(self, path: str) -> str:
        return self.settings.url.rstrip("/") + path

    def _answer(self, method: str, url: str, body: Mapping[str, Any] | None) -> httpx.Response:
        """An answer that trying again would not change."""
        stop = self.stop
        for attempt in range(1, self.settings.attempts + 1):
            asked_for = None
            if method == "POST" and stop.wait(self._turns.wait(time.monotonic())):
                raise ServerError(f"{self.place} was not asked; given up, since another request failed")
            try:
                answer = self._client.request(method, url, json=body)
            except httpx.ConnectError as error:
                if not self._answered:
                    raise ServerError(self._nobody(error)) from error
                reason = f"cannot be reached any more ({error})"
            except httpx.TimeoutException:
                reason = f"gave no answer within {self.settings.timeout:g} s (raise server.timeout)"
            except httpx.TransportError as error:
                reason = f"broke the connection off ({error or type(error).__name__})"
            except httpx.InvalidURL as error:
                raise ServerError(f"server.url={self.settings.url} is no address: {error}") from error
            else:
                self._answered = True
                if answer.status_code not in AGAIN:
                    return answer
                reason = f"answers {answer.status_code}: {_quoted(answer)}"
                asked_for = _retry_after(answer)
            if attempt < self.settings.attempts and stop.wait(self._pause(attempt, asked_for, reason)):
                raise ServerError(f"{self.place} {reason}; given up, since another request failed")
        raise ServerError(f"{self.place} {reason}; tried {self.settings.attempts} times (server.attempts)")

    def _pause(self, attempt: int, asked_for: float | None, reason: str) -> float:
        """Seconds before the next attempt."""
        longest = self.settings.longest_pause
        if asked_for is None:
            grown = self.settings.pause * 2.0 ** min(attempt - 1, 30)
            return min(longest, grown) * self._chance.uniform(0.5, 1.0)
        if asked_for > longest:
            raise ServerError(
                f"{self.place} {reason}; it asks to wait {asked_for:.0f} s, longer than "
                f"server.longest_pause={longest:g}"
            )
        return asked_for

    def _nobody(self, error: Exception) -> str:
        return (
            f"nothing answers at {self.settings.url} ({error}): start the server, or give another server.url"
        )

    def _refusal(self, answer: httpx.Response) -> ServerError:
        status, variable = answer.status_code, self.settings.key_variable
        if status in (401, 403):
            what = (
                f"refuses the key in {variable}"
                if variable
                else "asks for a key: name its environment variable with server.key_variable"
            )
            return ServerError(f"{self.place} {what} ({status}: {_quoted(answer)})")
        if status == 404:
            return ServerError(
                f"{self.place} has no such model or address ({_quoted(answer)}){self._models()}"
            )
        return ServerError(f"{self.place} refuses the request ({status}: {_quoted(answer)})")

    def _models(self) -> str:
        """What the server lists, with the near match; nothing where it lists none."""
        try:
            listed = self._client.get(self._address("/models")).json()["data"]
            names = [str(one["id"]) for one in listed]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return f"; server.url={self.settings.url} should end with the API's version, as in .../v1"
        return f".{near(self.settings.model, names)} It serves: {', '.join(names[:20])}"


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, given as such or as a date."""
    text = answer.headers.get("Retry-After")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _quoted(answer: httpx.Response) -> str:
    """What the server said, its ``error.message`` where it has one."""
    text = answer.text
    try:
        error = json.loads(text)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:_QUOTED] or "nothing"

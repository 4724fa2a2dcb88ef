"""One annotator's browser, as far as the server can tell: a cookie, a token, a connection that is kept."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

TIMEOUT = 30.0
"""Seconds without an answer after which a request has failed."""


@dataclass
class Browser:
    """Asks and answers. ``OSError`` or ``HTTPException``: the line was cut; nobody knows what was kept."""

    port: int
    link: str
    cookie: str = ""
    csrf: str = ""
    failures: list[str] = field(default_factory=list)
    """Answers that were refused: the server's own words."""
    _line: http.client.HTTPConnection | None = None

    def come_in(self) -> None:
        """Follows the personal link."""
        response, _ = self._ask("GET", f"/in/{self.link}", None)
        if response.status != 303:
            raise AssertionError(f"the link was not taken: {response.status}")
        self.cookie = str(response.getheader("set-cookie")).split(";")[0]

    def task(self) -> dict[str, Any]:
        """What is to be shown."""
        response, found = self._ask("GET", "/api/task", None)
        if response.status != 200:
            raise AssertionError(f"no task: {response.status} {found}")
        self.csrf = found["csrf"]
        shown: dict[str, Any] = found["next"]
        return shown

    def answer(self, item: str, key: str, choice: str) -> dict[str, Any]:
        """Sends an answer; returns what was saved and what comes next."""
        response, found = self._ask(
            "POST", "/api/answer", {"assignment": item, "key": key, "choice": choice, "seconds": 1.0}
        )
        if response.status != 200:
            self.failures.append(f"{response.status} {found}")
        return found

    def close(self) -> None:
        """Cuts the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ask(self, method: str, path: str, body: object) -> tuple[http.client.HTTPResponse, dict[str, Any]]:
        if self._line is None:
            self._line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        headers = {
            "cookie": self.cookie,
            "origin": f"http://127.0.0.1:{self.port}",
            "x-csrf-token": self.csrf,
        }
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            self._line.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._line.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        is_json = "json" in str(response.getheader("content-type"))
        return response, json.loads(said) if is_json else {}

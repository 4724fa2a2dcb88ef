"""A server that speaks OpenAI's chat API on a port of this machine, and answers as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Said:
    """One answer. ``body`` is sent as it is where it is text, else as JSON; None drops the connection."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


Answer = Callable[[Mapping[str, Any], int], Said]


def completion(text: str | None, finish: str = "stop", delay: float = 0.0) -> Said:
    """A chat completion of one choice."""
    message = {"role": "assistant", "content": text}
    return Said({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}, delay=delay)


def problem(status: int, message: str, **headers: str) -> Said:
    """An error in OpenAI's form."""
    return Said({"error": {"message": message, "type": "x"}}, status, headers)


class StandIn:
    """What was asked so far, and what to answer next."""

    def __init__(self, answer: Answer, others: Mapping[str, Answer]) -> None:
        self.answer = answer
        self.others = dict(others)
        self.told: list[tuple[str, dict[str, Any]]] = []
        """What came to other paths than that of conversations."""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models: Said = Said({"data": [{"id": "judge-large"}, {"id": "judge-small"}]})
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()
        self.url = ""

    def asked_for(self, path: str, body: dict[str, Any], key: str | None) -> Said:
        answer = self.answer if path == CHAT else self.others.get(path)
        if answer is None:
            return problem(404, f"nothing is at {path}")
        with self._lock:
            if path == CHAT:
                self.asked.append(body)
            else:
                self.told.append((path, body))
            self.keys.append(key)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            count = len(self.asked) if path == CHAT else len(self.told)
        said = answer(body, count)
        time.sleep(said.delay)
        with self._lock:
            self._busy -= 1
        return said


@contextmanager
def serving(answer: Answer, others: Mapping[str, Answer] | None = None) -> Iterator[StandIn]:
    """Calls ``answer(body, number of this request)`` for each chat request, in a thread of its own.

    ``others`` do the same for requests to their paths (``/v1/completions``), numbered apart.
    """
    stand_in = StandIn(answer, others or {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(stand_in.asked_for(self.path, body, self.headers.get("Authorization")))

        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            self._send(stand_in.models)

        def _send(self, said: Said) -> None:
            if said.body is None:
                self.close_connection = True
                return
            content = said.body if isinstance(said.body, str) else json.dumps(said.body)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that gave up waiting is part of the tests."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()

"""The one door of the app: an ASGI middleware that every request and every response goes through.

Refused before any page sees it: a foreign Host, a method that nothing offers, a change that does not come
from our own pages (Origin, CSRF token), a body that is too long (announced or not), somebody who has not come
in, somebody without the role. Whatever is answered, errors and static files too, carries the headers below.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from align.annotate.accounts import Account, Accounts
from align.annotate.seals import Seals, Session

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "align_session"

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # links hold tokens; under no-referrer browsers would send forms with "Origin: null"
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
SECURE_HEADERS = {"strict-transport-security": "max-age=31536000"}

OPEN = ("/static/", "/in/", "/join/")
OPEN_EXACTLY = ("/login", "/health")
"""What may be asked by those who have not come in; everything else needs an account."""

MAX_BODY = 64 << 10
"""Bytes of a body, at most; an answer with its longest reason stays under it."""
MAX_IMPORT = 256 << 20
IMPORT = "/admin/import"
"""The one path that takes files."""

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Visitor:
    """Who asks, as pages see it in ``request.state``: ``session``, ``csrf``, and ``account`` once inside."""

    session: Session
    csrf: str
    account: Account | None


class TurnedAway(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Guard:
    """Wraps the app. ``origins`` are the addresses that people type (``https://name``), none other serves."""

    def __init__(self, app: ASGIApp, accounts: Accounts, seals: Seals, origins: Sequence[str]) -> None:
        self._app = app
        self._accounts = accounts
        self._seals = seals
        self._origins = frozenset(origins)
        self._hosts = frozenset(origin.split("://", 1)[1] for origin in origins)
        secure = all(origin.startswith("https://") for origin in origins)
        headers = {**HEADERS, **(SECURE_HEADERS if secure else {})}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.cookie_name = f"__Host-{COOKIE}" if secure else COOKIE
        self.secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answered = False

        async def dressed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message = {**message, "headers": self._dress(message.get("headers", []))}
            await send(message)

        try:
            receive = await self._admitted(scope, receive)
            await self._app(scope, receive, dressed)
        except TurnedAway as refusal:
            await _answer(scope, dressed, refusal)
        except Exception:
            if answered:
                raise
            logging.getLogger(__name__).exception("a request failed before any page saw it")
            await _answer(scope, dressed, TurnedAway(500, "something went wrong on the server"))

    def _dress(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own = {name for name, _ in self._headers}
        kept = [(name, value) for name, value in headers if name.lower() not in own]
        if not any(name.lower() == b"cache-control" for name, _ in kept):
            kept.append((b"cache-control", b"no-store"))
        return [*kept, *self._headers]

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """What the app may read of the request.

        Raises:
            TurnedAway: with the status to answer.
        """
        headers = _single(scope["headers"])
        if headers.get("host", "").lower() not in self._hosts:
            raise TurnedAway(421, "this server has another name")
        if scope["method"] not in ("GET", "POST"):
            raise TurnedAway(405, "only GET and POST are served")
        visitor = await self._visitor(headers)
        scope.setdefault("state", {})["visitor"] = visitor
        if scope["method"] == "POST":
            receive = await self._checked(scope, receive, headers, visitor)
        _refuse_strangers(scope["path"], visitor)
        return receive

    async def _visitor(self, headers: Mapping[str, str]) -> Visitor:
        session = self._seals.read(_cookie(headers.get("cookie", ""), self.cookie_name))
        account = None
        if session is not None and session.account:
            account = await self._accounts.find(session.account)
            if account is None or account.epoch != session.epoch:
                session, account = None, None
        session = session or self._seals.open()
        return Visitor(session, self._seals.csrf(session), account)

    async def _checked(
        self, scope: Scope, receive: Receive, headers: Mapping[str, str], visitor: Visitor
    ) -> Receive:
        """A change: from our own origin, short enough, with this session's token."""
        if headers.get("origin") not in self._origins:
            raise TurnedAway(403, "this request does not come from a page of this server")
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json" and kind not in FORMS:
            raise TurnedAway(415, "bodies are JSON or forms")
        importing = scope["path"] == IMPORT
        if kind == "multipart/form-data" and not importing:
            raise TurnedAway(415, "no file is taken here")
        limit = MAX_IMPORT if importing else MAX_BODY
        if not headers.get("content-length", "0").isdecimal():
            raise TurnedAway(400, "the length of the body is no number")
        if int(headers.get("content-length", "0")) > limit:
            raise TurnedAway(413, f"the body is longer than {limit} bytes")
        token = headers.get("x-csrf-token")
        if importing:
            # its body is not read here: the token stands in the address
            token = token or _field(scope["query_string"], "csrf")
            self._refuse_forged(visitor, token)
            # nobody without the role makes the server read a long body
            _refuse_strangers(scope["path"], visitor)
            return _counted(receive, limit)
        body = await _whole(receive, limit)
        if token is None and kind in FORMS:
            token = _field(body, "csrf")
        self._refuse_forged(visitor, token)
        return _replayed(body, receive)

    def _refuse_forged(self, visitor: Visitor, token: str | None) -> None:
        if token is None or not self._seals.csrf_fits(visitor.session, token):
            raise TurnedAway(403, "the page is out of date (CSRF token): load it again")


def _refuse_strangers(path: str, visitor: Visitor) -> None:
    if path in OPEN_EXACTLY or path.startswith(OPEN):
        return
    if visitor.account is None:
        raise TurnedAway(401, "come in by your personal link, or log in")
    if (path == "/admin" or path.startswith("/admin/")) and visitor.account.role != "admin":
        raise TurnedAway(403, "this page is for admins")
    if path.startswith("/api/") and visitor.account.annotator is None:
        raise TurnedAway(403, "this account does not annotate")


def _single(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name. Two of one name that must be one (Host, Origin, lengths, tokens) make it unusable."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        joined = "; " if key == "cookie" else ", "
        found[key] = (
            f"{found[key]}{joined}{value.decode('latin-1')}" if key in found else value.decode("latin-1")
        )
    return found


def _cookie(header: str, name: str) -> str:
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


def _field(form: bytes, name: str) -> str | None:
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=200)
    except (ValueError, UnicodeDecodeError):
        return None
    return fields.get(name, [None])[0]


async def _whole(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TurnedAway(400, "the line was cut")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TurnedAway(413, f"the body is longer than {limit} bytes")
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read


def _counted(receive: Receive, limit: int) -> Receive:
    size = 0

    async def read() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise TurnedAway(413, f"the body is longer than {limit} bytes")
        return message

    return read


async def _answer(scope: Scope, send: Send, refusal: TurnedAway) -> None:
    """A refusal in a line: JSON for the script, a way in for a person, text for everybody else."""
    kind, body = b"text/plain; charset=utf-8", f"{refusal.message}\n".encode()
    headers: list[tuple[bytes, bytes]] = []
    status = refusal.status
    if scope["path"].startswith("/api/"):
        kind, body = b"application/json", json.dumps({"error": refusal.message}).encode()
    elif status == 401 and scope["method"] == "GET":
        status, body = 303, b""
        headers.append((b"location", b"/login"))
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if status in (400, 413):
        # what is left of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""What only this server can write: session cookies, CSRF tokens, pseudonyms, by a keyed hash (HMAC-SHA-256).

One key a study, in a file that only its owner can read; it is drawn once, so that a restart logs nobody out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

KEY_BYTES = 32


@dataclass(frozen=True)
class Session:
    """Who a browser says it is, as the server signed it."""

    account: str
    """Id of the account; empty for somebody who has not come in yet."""
    epoch: int
    """The account's at that time; a changed password or a closed account ends sessions of older ones."""
    issued: int
    """Seconds since 1970."""
    nonce: str
    """Random; the CSRF token hangs on it."""


class Seals:
    """Signs and checks. ``hours`` is how long a session lasts."""

    def __init__(self, key: bytes, hours: float) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes; it takes {KEY_BYTES}")
        self._key = key
        self.seconds = int(hours * 3600)

    def open(self, account: str = "", epoch: int = 0) -> Session:
        """A new session of an account, with a nonce of its own."""
        return Session(account, epoch, int(time.time()), secrets.token_urlsafe(16))

    def cookie(self, session: Session) -> str:
        """A session as the value of a cookie."""
        text = f"{session.account}.{session.epoch}.{session.issued}.{session.nonce}"
        return f"{text}.{self._mac('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """The session in a cookie; None where it is not ours, damaged, or too old."""
        text, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("session", text).encode()):
            return None
        account, epoch, issued, nonce = text.split(".")
        session = Session(account, int(epoch), int(issued), nonce)
        return session if time.time() - session.issued < self.seconds else None

    def csrf(self, session: Session) -> str:
        """What a page of this session sends back with every change."""
        return self._mac("csrf", session.nonce)

    def csrf_fits(self, session: Session, token: str) -> bool:
        """Whether a token is this session's, told in constant time."""
        return hmac.compare_digest(token.encode(), self.csrf(session).encode())

    def pseudonym(self, *ids: str) -> str:
        """A name for somebody known by ids elsewhere: the same for the same ids, and nobody can go back."""
        return self._mac("pseudonym", "\n".join(ids))[:20]

    def _mac(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}:{text}".encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def study_key(path: Path) -> bytes:
    """The key of a study: read, or drawn and written for its owner alone (mode 0600) where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()

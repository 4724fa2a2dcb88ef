"""Passwords and tokens at rest: scrypt for what a person chose, SHA-256 for what is random anyway."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from base64 import b64decode, b64encode

SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
"""32 MiB and about a tenth of a second each: what a guesser pays, too."""
_MEMORY = 64 << 20
MIN_LENGTH = 10
MAX_LENGTH = 200

_AT_ONCE = threading.Semaphore(2)
"""Logins that may be computed at once: each takes 32 MiB, and a flood of them must not take all."""


def hashed(password: str) -> str:
    """``scrypt$n$r$p$salt$hash``, with a salt of its own."""
    salt = secrets.token_bytes(16)
    parts = ["scrypt", *(str(SCRYPT[name]) for name in "nrp")]
    return "$".join([*parts, _text(salt), _text(_scrypt(password, salt, SCRYPT))])


def fits(password: str, kept: str | None) -> bool:
    """Whether a password is the one that was hashed. Takes as long where there is none to compare with."""
    _, n, r, p, salt, digest = (kept or _nobody()).split("$")
    cost = {"n": int(n), "r": int(r), "p": int(p)}
    found = _scrypt(password[:MAX_LENGTH], b64decode(salt), cost)
    return hmac.compare_digest(found, b64decode(digest)) and kept is not None


def problem(password: str, name: str) -> str | None:
    """Why a password is not taken, in a sentence; None where it is."""
    if len(password) < MIN_LENGTH:
        return f"A password has at least {MIN_LENGTH} characters."
    if len(password) > MAX_LENGTH:
        return f"A password has at most {MAX_LENGTH} characters."
    if name.lower() in password.lower() or len(set(password)) < 5:
        return "This password is too easy to guess."
    return None


def new_token() -> str:
    """A random token of 256 bits for a link."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token. A fast hash is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _scrypt(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    with _AT_ONCE:
        secret = password.encode("utf-8", "replace")
        return hashlib.scrypt(
            secret, salt=salt, n=cost["n"], r=cost["r"], p=cost["p"], maxmem=_MEMORY, dklen=32
        )


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _nobody() -> str:
    """What a password is held against where there is none."""
    return "$".join(["scrypt", *(str(SCRYPT[name]) for name in "nrp"), _text(bytes(16)), _text(bytes(32))])

"""Cookies, tokens and the key: only this server can write them, and only its owner can read the key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from align.annotate import passwords, seals
from align.annotate.seals import Seals, study_key

SEALS = Seals(bytes(32), hours=1)


def test_a_cookie_is_read_as_it_was_written() -> None:
    session = SEALS.open("a1", 3)
    assert SEALS.read(SEALS.cookie(session)) == session


@pytest.mark.parametrize("place", range(5))
def test_a_cookie_with_one_part_changed_is_nothing(place: int) -> None:
    parts = SEALS.cookie(SEALS.open("a1", 3)).split(".")
    parts[place] = parts[place][:-1] + ("1" if parts[place][-1] != "1" else "2")
    assert SEALS.read(".".join(parts)) is None


@pytest.mark.parametrize("cookie", ["", ".", "....", "a.1.1.n.", "é.1.1.n.é", "a1"])
def test_what_is_no_cookie_is_nothing(cookie: str) -> None:
    assert SEALS.read(cookie) is None


def test_another_key_signs_otherwise() -> None:
    session = SEALS.open("a1")
    other = Seals(b"1" * 32, hours=1)
    assert other.read(SEALS.cookie(session)) is None
    assert not other.csrf_fits(session, SEALS.csrf(session))
    assert SEALS.csrf_fits(session, SEALS.csrf(session))


def test_a_token_is_one_sessions() -> None:
    one, other = SEALS.open("a1"), SEALS.open("a1")
    assert not SEALS.csrf_fits(other, SEALS.csrf(one))
    assert not SEALS.csrf_fits(one, "é")


def test_a_session_ends_with_its_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = SEALS.cookie(SEALS.open("a1"))
    issued = SEALS.read(cookie)
    assert issued is not None
    monkeypatch.setattr(seals.time, "time", lambda: issued.issued + 3599.0)
    assert SEALS.read(cookie) == issued
    monkeypatch.setattr(seals.time, "time", lambda: issued.issued + 3600.0)
    assert SEALS.read(cookie) is None


def test_the_key_is_drawn_once_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.key"
    key = study_key(path)
    assert (len(key), study_key(path)) == (32, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert study_key(tmp_path / "other.key") != key
    with pytest.raises(ValueError, match="it takes 32"):
        Seals(key[:31], 1)


def test_a_password_is_kept_as_scrypt_with_a_salt_of_its_own() -> None:
    kept = [passwords.hashed("correct horse") for _ in range(2)]
    assert kept[0] != kept[1]
    assert all(one.startswith("scrypt$32768$8$1$") for one in kept)
    assert passwords.fits("correct horse", kept[0])
    assert not passwords.fits("correct horsf", kept[0])
    assert not passwords.fits("correct horse", None)

"""Coming in: links, passwords, platforms; what is kept of them, and how often somebody may try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Place, pairs
from starlette.testclient import TestClient

from align.annotate import passwords
from align.annotate.entrance import ACCOUNT_FAILURES, ADDRESS_FAILURES, WINDOW, Doors
from align.annotate.settings import AnnotateSettings
from align.annotate.study import Study
from align.annotate.throttle import Throttle
from align.errors import Refused

ORIGIN = "http://127.0.0.1:8400"
PASSWORD = "a long enough secret"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A study that Prolific sends people to; passwords cost next to nothing here."""
    monkeypatch.setitem(passwords.SCRYPT, "n", 16)
    study = Study(AnnotateSettings(recruits="prolific", completion_code="C0DE-77"))
    found = Place(tmp_path, study, port=8400)
    found.open(pairs(2))
    yield found
    found.desk.close()


def visitor(place: Place) -> TestClient:
    return TestClient(place.app(), base_url=ORIGIN, follow_redirects=False)


def form(client: TestClient, path: str, **fields: str) -> TestClient:
    """Fills in the form that a page shows, as a browser does."""
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return client.post(path, data={"csrf": found[1], **fields}, headers={"Origin": ORIGIN})  # type: ignore[return-value]


def log_in(place: Place, name: str, password: str) -> int:
    return form(visitor(place), "/login", name=name, password=password).status_code  # type: ignore[attr-defined]


def give_password(place: Place, name: str = "anna") -> TestClient:
    client = visitor(place)
    client.get(place.link(name))
    sent = form(client, "/account", password=PASSWORD, again=PASSWORD)
    assert sent.status_code == 303  # type: ignore[attr-defined]
    return client


def test_a_link_lets_in_again_and_again(place: Place) -> None:
    link = place.link()
    for _ in range(2):
        client = visitor(place)
        cookie = client.get(link).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert client.get("/").status_code == 200


def test_each_link_is_one_person(place: Place) -> None:
    anna, again, bertha = place.link("anna"), place.link("anna"), place.link("bertha")
    assert len({anna, again, bertha}) == 3
    found = [place.accounts.enter(link.rsplit("/", 1)[1]) for link in (anna, again, bertha)]
    names = [account.annotator for account in found if account is not None]
    assert names[0] == names[1] != names[2]


def test_no_token_password_or_foreign_id_is_at_rest(place: Place) -> None:
    """The files hold hashes only: a copy of the folder lets nobody in."""
    link = place.link()
    give_password(place)
    study = place.accounts.study_link()
    ids = {"PROLIFIC_PID": "5f1a7c0e9b", "STUDY_ID": "study-31337", "SESSION_ID": "session-31337"}
    assert place.accounts.join(study, "prolific", ids) is not None
    place.desk.close()
    kept = b"".join(path.read_bytes() for path in place.folder.iterdir())
    for secret in (link.rsplit("/", 1)[1], study, PASSWORD, *ids.values()):
        assert secret.encode() not in kept
    assert passwords.token_hash(study).encode() in kept, "the reader sees what is there"


def test_a_password_lets_in_and_a_wrong_one_does_not(place: Place) -> None:
    give_password(place)
    assert log_in(place, "anna", PASSWORD) == 303
    assert log_in(place, "anna", PASSWORD + "x") == 403
    assert log_in(place, "nobody", PASSWORD) == 403


def test_there_is_no_default_password(place: Place) -> None:
    place.link("root", "admin")
    for guess in ("", "admin", "password", "root"):
        assert log_in(place, "root", guess or " ") == 403


def test_a_new_password_ends_other_sessions(place: Place) -> None:
    elsewhere = visitor(place)
    elsewhere.get(place.link())
    assert elsewhere.get("/").status_code == 200
    here = give_password(place)
    assert here.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 303


def test_to_change_a_password_one_has_to_know_it(place: Place) -> None:
    client = give_password(place)
    other = "another long secret"
    assert form(client, "/account", password=other, again=other).status_code == 403  # type: ignore[attr-defined]
    sent = form(client, "/account", password=other, again=other, current=PASSWORD)
    assert sent.status_code == 303  # type: ignore[attr-defined]
    assert log_in(place, "anna", other) == 303
    assert log_in(place, "anna", PASSWORD) == 403


@pytest.mark.parametrize(
    ("password", "again"),
    [
        ("short", "short"),
        ("aaaaaaaaaaaa", "aaaaaaaaaaaa"),
        ("anna-anna-anna", "anna-anna-anna"),
        (PASSWORD, PASSWORD + "x"),
    ],
)
def test_a_bad_password_is_not_taken(place: Place, password: str, again: str) -> None:
    client = visitor(place)
    client.get(place.link("anna"))
    assert form(client, "/account", password=password, again=again).status_code == 422  # type: ignore[attr-defined]


def test_logging_out_forgets_the_browser(place: Place) -> None:
    client = visitor(place)
    client.get(place.link())
    csrf = client.get("/api/task").json()["csrf"]
    client.post("/logout", data={"csrf": csrf}, headers={"Origin": ORIGIN})
    assert client.get("/").status_code == 303


def test_a_closed_account_is_out_at_once(place: Place) -> None:
    link = place.link()
    client = visitor(place)
    client.get(link)
    assert client.get("/").status_code == 200
    place.accounts.close(place.accounts.everybody()[0].id)
    assert client.get("/").status_code == 303
    assert visitor(place).get(link).status_code == 403
    with pytest.raises(Refused, match="was closed"):
        place.link()


def test_an_account_that_is_tried_too_often_waits(place: Place) -> None:
    """Even with the right password; the personal link goes on working."""
    give_password(place)
    for _ in range(ACCOUNT_FAILURES):
        assert log_in(place, "anna", "wrong password") == 403
    client = visitor(place)
    refused = form(client, "/login", name="anna", password=PASSWORD)
    assert refused.status_code == 429  # type: ignore[attr-defined]
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW  # type: ignore[attr-defined]
    assert client.get(place.link()).status_code == 303


def test_an_address_that_tries_too_often_waits(place: Place) -> None:
    """Whatever it tries: names, personal links, a study's link."""
    tries = ["/in/x", "/join/x?PROLIFIC_PID=a&STUDY_ID=b&SESSION_ID=c"] * (ADDRESS_FAILURES // 2)
    client = visitor(place)
    assert {client.get(path).status_code for path in tries} == {403}
    assert client.get("/in/x").status_code == 429
    assert log_in(place, "anna", PASSWORD) == 429


def test_the_throttle_forgets_with_time_and_success() -> None:
    now = 0.0
    throttle = Throttle(2, 60, clock=lambda: now)
    throttle.failed("a")
    now = 10
    throttle.failed("a")
    assert throttle.wait("a") == 50
    assert throttle.wait("b") == 0
    now = 60
    assert throttle.wait("a") == 0
    throttle.failed("a")
    assert throttle.wait("a") == 10, "the failure of 10 s still counts"
    throttle.succeeded("a")
    assert throttle.wait("a") == 0


def test_the_throttles_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.annotate.throttle.MOST_KEYS", 3)
    throttle = Throttle(1, 60)
    for key in "abcd":
        throttle.failed(key)
    assert [throttle.wait(key) > 0 for key in "abcd"] == [False, True, True, True]
    assert Doors().accounts.wait("anybody") == 0


def test_prolific_sends_somebody_and_pays_by_the_code(place: Place) -> None:
    path = f"/join/{place.accounts.study_link()}?PROLIFIC_PID=p1&STUDY_ID=s1&SESSION_ID=x1"
    client = visitor(place)
    assert client.get(path).headers["location"] == "/"
    for _ in range(2):
        found = client.get("/api/task").json()
        answer = {"assignment": found["next"]["item"]["id"], "key": "k", "choice": "tie"}
        headers = {"Origin": ORIGIN, "X-CSRF-Token": found["csrf"]}
        last = client.post("/api/answer", json=answer, headers=headers).json()["next"]
    assert (last["state"], last["code"]) == ("finished", "C0DE-77")
    again = visitor(place)
    again.get(path.replace("SESSION_ID=x1", "SESSION_ID=another"))
    assert again.get("/api/task").json()["next"]["done"] == 2, "the same person in another session"


def test_a_link_without_the_platforms_ids_is_refused(place: Place) -> None:
    link = f"/join/{place.accounts.study_link()}"
    for query in (
        "",
        "?PROLIFIC_PID=p",
        "?PROLIFIC_PID=&STUDY_ID=s&SESSION_ID=x",
        f"?PROLIFIC_PID={'p' * 201}&STUDY_ID=s&SESSION_ID=x",
    ):
        assert visitor(place).get(link + query).status_code == 400
    assert place.accounts.everybody() == []


def test_mturk_sends_somebody_once_the_task_is_accepted(tmp_path: Path) -> None:
    place = Place(tmp_path, Study(AnnotateSettings(recruits="mturk")), port=8400)
    place.open(pairs(1))
    link = f"/join/{place.accounts.study_link()}?workerId=w&hitId=h&assignmentId="
    preview = visitor(place).get(link + "ASSIGNMENT_ID_NOT_AVAILABLE")
    assert (preview.status_code, place.accounts.everybody()) == (200, [])
    assert visitor(place).get(link + "a1").headers["location"] == "/"
    place.desk.close()


def test_a_pseudonym_hangs_on_the_studys_key(place: Place) -> None:
    from align.annotate.seals import Seals

    other = Seals(bytes(32), 1)
    assert place.seals.pseudonym("prolific", "p") == place.seals.pseudonym("prolific", "p")
    assert place.seals.pseudonym("prolific", "p") != other.pseudonym("prolific", "p")
    assert place.seals.pseudonym("prolific", "p") != place.seals.pseudonym("mturk", "p")

"""The door: each attack is refused, with its status, and every response carries the headers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Place, pairs
from starlette.testclient import TestClient

from align.annotate.guard import HEADERS, MAX_BODY
from align.annotate.settings import AnnotateSettings
from align.annotate.study import Study

ORIGIN = "http://127.0.0.1:8400"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("study"), port=8400)
    found.open(pairs(3))
    yield found
    found.desk.close()


def visitor(place: Place) -> TestClient:
    """Somebody who has yet to come in; an error on the server is an answer, as it is behind a socket."""
    return TestClient(place.app(), base_url=ORIGIN, follow_redirects=False, raise_server_exceptions=False)


def annotator(place: Place) -> TestClient:
    """Somebody who has come in by a personal link."""
    client = visitor(place)
    assert client.get(place.link()).headers["location"] == "/"
    return client


@pytest.fixture(scope="module")
def browser(place: Place) -> TestClient:
    return annotator(place)


def token(client: TestClient) -> str:
    found: str = client.get("/api/task").json()["csrf"]
    return found


def answer(client: TestClient, choice: str = "left", **more: object) -> dict[str, object]:
    item = client.get("/api/task").json()["next"]["item"]["id"]
    return {"assignment": item, "key": "k1", "choice": choice, **more}


def test_a_whole_answer_goes_through(tmp_path: Path) -> None:
    """What all the refusals below differ from in one point."""
    place = Place(tmp_path, port=8400)
    place.open(pairs(1))
    browser = annotator(place)
    sent = browser.post(
        "/api/answer", json=answer(browser), headers={"Origin": ORIGIN, "X-CSRF-Token": token(browser)}
    )
    assert (sent.status_code, sent.json()["saved"]["revision"]) == (200, 1)
    assert place.said() == [("left", "", "")]
    place.desk.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1:8400"}, 403),
        ({"Origin": "http://127.0.0.1:8401"}, 403),
        ({"Origin": None}, 403),
        ({"X-CSRF-Token": None}, 403),
        ({"X-CSRF-Token": ""}, 403),
        ({"X-CSRF-Token": "x" * 43}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": ""}, 421),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Length": "70000"}, 413),
        ({"Content-Length": "-1"}, 400),
        ({"Cookie": "align_session=nobody.1.1.x.y"}, 403),
    ],
)
def test_a_forged_change_is_refused(
    place: Place, browser: TestClient, headers: dict[str, str | None], status: int
) -> None:
    sound = {"Origin": ORIGIN, "X-CSRF-Token": token(browser), "Content-Type": "application/json"}
    sent = {name: value for name, value in {**sound, **headers}.items() if value is not None}
    refused = browser.post("/api/answer", json=answer(browser), headers=sent)
    assert refused.status_code == status
    assert refused.headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert place.said() == []


def test_another_sessions_token_is_refused(place: Place, browser: TestClient) -> None:
    other = visitor(place)
    other.get(place.link("bertha"))
    sent = browser.post(
        "/api/answer", json=answer(browser), headers={"Origin": ORIGIN, "X-CSRF-Token": token(other)}
    )
    assert sent.status_code == 403


def test_a_body_is_cut_off_though_no_length_was_announced(place: Place, browser: TestClient) -> None:
    """Sent in chunks; the guard stops at the first that goes over the limit and reads no further."""
    given = 0

    async def receive() -> dict[str, object]:
        nonlocal given
        given += 4096
        assert given < 4 * MAX_BODY, "the server goes on reading"
        return {"type": "http.request", "body": b" " * 4096, "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = {
        "host": "127.0.0.1:8400",
        "origin": ORIGIN,
        "x-csrf-token": token(browser),
        "content-type": "application/json",
        "transfer-encoding": "chunked",
        "cookie": f"align_session={browser.cookies['align_session']}",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/answer",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(place.app()(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    assert given == MAX_BODY + 4096


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"])
def test_other_methods_are_not_served(browser: TestClient, method: str) -> None:
    """Whatever the path: what is not POST is not asked for its origin."""
    assert browser.request(method, "/nothing").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 303),
        ("GET", "/account", 303),
        ("GET", "/admin", 303),
        ("GET", "/admin/anything", 303),
        ("GET", "/openapi.json", 303),
        ("GET", "/docs", 303),
        ("GET", "/api/task", 401),
        ("GET", "/login", 200),
        ("GET", "/health", 200),
        ("GET", "/static/app.css", 200),
        ("GET", "/static/..%2Fapp.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/in/nobody", 403),
        ("GET", "/join/nobody", 404),
    ],
)
def test_what_a_stranger_sees(place: Place, method: str, path: str, status: int) -> None:
    found = visitor(place).request(method, path)
    assert found.status_code == status
    for name, value in HEADERS.items():
        assert found.headers[name] == value
    assert found.headers["cache-control"] == (
        "public, max-age=31536000, immutable" if path == "/static/app.css" else "no-store"
    )
    assert found.headers.get("location", "/login") == "/login"


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/nothing", "/admins", "/api/nothing"])
def test_what_is_not_there_is_404_with_the_headers(browser: TestClient, path: str) -> None:
    found = browser.get(path)
    assert found.status_code == 404
    assert {name: found.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/export", "/admin/import"])
def test_an_annotator_is_no_admin(browser: TestClient, path: str) -> None:
    assert browser.get(path).status_code == 403
    headers = {"Origin": ORIGIN, "X-CSRF-Token": token(browser), "Content-Type": "application/json"}
    assert browser.post(path, content=b"{}", headers=headers).status_code == 403


def test_an_admin_does_not_annotate(place: Place) -> None:
    admin = visitor(place)
    assert admin.get(place.link("root", "admin")).headers["location"] == "/admin"
    assert admin.get("/api/task").status_code == 403
    assert admin.get("/").headers["location"] == "/admin"


def test_an_error_inside_tells_nothing_and_carries_the_headers(
    place: Place, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_name: str) -> None:
        raise RuntimeError("the inside of the server")

    monkeypatch.setattr(place.desk, "serve", broken)
    found = browser.get("/")
    assert found.status_code == 500
    assert "inside" not in found.text
    assert {name: found.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["/", "/api/task", "/login", "/account", "/nothing"])
def test_nothing_is_written_inline_or_asked_of_another_host(browser: TestClient, path: str) -> None:
    """The policy would refuse it: no inline script, style or handler, no address with a host."""
    text = browser.get(path).text
    for forbidden in ("<style", "style=", "onclick", "onload", "javascript:", "http://", "https://", "//cdn"):
        assert forbidden not in text.lower()
    assert text.lower().count("<script") == text.lower().count('<script src="/static/')


def test_the_policy_is_strict() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_behind_https_the_cookie_stays_there(tmp_path: Path) -> None:
    settings = AnnotateSettings(host="0.0.0.0", public_url="https://study.example.org")
    place = Place(tmp_path, Study(settings), port=8400)
    place.open(pairs(1))
    client = TestClient(place.app(), base_url="https://study.example.org", follow_redirects=False)
    found = client.get(place.link())
    place.desk.close()
    assert found.headers["strict-transport-security"].startswith("max-age=")
    cookie = found.headers["set-cookie"]
    assert cookie.startswith("__Host-align_session=")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie

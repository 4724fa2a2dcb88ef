"""The admin's pages through the whole app: who may see them, what they change, what they never let out."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from served import Place, pairs
from starlette.testclient import TestClient

from align.annotate import admin, exports
from align.annotate.answers import LOOKED_AT
from align.annotate.items import CHUNK
from align.annotate.settings import AllocationSettings
from align.annotate.types import Answer, Finished, Paused, Task
from align.pairs.exports import FORMATS
from align.pairs.records import read_records, to_line
from align.types import PreferenceRecord

XSS = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'"
GETS = ["/admin", "/admin/people", "/admin/data", "/admin/figures/left.svg", "/admin/export/records.jsonl"]
GETS += ["/admin/items/PAIR", "/admin/export/converted.zip?format=unpaired"]
POSTS = ["invite", "study-link", "pause", "resume", "close", "import"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Six pairs, three votes each wanted."""
    found = Place(tmp_path, allocation=AllocationSettings(overlap=3), port=8400)
    found.open(pairs(6))
    yield found
    found.desk.close()


def enter(place: Place, name: str = "boss", role: str = "admin") -> Any:
    """A browser that has come in by a personal link."""
    origin = place.origins()[0]
    client = TestClient(place.app(), base_url=origin, headers={"origin": origin})
    answer = client.get(place.link(name, role).removeprefix(origin), follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return client


def csrf(client: Any) -> str:
    """The token that the forms of the page carry."""
    text: str = client.get("/admin/people").text
    return text.split('name="csrf" value="')[1].split('"')[0]


def post(client: Any, path: str, **fields: str) -> Any:
    """A form sent as the browser sends it."""
    return client.post(f"/admin/{path}", data={"csrf": csrf(client), **fields})


def upload(client: Any, body: bytes, kind: str = "ordinary") -> Any:
    files = {"file": ("items.jsonl", body, "application/jsonl")}
    return client.post(f"/admin/import?csrf={csrf(client)}", files=files, data={"kind": kind})


def annotate(place: Place, name: str, choice: str = "left", **more: Any) -> str:
    """Answers everything that there is for a new annotator; returns the pseudonym."""
    place.accounts.invite("annotator", name)
    pseudonym = next(one.annotator for one in place.accounts.everybody() if one.name == name)
    assert pseudonym is not None
    count = 0
    while isinstance(task := place.desk.serve(pseudonym), Task):
        answer: dict[str, Any] = {"choice": choice, "seconds": 4.0 + count, **more}
        place.desk.submit(pseudonym, Answer(task.assignment, f"{count}", **answer))
        count += 1
    return pseudonym


def test_every_route_is_tried() -> None:
    """The lists above hold all there is, so that a new route cannot be forgotten by the tests of access."""
    routes = {(method, route.path) for route in admin.router.routes for method in route.methods}  # type: ignore[attr-defined]
    known = {("GET", path) for path in ["/admin", "/admin/people", "/admin/data"]}
    known |= {("GET", "/admin/figures/{name}.svg"), ("GET", "/admin/export/{name}")}
    known |= {("GET", "/admin/items/{pair_id}"), ("GET", "/admin/export/converted.zip")}
    assert routes == known | {("POST", f"/admin/{name}") for name in POSTS}


@pytest.mark.parametrize("path", GETS)
def test_only_admins_see_the_pages(place: Place, path: str) -> None:
    annotate(place, "anna")
    path = path.replace("PAIR", next(place.desk.answers()).pair_id)
    assert enter(place, "anna", "annotator").get(path).status_code == 403
    stranger = TestClient(place.app(), base_url=place.origins()[0])
    assert stranger.get(path, follow_redirects=False).headers["location"] == "/login"
    assert enter(place).get(path).status_code == 200


@pytest.mark.parametrize("name", POSTS)
def test_nothing_changes_without_role_token_and_origin(place: Place, name: str) -> None:
    place.accounts.invite("annotator", "anna")
    place.accounts.invite("admin", "boss")
    boss, path = enter(place), f"/admin/{name}"
    before = (place.desk.version(), len(place.accounts.everybody()))
    token = csrf(boss)
    fields = {"annotator": "", "reason": "r", "name": "n", "role": "admin", "account": "a"}
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert boss.post(path, data=fields).status_code == 403
    assert boss.post(path, data={**fields, "csrf": "0" * len(token)}).status_code == 403
    foreign = boss.post(
        f"{path}?csrf={token}", data={**fields, "csrf": token}, headers={"origin": "http://evil"}
    )
    assert foreign.status_code == 403
    assert boss.post(path, content=b"", headers=kind).status_code == 403
    anna = enter(place, "anna", "annotator")
    own = anna.get("/api/task").json()["csrf"]
    assert anna.post(f"{path}?csrf={own}", data={**fields, "csrf": own}).status_code == 403
    assert (place.desk.version(), len(place.accounts.everybody())) == before


def test_texts_stay_texts(place: Place) -> None:
    """Names, flags, reasons and pauses are somebody else's words, in the pages and in the figures."""
    name = f"Eve {XSS}"[:90]
    eve = annotate(place, name, flag=XSS, reason=XSS)
    place.desk.enrol(f"raw {XSS}")
    place.desk.pause(XSS, eve)
    place.desk.pause(XSS)
    boss = enter(place)
    item = f"/admin/items/{next(place.desk.answers()).pair_id}"
    for path in ["/admin", "/admin/people", "/admin/data", item]:
        text = boss.get(path).text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "&lt;script&gt;alert(&#39;x&#39;)" in text
    refused = upload(boss, f'{{"{XSS[:8]}": 1}}'.encode())
    assert refused.status_code == 400
    assert "<script" not in refused.text
    invited = post(boss, "invite", name=f"B {XSS}"[:90], role="annotator").text
    assert "<script>alert" not in invited


def test_names_in_figures_are_escaped(place: Place) -> None:
    """The desk takes any pseudonym: a figure made of it is still one well-formed SVG."""
    for who in (f"{XSS}1", f"{XSS}2"):
        place.desk.enrol(who)
        while isinstance(task := place.desk.serve(who), Task):
            place.desk.submit(who, Answer(task.assignment, "k", "left", seconds=3.0))
    boss = enter(place)
    for name in admin.FIGURES:
        answer = boss.get(f"/admin/figures/{name}.svg")
        assert answer.headers["content-type"] == "image/svg+xml"
        tree = ElementTree.fromstring(answer.text)
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags <= {"svg", "g", "title", "text", "line", "circle", "rect", "polyline"}, name
    assert XSS in "".join(ElementTree.fromstring(boss.get("/admin/figures/matrix.svg").text).itertext())


def test_pages_before_the_first_answer(place: Place) -> None:
    boss = enter(place)
    overview = boss.get("/admin").text
    assert "no unit has two of them" in overview
    assert "<svg" not in overview
    assert boss.get("/admin/figures/time.svg").status_code == 404
    assert boss.get("/admin/figures/nothing.svg").status_code == 404
    assert "Nobody has come in yet" in boss.get("/admin/people").text
    assert "Nobody has flagged" in boss.get("/admin/data").text


def test_the_overview_shows_what_was_computed(place: Place) -> None:
    """Three annotators who all take the left side: agreement as the drawn sides have it."""
    for name in ("anna", "ben", "cleo"):
        annotate(place, name)
    boss = enter(place)
    text = boss.get("/admin").text
    assert "<b>18</b> of 18 votes" in text
    assert "<b>6</b> of 6 items complete" in text
    numbers = json.loads(boss.get("/admin/export/statistics.json").text)
    results = {one["metric"]: one for one in numbers["results"]}
    assert (results["left_choice_rate"]["value"], results["left_choice_rate"]["n"]) == (1, 18)
    assert f"{results['percent_agreement']['value']:.3f}" in text
    assert numbers["seconds"]["median"] == 6.5  # 4 to 9 s each
    assert text.count("<svg") == len(admin.FIGURES)


def test_pause_and_resume(place: Place) -> None:
    place.accounts.invite("annotator", "anna")
    anna = next(one.annotator for one in place.accounts.everybody() if one.name == "anna") or ""
    boss = enter(place)
    page = post(boss, "pause", annotator=anna)
    assert page.url.path == "/admin/people"
    assert "Resume</button>" in page.text
    assert place.desk.serve(anna) == Paused(LOOKED_AT)
    assert place.desk.annotators()[0].paused == LOOKED_AT
    post(boss, "resume", annotator=anna)
    assert isinstance(place.desk.serve(anna), Task)
    assert "Lunch" in post(boss, "pause", reason="Lunch").text
    assert place.desk.status().paused == "Lunch"
    assert "paused: Lunch" in boss.get("/admin").text
    post(boss, "resume")
    assert place.desk.status().paused is None
    assert post(boss, "pause", annotator="nobody of that name").status_code == 403


def test_an_invitation_is_shown_once_and_works(place: Place) -> None:
    boss = enter(place)
    text = post(boss, "invite", name="Nina", role="annotator").text
    link = text.split('type="text" value="')[1].split('"')[0]
    token = link.rpartition("/")[2]
    assert link.startswith(f"{place.origins()[0]}/in/")
    assert token not in boss.get("/admin/people").text
    assert token.encode() not in b"".join(
        path.read_bytes() for path in place.folder.iterdir() if path.is_file()
    )
    nina = TestClient(place.app(), base_url=place.origins()[0])
    assert nina.get(f"/in/{token}", follow_redirects=False).headers["location"] == "/"
    assert nina.get("/").status_code == 200
    assert post(boss, "invite", name="Nina", role="admin").status_code == 400  # she annotates
    assert post(boss, "invite", name="x", role="owner").status_code == 422
    assert "/join/" in post(boss, "study-link").text


def test_a_closed_account_is_out(place: Place) -> None:
    boss, second = enter(place), enter(place, "second")
    ids = {one.name: one.id for one in place.accounts.everybody()}
    assert second.get("/admin").status_code == 200
    post(boss, "close", account=ids["second"])
    assert second.get("/admin", follow_redirects=False).headers["location"] == "/login"
    own = post(boss, "close", account=ids["boss"])
    assert (own.status_code, "your own account" in own.text) == (400, True)
    assert boss.get("/admin").status_code == 200
    assert post(boss, "close", account="none").status_code == 400


def _lines(records: list[PreferenceRecord]) -> bytes:
    return b"".join(map(to_line, records))


def test_import_adds_items(place: Place) -> None:
    """Two new pairs and one that is there already; then gold, then candidates without a judgement."""
    boss = enter(place)
    text = upload(boss, _lines([*pairs(2, " new"), *pairs(1)])).text
    assert "2 items added. 1 left out: duplicate." in text
    assert place.desk.status().items["ordinary"] == 8
    assert "3 items added" in upload(boss, _lines(pairs(3, " gold")), "gold").text
    assert place.desk.status().items["gold"] == 3
    values = json.loads(to_line(pairs(1, " blank")[0]))
    blank = (json.dumps({**values, "preferred": None, "judge": None}) + "\n").encode()
    refused = upload(boss, blank, "gold")
    assert (refused.status_code, "right answer" in refused.text) == (400, True)
    assert "1 items added" in upload(boss, blank).text
    assert place.desk.status().items["ordinary"] == 9


def test_a_bad_line_refuses_the_whole_file(place: Place) -> None:
    boss = enter(place)
    for bad in (b'{"version": 2}\n', b"no json\n", b'{"version": 1}\n', b"\xff\xfe\n"):
        answer = upload(boss, _lines(pairs(1, " new")) + bad)
        assert answer.status_code == 400, bad
        assert "line 2 is no record" in answer.text
        assert "nothing was added" in answer.text
    # more than the desk takes in one transaction, and the last line is bad
    assert upload(boss, _lines(pairs(CHUNK + 1, " more")) + b"{}\n").status_code == 400
    assert place.desk.status().items["ordinary"] == 6
    assert upload(boss, b"", "wrong").status_code == 422


def test_exports_are_what_the_desk_says(place: Place, tmp_path: Path) -> None:
    """Byte for byte; and the zip unpacks into a folder that is read as records."""
    annotate(place, "anna", flag="odd", reason="because")
    boss = enter(place)
    expected = _lines(list(place.desk.export()))
    lines = boss.get("/admin/export/records.jsonl")
    assert lines.content == expected
    assert lines.headers["content-disposition"] == 'attachment; filename="records.jsonl"'
    with zipfile.ZipFile(io.BytesIO(boss.get("/admin/export/records.zip").content)) as packed:
        packed.extractall(tmp_path / "out")
    assert _lines(list(read_records(tmp_path / "out" / "records"))) == expected
    assert boss.get("/admin/export/records-with-checks.jsonl").content == _lines(
        list(place.desk.export(True))
    )
    assert boss.get("/admin/export/passwords").status_code == 404
    shown = boss.get("/admin/data").text
    assert all(f"/admin/export/{name}" in shown for name in exports.OWN)
    assert "odd" in shown
    assert "because" in shown


def test_an_export_comes_back_in(place: Place, tmp_path: Path) -> None:
    """What people chose in one study can be the gold of the next."""
    annotate(place, "anna")
    body = enter(place).get("/admin/export/records.jsonl").content
    other = Place(tmp_path / "other", port=8400)
    other.open()
    assert "6 items added" in upload(enter(other), body, "gold").text
    other.desk.close()


def test_who_is_done_is_done(place: Place) -> None:
    """Reading statistics changes nothing for annotators."""
    anna = annotate(place, "anna")
    enter(place).get("/admin")
    assert isinstance(place.desk.serve(anna), Finished)


def test_what_others_train_on(place: Place) -> None:
    """Each of 18 votes for a side makes two rows; three votes of two sides have a majority: six pairs."""
    for name in ("anna", "ben", "cleo"):
        annotate(place, name)
    boss = enter(place)
    for votes, rows in {"each": 36, "majority": 12}.items():
        answer = boss.get(f"/admin/export/converted.zip?format=unpaired&votes={votes}")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            lost = json.loads(packed.read("unpaired/lost.json"))["lost"]
            assert len(packed.read("unpaired/unpaired.jsonl").splitlines()) == rows
        assert "judge" in lost
    assert boss.get("/admin/export/converted.zip?format=word").status_code == 404
    assert boss.get("/admin/export/converted.zip?format=hh&votes=some").status_code == 422


def test_every_format_is_offered_and_comes(place: Place) -> None:
    annotate(place, "anna")
    boss = enter(place)
    shown = boss.get("/admin/data").text
    for name in FORMATS:
        assert f"<option>{name}</option>" in shown
        answer = boss.get(f"/admin/export/converted.zip?format={name}")
        # the prompts have a system turn, which a text prompt and a transcript cannot hold
        assert answer.status_code == (400 if name in ("trl_standard", "hh") else 200), name


def test_an_item_is_shown_with_all_that_was_said(place: Place) -> None:
    annotate(place, "anna", flag="odd", reason="because")
    boss = enter(place)
    vote = next(place.desk.answers())
    assert f'/admin/items/{vote.pair_id}"' in boss.get("/admin/data").text
    text = boss.get(f"/admin/items/{vote.pair_id}").text
    for expected in ("Question", "first of", "second of", "secret-model-one", "anna", "odd", "because"):
        assert expected in text
    assert boss.get("/admin/items/none").status_code == 404

"""What the page's script sends and gets: answers held against the question, undo, blindness, escaping."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from served import Place, pairs
from starlette.testclient import TestClient

from align.annotate.settings import AllocationSettings, AnnotateSettings, QuestionSettings
from align.annotate.study import Study, read_guidelines
from align.annotate.wire import read_answer
from align.errors import ConfigError, Refused
from align.types import Judge, Message, PreferenceRecord, Reply

ORIGIN = "http://127.0.0.1:8400"
XSS = """</div></script><script>alert(1)</script><img src=x onerror=alert(1)>"'&{{7*7}}"""


class Annotator:
    """A browser's requests without a browser."""

    def __init__(self, place: Place, name: str = "anna") -> None:
        self.client = TestClient(place.app(), base_url=ORIGIN, raise_server_exceptions=False)
        self.responses = [self.client.get(place.link(name))]

    def get(self, path: str) -> Any:
        self.responses.append(self.client.get(path))
        return self.responses[-1]

    def post(self, path: str, body: object) -> Any:
        headers = {"Origin": ORIGIN, "X-CSRF-Token": self.get("/api/task").json()["csrf"]}
        self.responses.append(self.client.post(path, json=body, headers=headers))
        return self.responses[-1]

    def item(self) -> Any:
        return self.get("/api/task").json()["next"].get("item")

    def answer(self, choice: str = "left", key: str = "k", **more: object) -> Any:
        return self.post(
            "/api/answer", {"assignment": self.item()["id"], "key": key, "choice": choice, **more}
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path, port=8400)
    found.open(pairs(3))
    yield found
    found.desk.close()


def test_an_answer_brings_the_next_item(place: Place) -> None:
    anna = Annotator(place)
    first = anna.item()
    reply = anna.answer("left", reason="clearer", flag="harmful", seconds=3.5).json()
    assert reply["saved"] == {"item": first["id"], "revision": 1}
    assert reply["next"]["item"]["id"] != first["id"]
    assert (reply["next"]["done"], reply["next"]["total"], reply["next"]["can_undo"]) == (1, 3, True)
    assert place.said() == [("left", "clearer", "harmful")]


def test_the_same_answer_twice_is_one(place: Place) -> None:
    """A retry after a lost response: the same key, the same receipt, nothing added."""
    anna = Annotator(place)
    body = {"assignment": anna.item()["id"], "key": "k", "choice": "right"}
    replies = [anna.post("/api/answer", body).json() for _ in range(3)]
    assert {json.dumps(reply["saved"]) for reply in replies} == {json.dumps(replies[0]["saved"])}
    assert len({reply["next"]["item"]["id"] for reply in replies}) == 1
    assert place.said() == [("right", "", "")]


def test_a_repeated_undo_takes_one_answer_back(place: Place) -> None:
    """The second one comes from a page that shows an item which is no longer the one before us."""
    anna = Annotator(place)
    first = anna.item()
    anna.answer("left", "k1")
    second = anna.item()
    anna.answer("right", "k2")
    body = {"item": anna.item()["id"]}
    replies = [anna.post("/api/undo", body).json()["next"]["item"] for _ in range(2)]
    assert replies == [second | {"number": second["number"]}] * 2
    assert [choice for choice, _, _ in place.said()] == ["left", "right", "undone"]
    assert anna.post("/api/undo", {"item": second["id"]}).json()["next"]["item"] == first


def test_the_last_answer_can_be_taken_back_at_the_end(place: Place) -> None:
    anna = Annotator(place)
    for number in range(3):
        last = anna.item()
        end = anna.answer("tie", f"k{number}").json()["next"]
    assert end["state"] == "finished"
    assert anna.post("/api/undo", {"item": None}).json()["next"]["item"] == last


def test_a_pause_is_said(place: Place) -> None:
    place.desk.pause("We look at the guidelines again.")
    found = Annotator(place).get("/api/task").json()["next"]
    assert (found["state"], found["reason"]) == ("paused", "We look at the guidelines again.")


def test_somebody_elses_item_is_refused(place: Place) -> None:
    anna, bertha = Annotator(place), Annotator(place, "bertha")
    stolen = {"assignment": anna.item()["id"], "key": "k", "choice": "left"}
    assert bertha.post("/api/answer", stolen).status_code == 409
    assert bertha.post("/api/undo", {"item": bertha.item()["id"]}).status_code == 409, "nothing to take back"
    assert place.said() == []


def sound(**changes: object) -> bytes:
    return json.dumps({"assignment": "a", "key": "k", "choice": "left", **changes}).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"[" * 50_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff", "no JSON"),
        (sound(choice="both"), "choice"),
        (sound(choice=None), "choice"),
        (sound(choise="left"), "Did you mean 'choice'"),
        (sound(key=""), "key"),
        (sound(key="a b"), "key"),
        (sound(key="a" * 65), "key"),
        (sound(key=7), "key"),
        (sound(assignment=None), "assignment"),
        (sound(strength=1), "strength is not asked"),
        (sound(strength=True), "strength"),
        (sound(criteria={"helpful": "left"}), "not asked"),
        (sound(criteria=["left"]), "criteria"),
        (sound(seconds=-1), "seconds"),
        (sound(reason="x" * 4001), "4000"),
        (sound(reason="\ud800"), "half a character"),
        (sound(flag={}), "flag"),
        (sound(seconds=float("nan")), "seconds"),
    ],
)
def test_what_is_no_answer_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(Refused, match=re.escape(words)) as caught:
        read_answer(body, QuestionSettings())
    assert caught.value.reason == "bad_answer"


def test_only_what_is_offered_can_be_chosen() -> None:
    bare = QuestionSettings(tie=False, both_bad=False, skip=False, reason=False)
    assert read_answer(sound(), bare).choice == "left"
    for choice in ("tie", "both_bad", "skip"):
        assert read_answer(sound(choice=choice), QuestionSettings()).choice == choice
        with pytest.raises(Refused, match="not offered"):
            read_answer(sound(choice=choice), bare)
    with pytest.raises(Refused, match="reason is not asked"):
        read_answer(sound(reason="x"), bare)


@pytest.mark.parametrize(("strength", "steps"), [(4, 2), (7, 3)])
def test_a_side_on_a_scale_has_a_step(strength: Any, steps: int) -> None:
    scale = QuestionSettings(strength=strength)
    for step in range(1, steps + 1):
        assert read_answer(sound(strength=step), scale).strength == step
    for step in (None, 0, steps + 1, -1):
        with pytest.raises(Refused, match="strength"):
            read_answer(sound(strength=step), scale)
    assert read_answer(sound(choice="tie"), scale).strength is None
    with pytest.raises(Refused, match="strength"):
        read_answer(sound(choice="tie", strength=1), scale)


def test_each_criterion_takes_an_answer_unless_skipped() -> None:
    asked = QuestionSettings(criteria=("helpful", "honest"))
    said = {"helpful": "left", "honest": "tie"}
    assert read_answer(sound(criteria=said), asked).criteria == said
    assert read_answer(sound(choice="skip"), asked).criteria == {}
    for criteria in ({}, {"helpful": "left"}, {**said, "kind": "left"}, {**said, "honest": "both"}):
        with pytest.raises(Refused):
            read_answer(sound(criteria=criteria), asked)


class Texts(HTMLParser):
    """Element names and attribute names of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.shown: Any = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}
        for name, value in attrs:
            if name == "data-shown":
                self.shown = json.loads(value or "")


def test_markup_in_every_field_stays_text(tmp_path: Path) -> None:
    record = PreferenceRecord(
        id="",
        prompt=(Message("system", XSS), Message("user", XSS)),
        replies=(Reply(XSS), Reply(XSS + "2")),
        preferred="first",
        judge=Judge("function", "x"),
    )
    question = QuestionSettings(criteria=(XSS[:50],))
    place = Place(tmp_path, Study(AnnotateSettings(completion_code=XSS), question, XSS), port=8400)
    place.open([record])
    anna = Annotator(place, XSS)
    for path in ("/", "/account", f"/in/{XSS}", f"/{XSS}", "/login"):
        page = Texts()
        page.feed(anna.get(path).text)
        assert not page.handlers
        assert "img" not in page.tags
        if path == "/":
            item = page.shown["item"]
            assert [turn["text"] for turn in item["prompt"]] == [XSS, XSS]
            assert {item["left"], item["right"]} == {XSS, XSS + "2"}
        assert html.escape("<img src=x") in anna.responses[-1].text or "<img" not in anna.responses[-1].text
    body = {"criteria": {XSS[:50]: "tie"}, "reason": XSS, "flag": XSS}
    assert anna.answer("left", **body).json()["next"]["code"] == XSS
    assert place.said() == [("left", XSS, XSS)]
    place.desk.close()


def test_no_byte_tells_the_models_the_sides_or_what_an_item_is_for(tmp_path: Path) -> None:
    """Every response of a whole session, headers and all: ordinary, gold, repeated and attention items."""
    allocation = AllocationSettings(
        gold="gold", gold_share=0.3, repeat_share=0.2, repeat_distance=1, attention_share=0.1
    )
    place = Place(tmp_path, Study(), allocation, port=8400)
    place.open(pairs(12))
    place.desk.add_items(pairs(12, mark=" (checked)"), "gold")
    anna = Annotator(place)
    anna.get("/")
    for number in range(15):
        if anna.item() is None:
            break
        anna.answer(("left", "tie", "skip")[number % 3], f"k{number}")
    anna.post("/api/undo", {"item": (anna.item() or {}).get("id")})
    for path in ("/static/annotate.js", "/static/app.css", "/account", "/nothing", "/admin"):
        anna.get(path)
    votes = list(place.desk.answers())
    canonical = {vote.pair_id for vote in votes} | {
        record.prompt_id for record in place.desk.export(checks=True)
    }
    kinds = {"repeat" if vote.repeat else vote.kind for vote in votes}
    assert kinds == {"ordinary", "gold", "attention", "repeat"}, "the session has met them all"
    sent = "\n".join(
        f"{response.headers!r}\n{response.text}"
        for entry in anna.responses
        for response in [*entry.history, entry]
    )
    for secret in ("secret-", "0.123", "first_left", '"kind"', "gold", "attention", "canonical", *canonical):
        assert secret not in sent, secret
    keys = {
        key
        for entry in anna.responses
        if "json" in entry.headers["content-type"]
        for key in keys_of(entry.json())
    }
    shown = {"prompt", "role", "text", "left", "right", "id", "number", "done", "total", "state", "can_undo"}
    assert keys == shown | {"next", "item", "csrf", "saved", "revision"}
    place.desk.close()


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for one in value.values() for key in keys_of(one)}
    return {key for one in value for key in keys_of(one)} if isinstance(value, list) else set()


def test_the_first_page_is_small(place: Place) -> None:
    """Everything that a browser asks for before it shows the first item: 50 KB at most, uncompressed."""
    anna = Annotator(place)
    page = anna.get("/").text
    assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(assets) == 3
    assert len(page.encode()) + sum(len(anna.get(path).content) for path in assets) < 50_000


def test_guidelines_are_a_version(tmp_path: Path) -> None:
    path = tmp_path / "guidelines.txt"
    path.write_text("Prefer what helps.\n")
    one = Study(guidelines=read_guidelines(str(path)))
    path.rename(tmp_path / "moved.txt")
    two = Study(guidelines=read_guidelines(str(tmp_path / "moved.txt")))
    assert one.guideline_version() == two.guideline_version() is not None
    assert Study(guidelines="Prefer what is true.").guideline_version() != one.guideline_version()
    assert Study().guideline_version() is None
    path.write_text(" \n")
    for bad in (path, tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigError, match=r"question\.guidelines"):
            read_guidelines(str(bad))

"""The annotators' page in a real browser (chromium, headless): keys, mouse, a phone, reloads, a lost line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from served import Place, pairs, serving

from align.annotate.settings import AnnotateSettings, QuestionSettings
from align.annotate.study import Study
from align.types import Judge, Message, PreferenceRecord, Reply

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PHONE = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM} (apt install chromium)"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """One annotator's browser on one study; whatever its console complains of fails the test."""

    def __init__(self, chromium: Any, place: Place, name: str = "anna", **options: Any) -> None:
        self.place = place
        self.context = chromium.new_context(**options)
        self.context.set_default_timeout(10_000)
        self.link = place.link(name)
        self.complaints: list[str] = []
        self.open()

    def open(self) -> None:
        """Comes in by the link, in a tab of its own."""
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        self.page.goto(self.link)

    def _heard(self, message: Any) -> None:
        # a line that is lost on purpose is no fault of the page
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def ready(self) -> None:
        """Waits until the item on the screen takes a choice."""
        self.page.wait_for_selector("#item:not([hidden], .new)")

    def title(self) -> str:
        return str(self.page.inner_text("#title"))

    def key(self, key: str) -> None:
        """A key that answers, and the next item."""
        self.ready()
        before = self.shown()
        self.page.keyboard.press(key)
        self.moved(before)

    def until(self, true: Callable[[], bool]) -> None:
        """Waits; the page's policy lets nobody evaluate text in it, so the waiting is done here."""
        end = time.monotonic() + 10
        while not true():
            assert time.monotonic() < end, self.page.inner_text("body")
            self.page.wait_for_timeout(15)

    def moved(self, before: str) -> None:
        """Waits until another item, or the end, is shown."""
        self.until(lambda: self.page.is_hidden("#item") or self.shown() != before)

    def says(self, place: str, words: str) -> None:
        """Waits until these words stand somewhere."""
        self.until(lambda: words in self.page.inner_text(place))

    def shown(self) -> str:
        script = "document.getElementById('talk').innerText + document.getElementById('left-text').innerText"
        return str(self.page.evaluate(script))

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.tagName"))

    def unsent(self) -> int:
        return int(self.page.evaluate("Object.keys(localStorage).filter((k) => k.includes('.out.')).length"))


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a study and a tab on it; at the end nothing may have been complained of."""
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def open_tab(count: int = 3, study: Study | None = None, **options: Any) -> Tab:
            records = options.pop("records", None) or pairs(count)
            place = stack.enter_context(serving(Place(tmp_path, study or Study()), records))
            tabs.append(Tab(chromium, place, **options))
            return tabs[-1]

        yield open_tab
        for tab in tabs:
            tab.context.close()
    assert [line for tab in tabs for line in tab.complaints] == []


def test_by_keyboard_alone(opened: Any) -> None:
    """Every choice once, an undo, a reason and a flag; the mouse is never touched."""
    tab = opened(6, Study(guidelines="Prefer what helps."))
    page = tab.page
    assert page.is_visible("#guidelines"), "whoever comes for the first time reads the guidelines"
    page.keyboard.press("Escape")
    assert tab.focused() == "title"
    for key in ("1", "2", "0", "b", "s"):
        tab.key(key)
        assert tab.focused() == "title", "a screen reader goes on at the next item"
        assert page.inner_text("#said") == "Saved"
    tab.key("u")
    assert page.inner_text("#said") == "Taken back: choose again"
    for key, dialog in (("?", "#help"), ("g", "#guidelines")):
        page.keyboard.press(key)
        assert page.is_visible(dialog)
        page.keyboard.press("1")
        page.keyboard.press("Escape")
        assert not page.is_visible(dialog)
    page.keyboard.press("r")
    page.keyboard.type("1 is clearer, 2 is not")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#flagged:not([hidden])")
    tab.key("2")
    tab.key("1")
    page.wait_for_selector("#end:not([hidden])")
    assert tab.place.said() == [
        ("left", "", ""), ("right", "", ""), ("tie", "", ""), ("both_bad", "", ""), ("skip", "", ""),
        ("undone", "", ""), ("right", "1 is clearer, 2 is not", "personal data"), ("left", "", ""),
    ]  # fmt: skip


def test_by_mouse(opened: Any) -> None:
    tab = opened(4)
    page = tab.page
    for choice in ("left", "tie", "both_bad"):
        tab.ready()
        before = tab.shown()
        page.click(f"[data-choice={choice}]")
        tab.moved(before)
    tab.ready()
    page.click("[data-open=flag]")
    page.check("input[value='broken text']")
    page.fill("#flag-note", "cut in the middle")
    page.click("text=Flag and go on judging")
    page.fill("#reason", "the other is cut")
    page.click("[data-choice=right]")
    page.wait_for_selector("#end:not([hidden])")
    assert [choice for choice, _, _ in tab.place.said()] == ["left", "tie", "both_bad", "right"]
    assert tab.place.said()[-1] == ("right", "the other is cut", "broken text: cut in the middle")
    page.click("#end-undo")
    tab.ready()
    assert page.input_value("#reason") == "the other is cut", "what was typed is there again"


def test_on_a_narrow_screen(opened: Any) -> None:
    """One reply below the other, nothing wider than the screen, the choices in reach of a thumb."""
    long = PreferenceRecord(
        id="",
        prompt=(Message("user", "word " * 60),),
        replies=(Reply("x" * 3000), Reply("line\n" * 200)),
        preferred="first",
        judge=Judge("function", "x"),
    )
    tab = opened(records=[long, *pairs(1)], **PHONE)
    tab.ready()
    page = tab.page
    boxes = {name: page.locator(name).bounding_box() for name in ("#left", "#right", "#choices")}
    assert boxes["#left"]["y"] + boxes["#left"]["height"] <= boxes["#right"]["y"]
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert boxes["#choices"]["y"] + boxes["#choices"]["height"] <= 640.5, "without scrolling"
    assert boxes["#choices"]["height"] < 640 / 3
    for text in ("#left-text", "#right-text"):
        assert page.evaluate(f"document.querySelector('{text}').scrollHeight") > boxes["#left"]["height"]
    for button in page.locator("#choices button").all():
        assert button.bounding_box()["height"] >= 40
    for _ in range(2):
        tab.ready()
        before = tab.shown()
        page.tap("[data-choice=right]")
        tab.moved(before)
    assert [choice for choice, _, _ in tab.place.said()] == ["right", "right"]


def test_a_reload_shows_the_same_item_and_what_was_typed(opened: Any) -> None:
    tab = opened(5, Study(question=QuestionSettings(criteria=("helpful", "honest"))))
    tab.ready()
    tab.page.fill("#reason", "half a sentence\nand more")
    tab.page.click(".criterion[data-name=honest] label:has([value=tie])")
    tab.page.keyboard.press("f")
    tab.page.click("text=Flag and go on judging")
    before = tab.shown() + tab.page.inner_text("#right-text")
    tab.page.reload()
    tab.ready()
    assert tab.shown() + tab.page.inner_text("#right-text") == before
    assert tab.page.input_value("#reason") == "half a sentence\nand more"
    assert tab.page.is_checked(".criterion[data-name=honest] [value=tie]")
    assert tab.page.inner_text("#flagged-text") == "Flagged: harmful"
    assert tab.place.said() == []
    tab.page.keyboard.press("1")
    assert tab.page.inner_text("#trouble") == "First: helpful?"
    tab.page.keyboard.press("2")
    tab.key("1")
    assert tab.place.said() == [("left", "half a sentence\nand more", "harmful")]
    assert tab.page.input_value("#reason") == "", "the next item starts anew"


def test_a_lost_line_keeps_the_choice_and_sends_it_when_it_is_back(opened: Any) -> None:
    tab = opened()
    tab.ready()
    before = tab.shown()
    tab.context.set_offline(True)
    tab.page.keyboard.press("1")
    tab.says("#trouble", "Not saved yet")
    assert "Saved" not in tab.page.inner_text("#said")
    assert (tab.shown(), tab.unsent(), tab.place.said()) == (before, 1, [])
    tab.page.keyboard.press("2")
    tab.context.set_offline(False)
    tab.moved(before)
    assert tab.page.inner_text("#said") == "Saved"
    assert tab.page.inner_text("#trouble") == ""
    assert (tab.unsent(), tab.place.said()) == (0, [("left", "", "")])


def test_a_server_that_went_away_and_came_back_has_the_choice_once(opened: Any) -> None:
    """The tab is closed in the meantime: what was not sent is sent by the next one."""
    tab = opened()
    tab.ready()
    tab.place.stop()
    tab.page.keyboard.press("2")
    tab.says("#trouble", "Not saved yet")
    tab.page.close()
    tab.place.serve()
    tab.open()
    tab.says("#title", "Item 2 of 3")
    assert (tab.unsent(), tab.place.said()) == (0, [("right", "", "")])


def test_a_response_that_is_lost_makes_no_second_answer(opened: Any) -> None:
    tab = opened()
    tab.ready()
    sent: list[str] = []

    def lose_the_first(route: Any) -> None:
        sent.append(route.request.post_data)
        route.fetch()
        route.abort() if len(sent) == 1 else route.continue_()

    tab.page.route("**/api/answer", lose_the_first)
    tab.key("1")
    assert len(sent) == 2
    assert sent[0] == sent[1], "the same answer under the same key"
    assert tab.place.said() == [("left", "", "")]


def test_a_session_that_ended_loses_nothing(opened: Any) -> None:
    tab = opened()
    tab.ready()
    tab.context.clear_cookies()
    tab.page.keyboard.press("1")
    tab.says("#trouble", "personal link")
    assert tab.place.said() == []
    old = tab.page
    tab.open()
    tab.says("#title", "Item 2 of 3")
    assert tab.place.said() == [("left", "", "")]
    old.close()


def test_a_double_click_or_a_held_key_is_one_answer(opened: Any) -> None:
    tab = opened(4)
    tab.ready()
    before = tab.shown()
    tab.page.dblclick("[data-choice=left]")
    tab.moved(before)
    tab.ready()
    before = tab.shown()
    for _ in range(5):
        tab.page.keyboard.down("2")
    tab.moved(before)
    tab.page.keyboard.up("2")
    tab.ready()
    assert tab.title() == "Item 3 of 4"
    assert [choice for choice, _, _ in tab.place.said()] == ["left", "right"]


def test_a_scale_and_criteria_by_keyboard(opened: Any) -> None:
    """The side, then how much; within the criteria the same digits answer one after the other."""
    tab = opened(2, Study(question=QuestionSettings(strength=7, criteria=("helpful", "honest"))))
    tab.ready()
    for key in ("c", "1", "0", "2", "3"):
        tab.page.keyboard.press(key)
    tab.says("#title", "Item 2 of 2")
    tab.ready()
    tab.page.click(".criterion[data-name=helpful] label:has([value=right])")
    tab.page.click(".criterion[data-name=honest] label:has([value=right])")
    tab.page.click("[data-choice=left][data-strength='1']")
    tab.page.wait_for_selector("#end:not([hidden])")
    votes = sorted(tab.place.desk.answers(), key=lambda vote: vote.number)
    assert [(vote.strength, vote.left_chosen()) for vote in votes] == [(3, False), (1, True)]
    left = votes[0].left
    assert votes[0].criteria == {"helpful": left, "honest": "tie"}


def test_markup_shows_as_text_and_runs_nowhere(opened: Any) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>\n  kept  whitespace\t."
    record = PreferenceRecord(
        id="",
        prompt=(Message("user", attack),),
        replies=(Reply(attack + "1"), Reply(attack + "2")),
        preferred="first",
        judge=Judge("function", "x"),
    )
    tab = opened(
        records=[record], study=Study(AnnotateSettings(completion_code=attack[:40]), guidelines=attack)
    )
    page = tab.page
    assert page.inner_text("#guidelines .text") == attack
    page.keyboard.press("Escape")
    tab.ready()
    shown = {page.text_content(f"#{side}-text") for side in ("left", "right")}
    assert shown == {attack + "1", attack + "2"}
    assert page.text_content("#talk .text") == attack
    assert page.evaluate("getComputedStyle(document.getElementById('left-text')).whiteSpace") == "pre-wrap"
    assert page.locator("img").count() == 0
    page.keyboard.press("1")
    page.wait_for_selector("#end:not([hidden])")
    assert page.text_content("#code") == attack[:40]


def test_a_password_is_set_and_used_in_a_browser(opened: Any) -> None:
    """Forms, too, say where they come from: a browser sends ``Origin: null`` under some referrer policies."""
    tab = opened()
    page = tab.page
    page.goto(tab.place.origins()[0] + "/account")
    for name in ("password", "again"):
        page.fill(f"[name={name}]", "a long enough secret")
    page.click("text=Set the password")
    tab.ready()
    page.goto(tab.place.origins()[0] + "/account")
    page.click("text=Log out")
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", "another secret")
    page.click("button:has-text('Log in')")
    assert page.inner_text("[role=alert]") == "No account has this name and password."
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", "a long enough secret")
    page.click("button:has-text('Log in')")
    tab.ready()
    assert tab.title() == "Item 1 of 3"


def luminance(colour: str) -> float:
    """Relative luminance of an ``rgb(...)`` colour (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(opened: Any, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA), on a ground that follows the system."""
    tab = opened(study=Study(guidelines="Prefer."), color_scheme=scheme)
    tab.page.keyboard.press("Escape")
    tab.ready()
    colours = tab.page.evaluate(
        """() => {
          const ground = (e) => {
            for (; e; e = e.parentElement) {
              const colour = getComputedStyle(e).backgroundColor;
              if (!colour.endsWith(', 0)')) return colour;
            }
          };
          const texts = '#title, .text, .reply h2, .reply b, .turn h2, button:enabled, .reason span, kbd';
          return [...document.querySelectorAll(texts)]
            .filter((e) => e.checkVisibility())
            .map((e) => [e.textContent.trim(), getComputedStyle(e).color, ground(e)]);
        }"""
    )
    assert len(colours) > 20
    assert [one for one in colours if contrast(one[1], one[2]) < 4.5] == []
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.05) == (scheme == "dark")


def test_everything_can_be_reached_and_is_named(opened: Any) -> None:
    """Landmarks, names, a live region, and a visible focus wherever Tab goes."""
    tab = opened(study=Study(question=QuestionSettings(criteria=("helpful",)), guidelines="Prefer."))
    page = tab.page
    page.keyboard.press("Escape")
    tab.ready()
    outline = page.locator("body").aria_snapshot()
    for part in (
        "- banner:", "- main:", "- navigation", '- region "Conversation"', '- region "Reply 1"',
        '- region "Reply 2"',
        '- progressbar "Progress"', "- status", '- group "helpful"', '- textbox "Reason, optional"',
        'heading "Item 1 of 3"',
    ):  # fmt: skip
        assert part in outline, outline
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        place, width = page.evaluate(
            """() => {
              const at = document.activeElement;
              const seen = at.matches('.criterion input') ? at.nextElementSibling : at;
              const name = at.id || at.dataset.choice || at.dataset.open || at.name || at.tagName;
              return [name, getComputedStyle(seen).outlineWidth];
            }"""
        )
        if place == "BODY":
            break
        reached.add(place)
        assert width != "0px", f"nobody sees that {place} has the focus"
    stops = {
        "talk",
        "left-text",
        "right-text",
        "criterion-helpful",
        "reason",
        "left",
        "tie",
        "both_bad",
        "right",
    }
    assert reached >= stops | {"skip", "flag", "guidelines", "help"}


def test_single_keys_can_be_switched_off(opened: Any) -> None:
    tab = opened()
    tab.ready()
    tab.page.keyboard.press("?")
    tab.page.uncheck("#shortcuts")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("1")
    tab.page.reload()
    tab.ready()
    tab.page.keyboard.press("1")
    assert tab.title() == "Item 1 of 3"
    before = tab.shown()
    tab.page.focus("[data-choice=left]")
    tab.page.keyboard.press("Enter")
    tab.moved(before)
    assert tab.place.said() == [("left", "", "")]


def test_the_first_page_is_small_and_soon_there(chromium: Any, tmp_path: Path) -> None:
    """Through the real command and an empty cache, as ``python -m experiments.annotate`` measures it.

    Its second is not held here, where other tests share the cores.
    """
    from experiments.annotate.screens import appearance_in

    found = appearance_in(chromium, tmp_path, f"sqlite:///{tmp_path}/a.sqlite", times=1)
    assert found.requests == 5, "the link, the page, a stylesheet, a script, an icon"
    assert 10_000 < found.bytes <= 50_000
    assert 0 < found.worst < 10

"""The annotators' page in a real browser: keys, mouse, a phone, a password."""

from __future__ import annotations

from typing import Any

from served import pairs
from tab import IN_A_BROWSER, PHONE

from align.annotate.settings import QuestionSettings
from align.annotate.study import Study
from align.types import Judge, Message, PreferenceRecord, Reply

pytestmark = IN_A_BROWSER


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

"""The annotators' page in a real browser, where something is lost: a reload, a line, a server, a session."""

from __future__ import annotations

from typing import Any

import pytest
from tab import IN_A_BROWSER

from align.annotate.settings import QuestionSettings
from align.annotate.study import Study

pytestmark = IN_A_BROWSER


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


@pytest.mark.parametrize("role", ["annotator", "admin"])
def test_somebody_else_in_the_same_browser_costs_no_choice(opened: Any, role: str) -> None:
    """Refused to them, it is kept for whose it is, and sent when that one is back."""
    tab = opened()
    tab.ready()
    other = tab.context.new_page()
    other.goto(tab.place.link("another", role))
    tab.page.keyboard.press("1")
    tab.says("#trouble", "Not saved yet: you are logged out, or somebody else is in")
    assert (tab.unsent(), tab.place.said()) == (1, [])
    other.close()
    tab.open()
    tab.says("#title", "Item 2 of")
    assert (tab.unsent(), tab.place.said()) == (0, [("left", "", "")])


@pytest.mark.parametrize("status", [400, 404])
def test_a_word_from_the_way_is_no_refusal(opened: Any, status: int) -> None:
    """A proxy or a cut line says so, not the desk: the choice is kept and sent again."""
    tab = opened()
    tab.ready()
    before = tab.shown()
    said = {"status": status, "content_type": "application/json", "body": '{"error": "no"}'}
    tab.page.route("**/api/answer", lambda route: route.fulfill(**said), times=1)
    tab.page.keyboard.press("1")
    tab.says("#trouble", "Not saved yet")
    tab.moved(before)
    assert tab.place.said() == [("left", "", "")]


def test_a_phone_of_some_years_saves_too(opened: Any) -> None:
    tab = opened()
    tab.context.add_init_script("delete AbortSignal.timeout")
    tab.page.close()
    tab.open()
    tab.key("1")
    assert tab.place.said() == [("left", "", "")]

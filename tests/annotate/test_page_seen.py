"""The annotators' page in a real browser, as it is seen and read: texts, colours, names, its first second."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tab import IN_A_BROWSER

from align.annotate.settings import AnnotateSettings, QuestionSettings
from align.annotate.study import Study
from align.types import Judge, Message, PreferenceRecord, Reply

pytestmark = IN_A_BROWSER


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


def test_the_first_page_is_small_and_soon_there(chromium: Any, tmp_path: Path) -> None:
    """Through the real command and an empty cache, as ``python -m experiments.annotate`` measures it.

    Its second is not held here, where other tests share the cores.
    """
    from experiments.annotate.screens import appearance_in

    found = appearance_in(chromium, tmp_path, f"sqlite:///{tmp_path}/a.sqlite", times=1)
    assert found.requests == 5, "the link, the page, a stylesheet, a script, an icon"
    assert 10_000 < found.bytes <= 50_000
    assert 0 < found.worst < 10

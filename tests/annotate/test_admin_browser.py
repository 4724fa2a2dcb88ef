"""The admin's pages in a real browser: nothing is refused by their own policy, nothing sticks out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Place, pairs, serving
from tab import IN_A_BROWSER, PHONE

from align.annotate.settings import AllocationSettings
from align.annotate.types import Answer, Task

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Twelve pairs, three annotators, the last of whom flags all in a hundred characters without a space."""
    place = Place(
        tmp_path_factory.mktemp("study"), allocation=AllocationSettings(overlap=3, too_fast_seconds=5)
    )
    with serving(place, pairs(12)):
        for count, name in enumerate(("anna", "ben", "a-name-that-is-rather-long-for-a-table")):
            place.accounts.invite("annotator", name)
            who = place.accounts.everybody()[-1].annotator or ""
            while isinstance(task := place.desk.serve(who), Task):
                choice: Any = "left" if (task.number + count) % 3 else "tie"
                said = Answer(
                    task.assignment, "k", choice, flag="x" * 100 if count == 2 else None, seconds=3.0
                )
                place.desk.submit(who, said)
        yield place


def _opened(chromium: Any, study: Place, **options: Any) -> tuple[Any, list[str]]:
    """An admin's tab, and what its console complains of."""
    tab = chromium.new_context(**options).new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(study.link("boss", "admin"))
    return tab, complaints


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, PHONE], ids=["dark", "phone"])
def test_every_page_fits_and_keeps_its_own_policy(chromium: Any, study: Place, options: Any) -> None:
    tab, complaints = _opened(chromium, study, **options)
    flagged = next(vote.pair_id for vote in study.desk.answers() if vote.flag)
    for path in ("", "/people", "/data", f"/items/{flagged}"):
        tab.goto(f"{study.origins()[0]}/admin{path}")
        widest = tab.locator("body > *").evaluate_all("all => Math.max(...all.map(one => one.scrollWidth))")
        assert widest <= tab.viewport_size["width"], path
    tab.goto(f"{study.origins()[0]}/admin")
    drawn = tab.locator("svg.plot")
    assert drawn.count() == 5
    assert all(drawn.nth(place).bounding_box()["height"] > 40 for place in range(5))
    assert complaints == []


def test_an_admin_at_work(chromium: Any, study: Place, tmp_path: Path) -> None:
    """Pauses one annotator and lets everybody go on, invites by a link that works, imports, takes home."""
    tab, complaints = _opened(chromium, study)
    tab.goto(f"{study.origins()[0]}/admin/people")
    anna = tab.locator("tr", has_text="anna")
    anna.get_by_role("button", name="Pause").click()
    anna.get_by_role("button", name="Resume").wait_for()
    assert study.desk.annotators()[0].paused is not None
    anna.get_by_role("button", name="Resume").click()
    anna.get_by_role("button", name="Pause").wait_for()
    assert study.desk.annotators()[0].paused is None
    tab.get_by_label("Name").fill("nina")
    tab.get_by_role("button", name="Make a personal link").click()
    link = tab.get_by_label("Personal link").input_value()
    assert chromium.new_context().new_page().goto(link).status == 200
    tab.get_by_role("link", name="Data").click()
    with tab.expect_download() as taken:
        tab.get_by_role("link", name="records.jsonl", exact=True).click()
    taken.value.save_as(tmp_path / "records.jsonl")
    before = study.desk.status().items["gold"]
    tab.get_by_label("records.jsonl or").set_input_files(tmp_path / "records.jsonl")
    tab.get_by_label("As").select_option("gold")
    tab.get_by_role("button", name="Add the items").click()
    # the pairs are there already, as ordinary items
    assert "0 items added. 36 left out: duplicate." in tab.inner_text("[role=status]")
    assert study.desk.status().items["gold"] == before
    assert complaints == []

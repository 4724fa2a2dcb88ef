"""Every desk of these tests draws alike: what an annotator meets among few items is the same each time. And
the browsers that look at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from served import Place, pairs, serving
from tab import CHROMIUM, FLAGS, Tab

from align.annotate.study import Study


@pytest.fixture(autouse=True)
def _draws_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.annotate.database.new_secret", lambda: "5e" * 32)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


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

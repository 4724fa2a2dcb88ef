"""One annotator's browser (chromium, headless) on a study that is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Place

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PHONE = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
IN_A_BROWSER = [
    pytest.mark.medium,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM} (apt install chromium)"),
]
"""``pytestmark`` of tests that open one."""


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

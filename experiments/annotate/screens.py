"""The annotators' page as people get it: the real command, a real browser; how soon it shows, how it
looks."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from experiments.annotate.crowd import simulated

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAIRS = HERE / "shown.jsonl"
BEFORE = 4
"""Pairs before the one that is in the pictures."""
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
DESKTOP = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}


@dataclass(frozen=True)
class Appearance:
    """How soon the first item is on the screen of a browser that was never here, and what it took."""

    times: int
    median: float
    """Seconds from a server that says its address to an item that can be read."""
    worst: float
    bytes: int
    """Of all bodies, as they were sent."""
    requests: int
    """The redirect of the link among them."""


def appearance(folder: Path, url: str, times: int) -> Appearance:
    """In a browser of its own; see ``appearance_in``."""
    with _browser() as browser:
        return appearance_in(browser, folder, url, times)


def appearance_in(browser: Any, folder: Path, url: str, times: int) -> Appearance:
    """Starts the command, opens the link that it prints, waits for the item; each time anew.

    The browser runs before, its cache is empty. Of ``url``, the first time makes the tables.
    """
    seconds: list[float] = []
    for number in range(times):
        page = browser.new_context(**DESKTOP).new_page()
        requests: list[Any] = []
        page.on("requestfinished", lambda request, to=requests: to.append(request))
        with _study(folder / f"run{number}", f"annotate.database={url}") as links:
            started = time.perf_counter()
            page.goto(links[1])
            page.wait_for_selector("#item:not([hidden])")
            seconds.append(time.perf_counter() - started)
            page.wait_for_load_state("networkidle")
            size = sum(request.sizes()["responseBodySize"] for request in requests)
            page.context.close()
    return Appearance(times, median(seconds), max(seconds), size, len(requests))


def screenshots(to: Path) -> list[Path]:
    """The page on a desktop in the light and on a phone in the dark; returns the files."""
    to.mkdir(parents=True, exist_ok=True)
    made = []
    words = (f"question.guidelines={HERE}/guidelines.txt", "question.criteria=[helpful,honest]")
    with (
        tempfile.TemporaryDirectory(prefix="align-annotate-") as folder,
        _browser() as browser,
        _study(Path(folder) / "run", *words) as links,
    ):
        for name, options in (("desktop", DESKTOP), ("phone", PHONE)):
            page = browser.new_context(**options).new_page()
            page.goto(links[1])
            page.keyboard.press("Escape")
            page.wait_for_selector("#item:not([hidden], .new)")
            if name == "desktop":
                _work(page)
            made.append(to / f"{name}.png")
            page.screenshot(path=str(made[-1]))
            page.context.close()
    return made


def admin_screenshot(to: Path) -> Path:
    """The admin's overview of a simulated study; returns the file."""
    to.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="align-annotate-") as folder,
        simulated(Path(folder)) as link,
        _browser() as browser,
    ):
        page = browser.new_context(**DESKTOP).new_page()
        page.goto(link)
        page.screenshot(path=str(to / "admin.png"), full_page=True)
    return to / "admin.png"


def _work(page: Any) -> None:
    """Answers what comes before the pair of the pictures, and begins with that."""
    for number in range(BEFORE):
        for key in ("c", "1", "1", "1"):
            page.keyboard.press(key)
        page.wait_for_selector(f"#title:has-text('Item {number + 2} ')")
        page.wait_for_selector("#item:not(.new)")
    side = "left" if "17 °C" in page.inner_text("#left-text") else "right"
    page.click(f".criterion[data-name=helpful] label:has([value={side}])")
    page.fill("#reason", "Names the cause and says what to try first.")
    page.focus("#title")


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def _study(run: Path, *words: str) -> Iterator[list[str]]:
    """The command that the README shows, ended by Ctrl-C; yields the links that it prints."""
    words = (f"run.dir={run}", "annotate.port=0", "dataset=preference", f"dataset.path={PAIRS}", *words)
    command = [sys.executable, "-m", "align", "stage=annotate", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        links: list[str] = []
        for line in process.stdout:
            links += re.findall(r"http://\S+/in/\S+", line)
            if len(links) == 2:
                break
        yield links
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

"""Many people answer while the server is killed again and again: what was acknowledged must be there."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.annotate.desk import Desk
from align.annotate.settings import AllocationSettings
from experiments.annotate.browser import Browser
from experiments.annotate.child import Plan
from experiments.annotate.server import Server, free_port

OVERLAP = 3


@dataclass(frozen=True)
class Survived:
    """What was counted."""

    kills: int
    clients: int
    acknowledged: int
    lost: int
    """Acknowledged answers that are not there, or are others."""
    doubled: int
    """Answers that are there more than once."""
    crowded: int
    """Items with more votes than the overlap."""
    cut: int
    """Requests whose line was cut; each was sent again with its key."""
    failures: tuple[str, ...]
    """Answers that a running server refused."""


@dataclass
class _Crowd:
    """What the clients share: what they were told, and whether they are to go on."""

    told: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Assignment -> the revision and choice that the server acknowledged."""
    cut: int = 0
    over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    broken: list[BaseException] = field(default_factory=list)


def survive(
    folder: Path, database: str | None, kills: int, clients: int, answers_between: int, seed: int = 0
) -> Survived:
    """Kills the server so often while so many clients answer; at least that many answers lie between two
    kills.

    ``database`` is the URL of an empty one; None takes a file in the folder.
    """
    items = (kills + 2) * (answers_between + 2 * clients) // OVERLAP + clients
    plan = Plan(free_port(), clients, items, database or str(folder / "a.sqlite"), {"overlap": OVERLAP})
    server, crowd, rng = Server(folder, plan), _Crowd(), random.Random(seed)
    server.start()
    browsers = [Browser(plan.port, link) for link in server.links()]
    threads = [
        threading.Thread(target=_annotate, args=(browser, crowd, random.Random(f"{seed} {number}")))
        for number, browser in enumerate(browsers)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in range(kills):
            _wait_for(crowd, len(crowd.told) + answers_between)
            time.sleep(rng.uniform(0, 0.1))
            server.kill()
            server.start()
        _wait_for(crowd, len(crowd.told) + answers_between)
        server.kill()
    finally:
        crowd.over = True
        server.kill()
        for thread in threads:
            thread.join()
    if crowd.broken:
        raise crowd.broken[0]
    return _compared(plan, crowd, browsers, kills, clients)


def _annotate(browser: Browser, crowd: _Crowd, rng: random.Random) -> None:
    """Answers item after item; what was cut off is sent again, as the page's script does."""
    try:
        shown: dict[str, Any] | None = None
        while not crowd.over:
            shown = shown or _insist(crowd, lambda: _start(browser))
            if shown is None or shown["state"] != "item":
                return
            item, key = shown["item"]["id"], f"{rng.getrandbits(64):x}"
            choice = rng.choice(["left", "right", "tie"])
            found = _insist(
                crowd, lambda item=item, key=key, choice=choice: browser.answer(item, key, choice)
            )
            if found is None:
                return
            if "saved" in found:
                with crowd.lock:
                    crowd.told[item] = (found["saved"]["revision"], choice)
            shown = found.get("next")
    except BaseException as error:
        crowd.broken.append(error)
    finally:
        browser.close()


def _start(browser: Browser) -> dict[str, Any]:
    if not browser.cookie:
        browser.come_in()
    return browser.task()


def _insist(crowd: _Crowd, ask: Any) -> dict[str, Any] | None:
    """The answer to a request that is sent until one comes; None where all is over before."""
    while not crowd.over:
        try:
            found: dict[str, Any] = ask()
            return found
        except (OSError, http.client.HTTPException):
            crowd.cut += 1
            time.sleep(0.05)
    return None


def _wait_for(crowd: _Crowd, told: int) -> None:
    end = time.monotonic() + 120
    while len(crowd.told) < told:
        if crowd.broken or time.monotonic() > end:
            raise RuntimeError(f"the clients came no further: {crowd.broken[:1]}")
        time.sleep(0.01)


def _compared(plan: Plan, crowd: _Crowd, browsers: list[Browser], kills: int, clients: int) -> Survived:
    """Holds what the clients were told against what a new process finds."""
    desk = Desk(plan.database, AllocationSettings(**plan.allocation))
    try:
        votes = {vote.assignment: vote for vote in desk.answers()}
    finally:
        desk.close()
    lost = 0
    for assignment, (revision, choice) in crowd.told.items():
        vote = votes.get(assignment)
        there = vote is not None and (vote.revision, vote.shown()) == (revision, choice)
        lost += not there
    per_item = Counter(vote.pair_id for vote in votes.values() if not vote.surplus)
    return Survived(
        kills=kills,
        clients=clients,
        acknowledged=len(crowd.told),
        lost=lost,
        doubled=sum(vote.revision > 1 for vote in votes.values()),
        crowded=sum(count > OVERLAP for count in per_item.values()),
        cut=crowd.cut,
        failures=tuple(line for browser in browsers for line in browser.failures),
    )

"""A working day in a minute: 200 people at their own pace, and how long a submit takes."""

from __future__ import annotations

import http.client
import math
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from experiments.annotate.browser import Browser
from experiments.annotate.child import Plan
from experiments.annotate.server import Server, free_port


@dataclass(frozen=True)
class Loaded:
    """What was measured."""

    annotators: int
    rate: float
    """Answers a second that were to come."""
    seconds: float
    answers: int
    errors: int
    """Requests that failed, and answers that were refused."""
    p50: float
    p95: float
    worst: float
    """Seconds of a submit, the next item in its answer included."""
    late: float
    """Seconds by which the 95th percentile of the answers was sent too late: the load generator's own lag."""


def load(folder: Path, database: str, annotators: int, rate: float, seconds: float, seed: int = 0) -> Loaded:
    """Annotators answer at random times, ``rate`` a second in all, over connections that stay."""
    answers = int(rate * seconds)
    plan = Plan(free_port(), annotators, answers, database, {"overlap": 3})
    server, rng = Server(folder, plan), random.Random(seed)
    server.start()
    took: list[float] = []
    late: list[float] = []
    errors: list[str] = []
    try:
        browsers = [Browser(plan.port, link) for link in server.links()]
        times: dict[int, list[float]] = {number: [] for number in range(annotators)}
        for _ in range(answers):
            times[rng.randrange(annotators)].append(rng.uniform(0, seconds))
        begin = time.monotonic() + 2 + annotators / 50
        threads = [
            threading.Thread(target=_work, args=(browser, begin, sorted(times[number]), took, late, errors))
            for number, browser in enumerate(browsers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    errors += [line for browser in browsers for line in browser.failures]
    took.sort()
    late.sort()
    return Loaded(
        annotators=annotators,
        rate=rate,
        seconds=seconds,
        answers=len(took),
        errors=len(errors),
        p50=_share(took, 0.5),
        p95=_share(took, 0.95),
        worst=took[-1],
        late=_share(late, 0.95),
    )


def _work(
    browser: Browser,
    begin: float,
    times: list[float],
    took: list[float],
    late: list[float],
    errors: list[str],
) -> None:
    try:
        browser.come_in()
        shown = browser.task()
        for number, at in enumerate(times):
            time.sleep(max(0.0, begin + at - time.monotonic()))
            start = time.monotonic()
            late.append(start - begin - at)
            shown = browser.answer(shown["item"]["id"], f"k{number}", "left")["next"]
            took.append(time.monotonic() - start)
    except (OSError, http.client.HTTPException, AssertionError, KeyError) as error:
        errors.append(f"{type(error).__name__}: {error}")
    finally:
        browser.close()


def _share(values: list[float], share: float) -> float:
    """The smallest value that this share of the sorted values does not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]

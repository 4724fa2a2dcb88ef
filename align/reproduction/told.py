"""What came of a repetition: a table, reproduction.json, and whether it is an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from align.errors import ConfigError, NotReproduced
from align.files import write_json
from align.report.console import say
from align.report.terminal import number
from align.reproduction.again import Part
from align.reproduction.numbers import Number, Verdict, differing_files, numbers
from align.run import Run
from align.types import Result


def tell_changes(lines: Sequence[str], *, refuse: bool) -> None:
    """Says what is otherwise than it was. Raises ``ConfigError`` where that is to be refused."""
    if lines and refuse:
        raise ConfigError(
            "\n  ".join(["reproduce.changed=refuse, and these differ from the original's:", *lines])
        )
    for line in lines:
        say(f"changed: {line}")


def write(run: Run, parts: Sequence[Part], changes: Sequence[str]) -> None:
    """reproduction.json, results.json (how many numbers are what) and the table."""
    found, files = numbers(parts[0].was, parts[0].now), differing_files(parts)
    verdicts = [one.verdict for one in found]
    write_json(
        run.directory / "reproduction.json",
        {
            "original": str(parts[0].was),
            "changed": list(changes),
            "files": files,
            "numbers": [
                {
                    "metric": one.metric,
                    "was": one.was.value if one.was else None,
                    "now": one.now.value if one.now else None,
                    "verdict": one.verdict,
                }
                for one in found
            ],
        },
    )
    counts = [(name.replace(" ", "_"), verdicts.count(name)) for name in get_args(Verdict)]
    run.write_results(
        [Result(f"reproduce/{name}", count, len(found), None, None, "exact") for name, count in counts]
    )
    Console().print(_table(found))
    for line in files:
        say(f"differs: {line}")


def judge(parts: Sequence[Part], changes: Sequence[str]) -> None:
    """Says how it ended.

    Raises:
        NotReproduced: something differs and nothing has changed, or a number is outside its interval or gone.
    """
    found, files = numbers(parts[0].was, parts[0].now), differing_files(parts)
    differing = [one for one in found if one.verdict != "same"]
    if not differing and not files:
        say(f"the same: {len(found)} numbers and all files, bit for bit")
        return
    names = ", ".join(one.metric for one in differing[:5]) or ", ".join(files[:5])
    if not changes:
        raise NotReproduced(
            f"{len(differing)} of {len(found)} numbers differ ({names}), and neither code, versions, machine "
            f"nor inputs have changed: something in this run is not decided by its seed"
        )
    bad = [one.metric for one in differing if one.verdict in ("outside", "missing")]
    if bad:
        raise NotReproduced(
            f"{len(bad)} of {len(found)} numbers lie outside the original's intervals or are gone: "
            f"{', '.join(bad)}; what has changed is said above"
        )
    say(
        f"not the same bits, as was to be expected after these changes: {len(differing)} of {len(found)} "
        f"numbers differ, none lies outside its interval"
    )


def _table(found: Sequence[Number]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("metric", "was", "interval", "now", "difference", ""):
        shown.add_column(name, overflow="fold")
    for one in found:
        was, now = one.was, one.now
        interval = _interval(was)
        apart = f"{now.value - was.value:+.3g}" if was and now and one.verdict != "same" else ""
        cells = (number(was.value) if was else "", interval, number(now.value) if now else "", apart)
        shown.add_row(one.metric, *cells, one.verdict)
    return shown


def _interval(was: Result | None) -> str:
    if was is None or was.ci_low is None or was.ci_high is None:
        return ""
    return f"{number(was.ci_low)} to {number(was.ci_high)}"

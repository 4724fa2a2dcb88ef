"""``python -m experiments.annotate``: kills, races, loads and fills the desk; prints the table, writes the
files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from align.files import write_json
from align.run import git_state
from experiments import page
from experiments.annotate.bulk import bulk
from experiments.annotate.kills import survive
from experiments.annotate.load import load
from experiments.annotate.postgres import private_postgres, programs
from experiments.annotate.race import race
from experiments.annotate.screens import admin_screenshot, appearance, screenshots
from experiments.annotate.table import table

HERE = Path(__file__).resolve().parent
DATABASES = ("sqlite", "postgresql")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures everything on both databases; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.annotate", description=__doc__)
    add = parser.add_argument
    add("--databases", nargs="+", choices=DATABASES, default=list(DATABASES), help="where answers are kept")
    add("--kills", type=int, default=20, help="SIGKILLs under load")
    add("--clients", type=int, default=50, help="people who answer meanwhile")
    add("--annotators", type=int, default=200, help="people who race, and who answer at their own pace")
    add("--seconds", type=float, default=60.0, help="of answers at ten a second")
    add("--items", type=int, default=100_000, help="that are imported")
    add("--out", default=str(HERE), help="where README.md and results.json lie")
    add("--table", action="store_true", help="only the table, from the results that are there")
    add("--screenshots", action="store_true", help="only the pictures of the pages, into the same folder")
    options = parser.parse_args(argv)
    if options.screenshots:
        print(*screenshots(Path(options.out)), admin_screenshot(Path(options.out)), sep="\n")
        return 0
    out = Path(options.out)
    if options.table:
        return _publish(json.loads((out / "results.json").read_bytes()), out)
    if "postgresql" in options.databases and programs() is None:
        parser.error("PostgreSQL is not installed: --databases sqlite")
    results: dict[str, Any] = {"circumstances": _circumstances()}
    for name in options.databases:
        results[name] = {part: _measured(name, part, work) for part, work in _parts(options).items()}
    results["circumstances"]["load_after"] = round(os.getloadavg()[0], 1)
    write_json(out / "results.json", results)
    # what JSON makes of it, so that the table is the same when it is made from the file
    return _publish(json.loads((out / "results.json").read_bytes()), out)


def _publish(results: dict[str, Any], out: Path) -> int:
    """Prints the table; writes it into the README where one stands there."""
    text = table(results)
    print(text)
    page.publish(out, "annotate", text)
    return 0


def _parts(options: argparse.Namespace) -> dict[str, Callable[[Path, str], object]]:
    """Each part of the work, given a folder and an empty database."""
    people = options.annotators
    return {
        "kills": lambda folder, url: survive(folder, url, options.kills, options.clients, answers_between=50),
        "race": lambda folder, url: race(url, people, items=10, overlap=3),
        "load": lambda folder, url: load(folder, url, people, rate=10, seconds=options.seconds),
        "bulk": lambda folder, url: bulk(folder, url, options.items, serves=1000),
        "page": lambda folder, url: appearance(folder, url, times=5),
    }


def _measured(database: str, part: str, work: Callable[[Path, str], object]) -> dict[str, Any]:
    print(f"{database}: {part}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="align-annotate-") as made, _empty(database, Path(made)) as url:
        return asdict(work(Path(made), url))  # type: ignore[call-overload,no-any-return]


@contextmanager
def _empty(database: str, folder: Path) -> Iterator[str]:
    with (
        private_postgres() if database == "postgresql" else nullcontext(f"sqlite:///{folder}/a.sqlite") as url
    ):
        yield url


def _circumstances() -> dict[str, Any]:
    """When, where, and with which versions; a commit with changes on top is marked with a plus."""
    git = git_state()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": "none" if git is None else git["commit"][:12] + ("+" if git["dirty"] else ""),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("sqlalchemy", "fastapi", "uvicorn")},
    }


if __name__ == "__main__":
    sys.exit(main())

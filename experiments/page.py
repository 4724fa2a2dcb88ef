"""What an experiment's command writes into its README: a block between two marks, the rest stays."""

from __future__ import annotations

from pathlib import Path

from align.errors import DataError
from align.files import write_whole

END = "<!-- until here -->"


def begin(name: str) -> str:
    """The line above the block of ``python -m experiments.NAME``."""
    return f"<!-- made by python -m experiments.{name} -->"


def spliced(page: str, name: str, block: str) -> str:
    """The page with the block between its marks.

    Raises:
        DataError: the page has no such marks.
    """
    before, begins, rest = page.partition(begin(name))
    _, ends, after = rest.partition(END)
    if not begins or not ends:
        raise DataError(f"the README has no lines {begin(name)!r} and {END!r} for the tables")
    return f"{before}{begins}\n\n{block}\n\n{ends}{after}"


def publish(out: Path, name: str, block: str) -> None:
    """Writes the block into the README of a folder; one without a README gets none."""
    readme = out / "README.md"
    if readme.exists():
        write_whole(readme, spliced(readme.read_text(encoding="utf-8"), name, block))

"""What became of every row: counts, the rows that were refused or cut by file and line, a short summary."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from align.errors import DataError
from align.files import written_aside
from align.pairs.split import SPLITS, Split

if TYPE_CHECKING:
    from pathlib import Path

    from align.types import Location

SHOWN = 5
"""Rows or reasons that a message names before it says how many more there are."""

NOT_BAD = ("not_decisive", "not_judged", "not_desirable", "too_long", "repeated_demonstration")
"""Reasons to leave out a row that has nothing wrong with it: ``bad_rows=error`` does not stop at these."""


class DataReport:
    """Collects while rows are read, then tells.

    Counts stay in memory; the list of rows goes to a temporary file once it is long, so a large file
    with many bad rows costs no memory, and still every one of them is named in ``data_report.json``.
    """

    def __init__(self, dataset: str, *, stop_at_bad_rows: bool = False) -> None:
        self.dataset = dataset
        self.read = 0
        self.combined = 0
        self.kept: Counter[Split] = Counter()
        self.refused: Counter[str] = Counter()
        self.truncated = 0
        self.most_cut = 0
        self.complete = False
        self._stop = stop_at_bad_rows
        self._bad = 0
        self._examples: dict[str, str] = {}
        self._first_bad: list[str] = []
        self._rows = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 (lives as long as this)

    def keep(self, split: Split) -> None:
        """Counts an example that a row made."""
        self.kept[split] += 1

    def refuse(self, at: Location, reason: str, detail: str) -> None:
        """Counts and lists a row that is left out.

        Raises:
            DataError: a few bad rows were seen and ``bad_rows=error``.
        """
        self.refused[reason] += 1
        detail = _printable(detail)
        line = f"{at}: {reason}: {detail}" if detail else f"{at}: {reason}"
        self._examples.setdefault(reason, f"{at} ({detail})" if detail else str(at))
        self._list("refused", at, reason, detail)
        if reason in NOT_BAD:
            return
        self._bad += 1
        if len(self._first_bad) < SHOWN:
            self._first_bad.append(line)
        if self._stop and self._bad >= SHOWN:
            raise self._bad_rows("at least ")

    def cut(self, at: Location, tokens: int) -> None:
        """Counts and lists a prompt that lost its oldest tokens."""
        self.truncated += 1
        self.most_cut = max(self.most_cut, tokens)
        self._list("truncated", at, "too_long", f"{tokens} tokens cut from the prompt's left")

    def finish(self) -> None:
        """To be called when the last row was read.

        Raises:
            DataError: there was a bad row and ``bad_rows=error``; or no row is left.
        """
        self.complete = True  # every row was read
        if self._stop and self._bad:
            raise self._bad_rows("")
        if not self.kept.total():
            if not self.read:
                raise DataError(f"dataset {self.dataset} has no rows")
            examples = "\n  ".join(self._reasons())
            raise DataError(f"dataset {self.dataset}: none of {self.read:,} rows can be used:\n  {examples}")

    def summary(self) -> list[str]:
        """A few lines for a person."""
        splits = ", ".join(f"{split} {self.kept[split]:,}" for split in SPLITS)
        kept = f"{self.kept.total():,} {'examples made' if self.kept.total() > self.read else 'kept'}"
        lines = [f"dataset {self.dataset}: {self.read:,} rows read, {kept} ({splits})"]
        if self.combined:
            lines.append(f"  {self.combined:,} more votes on the same pairs are combined with these")
        if self.refused:
            lines.append(f"  left out {self.refused.total():,}:")
            lines += [f"    {line}" for line in self._reasons()]
        if self.truncated:
            lines.append(
                f"  cut {self.truncated:,} prompts from the left, by {self.most_cut:,} tokens at most"
            )
        return lines

    def write(self, path: Path) -> None:
        """``data_report.json``: the counts, then a list of every row that was refused or cut."""
        head: dict[str, Any] = {
            "dataset": self.dataset,
            "complete": self.complete,
            "read": self.read,
            "kept": self.kept.total(),
            "combined": self.combined,
            "splits": {split: self.kept[split] for split in SPLITS},
            "refused": dict(self.refused.most_common()),
            "truncated": self.truncated,
            "most_tokens_cut": self.most_cut,
        }
        self._rows.seek(0)
        with written_aside(path) as file:
            text = json.dumps(head, indent=2, ensure_ascii=False)
            file.write(text.removesuffix("\n}").encode("utf-8", "backslashreplace"))
            file.write(b',\n  "rows": [')
            for number, row in enumerate(self._rows):
                file.write(b",\n    " if number else b"\n    ")
                file.write(row.rstrip(b"\n"))
            file.write(b"\n  ]\n}\n")
        self._rows.seek(0, 2)

    def _list(self, action: str, at: Location, reason: str, detail: str) -> None:
        row = {"action": action, "path": at.path, "line": at.line, "reason": reason, "detail": detail}
        self._rows.write(json.dumps(row).encode() + b"\n")

    def _reasons(self) -> list[str]:
        lines = [
            f"{reason} {count:,}, first at {self._examples[reason]}"
            for reason, count in self.refused.most_common(SHOWN)
        ]
        more = len(self.refused) - SHOWN
        return [*lines, f"and {more} more reasons"] if more > 0 else lines

    def _bad_rows(self, least: str) -> DataError:
        rows = "\n  ".join(self._first_bad)
        return DataError(
            f"dataset {self.dataset}: {least}{self._bad} bad rows and dataset.bad_rows=error:\n  {rows}\n"
            f"Mend them, or go on without them: dataset.bad_rows=drop"
        )


def _printable(text: str) -> str:
    """What a row says about itself, fit for a terminal: short, no control characters or halves of one."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:400])
    return shown if len(text) <= 400 else shown + "..."

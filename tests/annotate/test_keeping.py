"""The records of a run while annotating goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from desks import office

from align.annotate.keeping import records_written
from align.errors import DataError
from align.pairs.records import RECORDS, read_records


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_new_answers_are_in_the_folder_before_the_end(tmp_path: Path) -> None:
    with office(items=4) as here, records_written(here.desk, tmp_path, every=0.01):
        here.enrol("ann")
        for count in (1, 2):
            here.work("ann", 1)
            _until(lambda count=count: len(_there(tmp_path)) == count)  # type: ignore[misc]
        before = (tmp_path / RECORDS).stat().st_mtime_ns
        time.sleep(0.1)
        assert (tmp_path / RECORDS).stat().st_mtime_ns == before, "nothing new, nothing written"


def _there(folder: Path) -> list[object]:
    """What can be read; nothing while it is being replaced."""
    try:
        return list(read_records(folder))
    except (DataError, FileNotFoundError):
        return []


def test_a_folder_that_cannot_be_written_to_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    with (
        caplog.at_level(logging.WARNING),
        office(items=4) as here,
        records_written(here.desk, tmp_path / "taken", every=0.01),
    ):
        here.enrol("ann")
        here.work("ann", 1)
        _until(lambda: "the records were not written" in caplog.text)
        (tmp_path / "taken").unlink()
        _until(lambda: len(_there(tmp_path / "taken")) == 1)

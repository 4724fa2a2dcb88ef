"""What a command writes into a README, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import DataError
from experiments.page import END, begin, publish, spliced


def test_what_stands_around_the_block_stays() -> None:
    once = spliced(f"before\n{begin('one')}\nold\n{END}\nafter\n", "one", "new")
    assert once == f"before\n{begin('one')}\n\nnew\n\n{END}\nafter\n"
    assert spliced(once, "one", "new") == once


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no lines"):
        spliced(f"{begin('another')}\n{END}\n", "one", "new")
    publish(tmp_path, "one", "new")
    assert list(tmp_path.iterdir()) == [], "a folder without a README gets none"

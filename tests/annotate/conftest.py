"""Every desk of these tests draws alike: what an annotator meets among few items is the same each time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _draws_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.annotate.database.new_secret", lambda: "5e" * 32)

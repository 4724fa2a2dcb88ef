"""What the tests of this room share."""

from __future__ import annotations

import pytest
from byte_chat import Reader


@pytest.fixture
def read(tmp_path):
    return Reader(tmp_path / "run")

"""How much memory a process took at most, above what its imports took. Linux: read from /proc."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def level() -> float:
    """Resident memory now, in MB (10^6 bytes), from which on the peak is counted anew."""
    try:
        _CLEAR.write_text("5")  # sets VmHWM back to VmRSS (man 5 proc)
    except OSError as error:
        # a peak of the imports themselves would be taken for the work's
        raise OSError(
            f"{_CLEAR} cannot be written, and memory cannot be measured without: {error}"
        ) from error
    return _megabytes("VmRSS")


def peak() -> float:
    """Most resident memory since ``level``, in MB."""
    return _megabytes("VmHWM")


def _megabytes(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    assert found, f"{_STATUS} has no {name}"
    return int(found[1]) * 1024 / 1e6

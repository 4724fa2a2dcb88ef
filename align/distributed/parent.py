"""No orphans: a process that ends with the one that started it, even where that one is killed by SIGKILL."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None, by: int = signal.SIGKILL) -> None:
    """From now on a signal ends this process when its parent's thread that started it ends. Linux only.

    ``by`` is that signal: SIGTERM lets it save.

    ``parent`` is the process that should be there: where another has taken its place already (it died
    before this call), this process ends here. Elsewhere than on Linux nothing is done: ``Pulse`` looks.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)

"""How a command answers its shell: an exit code, and one message where it stops at a mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from align.errors import AlignError, StoppedElsewhere


def answered(work: Callable[[], int | None]) -> int:
    """Does some work; returns its exit code (0, or that of the ``AlignError`` that stopped it)."""
    try:
        return work() or 0
    except StoppedElsewhere as error:
        return error.exit_code  # the rank that stopped says why
    except AlignError as error:
        print(f"align: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("align: stopped by the keyboard", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # A reader such as `head` closed our output; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141

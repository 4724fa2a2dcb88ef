"""``python -m align stage=dpo``: compose, type, run; every mistake is one message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from align.errors import AlignError, StoppedElsewhere


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (0, or that of the ``AlignError`` that stopped it)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from align.help import help_text

    if {"-h", "--help", "help"} & set(arguments):
        print(help_text())
        return 0
    return answered(lambda: _obey(arguments))


def _obey(arguments: Sequence[str]) -> int:
    from align.distributed.by_hand import as_rank, is_rank, refuse_sweep

    is_swept = bool({"-m", "--multirun"} & set(arguments))
    words = [word for word in arguments if word not in ("-m", "--multirun")]
    if is_rank(words):
        return as_rank(lambda: refuse_sweep(words) if is_swept else _run(words))
    if is_swept:
        from align.sweep import sweep

        return sweep(words)
    _run(words)
    return 0


def _run(words: Sequence[str]) -> None:
    from align.compose import run_from
    from align.distributed.by_hand import watching
    from align.distributed.start import start

    run = run_from(words, ["python", "-m", "align", *words])
    with watching(run.launch):
        start(run)


def answered(work: Callable[[], int | None]) -> int:
    """The exit code of some work, its error told in one message where it stops at one."""
    try:
        return work() or 0
    except StoppedElsewhere as error:
        return error.exit_code  # the rank that failed tells of it
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


if __name__ == "__main__":
    sys.exit(main())

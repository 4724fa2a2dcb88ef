"""``python -m align stage=dpo``: compose, type, run; every mistake is one message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from align.errors import AlignError, StoppedElsewhere


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (0, or that of the ``AlignError`` that stopped it)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from align.help import help_text

    if {"-h", "--help", "help"} & set(arguments):
        print(help_text())
        return 0
    try:
        if {"-m", "--multirun"} & set(arguments):
            from align.sweep import sweep

            return sweep([word for word in arguments if word not in ("-m", "--multirun")])
        from align.compose import run_from

        run = run_from(arguments, ["python", "-m", "align", *arguments])
        run.execute()
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
    return 0


if __name__ == "__main__":
    sys.exit(main())

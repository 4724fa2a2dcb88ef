"""``python -m align stage=dpo``: compose, type, run; every mistake is one message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from align.answer import answered

SPINS = "10000"
"""How often a thread that waits for the others looks again before it sleeps; libgomp's own is 300,000.

Where something else has taken a core, all wait for the thread that should run there: beside one busy process
a training on two cores fell from 130 examples a second to 5, and with so many spins to 19. On a free machine
it took about a twentieth longer (medians of six rounds: 133 against 140), less than rounds differ.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (0, or that of the ``AlignError`` that stopped it)."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read once, when torch is imported
    arguments = list(sys.argv[1:] if argv is None else argv)
    from align.help import help_text

    if {"-h", "--help", "help"} & set(arguments):
        print(help_text())
        return 0
    return answered(lambda: _obey(arguments))


def _obey(arguments: Sequence[str]) -> int:
    from align.distributed.by_hand import as_rank, is_rank, refuse_sweep
    from align.overrides import in_our_words

    is_swept = bool({"-m", "--multirun"} & set(arguments))
    words = in_our_words([word for word in arguments if word not in ("-m", "--multirun")])
    if is_rank(words):
        return as_rank(lambda: refuse_sweep(words) if is_swept else _run(words))
    if is_swept:
        from align.sweeps.course import sweep

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


if __name__ == "__main__":
    code = main()
    from align.distributed.rank import end

    end(code)

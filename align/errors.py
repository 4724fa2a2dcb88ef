"""What this project raises: one tree under ``AlignError``, each also a standard exception.

A message says what is wrong, where, and what to type instead; it is printed without a traceback.
``exit_code`` is what ``python -m align`` exits with (documented in the README).
"""

from __future__ import annotations


class AlignError(Exception):
    """Anything this project refuses or stops at on purpose."""

    exit_code = 1


class ConfigError(AlignError, ValueError):
    """The config is wrong: a typo, a wrong type, a value out of range, options that exclude each other."""

    exit_code = 2


class DataError(AlignError, ValueError):
    """The data cannot be used: bad rows under ``bad_rows=error``, no usable row, a missing file."""

    exit_code = 3


class EmptySplit(DataError):
    """A split of the data holds no prompt; whoever can do without it goes on."""


class BadRow(AlignError, ValueError):
    """One row cannot make a record. Raised by a dataset's ``record``, caught and counted by the reader.

    ``reason`` is a short word for the count (``empty_reply``); ``detail`` is what the report shows.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Refused(AlignError, ValueError):
    """An annotator's request cannot be met; nothing was changed.

    ``reason`` is a short word: ``bad_answer``, ``unknown_annotator``, ``unknown_assignment``,
    ``nothing_to_undo``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class StoreError(AlignError, RuntimeError):
    """The database of annotations cannot be opened: not there, another version, of another program."""

    exit_code = 3


class ModelError(AlignError, RuntimeError):
    """A model, tokenizer or adapter cannot be loaded, built or used as asked."""

    exit_code = 4


class ServerError(AlignError, ConnectionError):
    """A model behind a server cannot be reached, refuses what it is asked, or answers what cannot be read."""

    exit_code = 4


class CheckpointError(AlignError, RuntimeError):
    """No checkpoint is whole, or one does not fit the run that wants to continue from it."""

    exit_code = 5


class NonFiniteError(AlignError, FloatingPointError):
    """A loss, gradient, parameter or score is NaN or infinite; the run stops before it is used."""

    exit_code = 6


class OutOfMemoryError(AlignError, MemoryError):
    """The device ran out of memory; the message says which settings to lower."""

    exit_code = 7


class AlarmError(AlignError):
    """An alarm was raised under ``alarms=stop``: the step was finished and saved."""

    exit_code = 8


class NotReproduced(AlignError):
    """A run that was done again has other numbers, and nothing that has changed explains them."""

    exit_code = 10


class Terminated(AlignError):
    """SIGTERM arrived: the step was finished and saved. 143 = 128 + SIGTERM, what schedulers expect."""

    exit_code = 143


class StoppedElsewhere(AlignError):
    """Another rank of this run stopped, and says why; this one ends with the same exit code, in silence."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RankError(AlignError, RuntimeError):
    """A rank failed, was killed, left early or hung, and the others were ended with it.

    ``exit_code`` is the failed rank's own where it stopped at an ``AlignError``.
    """

    exit_code = 9

    def __init__(self, message: str, exit_code: int = 9) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RanksDiffer(AlignError, ValueError):
    """The ranks of a run do not work on the same: other data, settings, versions or seed."""

    exit_code = 2

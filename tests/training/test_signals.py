from __future__ import annotations

import os
import signal

import pytest

from align.errors import Terminated
from align.training.signals import sigterm_noted, sigterm_raised


def test_a_noted_sigterm_waits_for_the_end_of_the_step() -> None:
    steps = []

    def train() -> None:
        with sigterm_raised(), sigterm_noted() as arrived:
            for step in range(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                steps.append(step)
                if arrived():
                    raise Terminated("saved")

    with pytest.raises(Terminated, match="saved"):
        train()
    assert steps == [0, 1, 2]


def test_a_sigterm_that_nobody_asked_about_any_more_is_not_lost() -> None:
    """It arrived during the last save, say: the pipeline around must not go on with its next step."""

    def train() -> None:
        with sigterm_raised(), sigterm_noted() as arrived:
            assert not arrived()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated, match="resume=true"):
        train()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_raised():
        ours = signal.getsignal(signal.SIGTERM)
        with sigterm_noted():
            assert signal.getsignal(signal.SIGTERM) not in (before, ours)
        assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is before

"""A training that is killed by SIGKILL at its n-th file operation, and resumed. A program of its own.

    python killed_training.py FOLDER STRIDE

kills at operations 1, 1 + STRIDE, ..., each time kills the resumed sitting too, soon after it began, resumes
again, and compares with an unbroken training.

torch is imported once; each sitting is a fork. Operations are counted where Python itself announces them
(opening, renaming, making, removing) and at each fsync: new ones in the saving code are hit unnamed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from toy_training import fit, lines, make_model, same_bits, weights

from align.settings import TrainingSettings
from align.training import checkpoints

SETTINGS = TrainingSettings(
    max_steps=5, batch_size=8, learning_rate=0.05, log_every=2, save_every=1, keep_checkpoints=1
)
AUDITED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "shutil.rmtree"}


def sit(directory: Path) -> None:
    """One sitting: trains to the end, from wherever it was; leaves the final weights."""
    model = make_model()
    fit(directory, settings=SETTINGS, model=model, resume=True)
    torch.save(weights(model), directory / "final.pt")


def kill_at(number: int, directory: Path) -> None:
    """Arms this process: SIGKILL right before its ``number``-th operation in the folder."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in AUDITED and str(directory) in str(arguments[0]):
            count()

    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        count()
        real_fsync(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


def forked(directory: Path, kill: int | None) -> int:
    """Status of a sitting in a child process: 0, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if kill is not None:
            kill_at(kill, directory)
        sit(directory)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def require_whole(directory: Path, number: int) -> None:
    folder = directory / "checkpoints"
    for step in checkpoints.steps_in(folder):
        problem = checkpoints.damage(checkpoints.folder_of(folder, step))
        assert problem is None, f"killed at operation {number}: step {step} is not whole: {problem}"


def compare(directory: Path, whole: Path, number: int) -> None:
    assert forked(directory, None) == 0, f"killed at operation {number}: cannot be resumed"
    assert lines(directory) == lines(whole), f"killed at operation {number}: another trace"
    ours, theirs = (torch.load(one / "final.pt", weights_only=True) for one in (directory, whole))
    assert same_bits(ours, theirs), f"killed at operation {number}: other weights"


def main(folder: Path, stride: int) -> None:
    whole = folder / "whole"
    sit(whole)  # in this process: what torch imports late is then there in every fork
    number, kills = 1, 0
    while True:
        directory = folder / f"killed-at-{number}"
        status = forked(directory, number)
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"operation {number}: exit status {status}"
        require_whole(directory, number)
        forked(directory, 1 + number % 40)
        require_whole(directory, number)
        compare(directory, whole, number)
        shutil.rmtree(directory)
        number, kills = number + stride, kills + 1
    print(f"{kills} kills over {number - 1} operations")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

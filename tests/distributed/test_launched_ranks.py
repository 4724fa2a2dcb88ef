"""Two ranks on this machine: they start, work together, and none outlives the other's death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from align.distributed.watch import is_alive

ROOT = Path(__file__).resolve().parents[2]
GRACE = 15
"""Seconds within which all ranks end once one has died or hung."""


@dataclass
class Command:
    """``launched.py`` at work in a process of its own."""

    process: subprocess.Popen[str]
    folder: Path

    def finish(self) -> tuple[int, str]:
        """Exit code and what was said on the standard error."""
        _, said = self.process.communicate(timeout=180)
        return self.process.returncode, said

    def ranks(self) -> dict[int, int]:
        """Process ids of the ranks that have begun their work."""
        files = self.folder.glob("rank-*.txt")
        return {int(one.stem[5:]): int(text.split()[0]) for one in files if (text := one.read_text())}

    def wait_for_step(self, step: int) -> None:
        """Until the ranks have taken a step."""
        until = time.monotonic() + 120
        while str(step) not in self.steps():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)

    def steps(self) -> list[str]:
        """The steps that were taken."""
        file = self.folder / "steps.txt"
        return file.read_text().split() if file.exists() else []

    def none_is_left(self, within: float = 5.0) -> bool:
        """Whether every process of it is gone, in a moment."""
        until = time.monotonic() + within
        pids = [*self.ranks().values(), *(int(one.read_text()) for one in self.folder.glob("child"))]
        assert pids
        while any(map(is_alive, pids)):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


class Launched:
    """Starts commands, and leaves nothing behind when a test fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Command] = []

    def __call__(self, *words: str, launcher: tuple[str, ...] = ("launch.nproc=2",)) -> Command:
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        env = {**os.environ, "PYTHONPATH": path, "CHILD_FILE": str(self.folder / "child")}
        del env["OMP_NUM_THREADS"]
        own = [word for word in launcher if word.startswith("launch.")]
        before = [word for word in launcher if not word.startswith("launch.")]
        script = [str(ROOT / "tests" / "distributed" / "launched.py"), str(self.folder / "run")]
        command = [sys.executable, *before, *script, f"launch.grace={GRACE}", *own, *words]
        process = subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.started.append(Command(process, self.folder))
        return self.started[-1]


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    launch = Launched(tmp_path)
    yield launch
    for command in launch.started:
        if command.process.poll() is None:
            command.process.kill()
        for pid in command.ranks().values():
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


@pytest.mark.medium
def test_ranks_work_together_and_share_the_cores(launched: Launched, tmp_path: Path) -> None:
    command = launched()
    code, said = command.finish()
    assert code == 0, said
    assert command.steps() == ["1", "2", "3", "4"], "rank 0 alone writes, a line a step"
    texts = [(tmp_path / f"rank-{rank}.txt").read_text().split() for rank in (0, 1)]
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    assert [text[1:] for text in texts] == [["2", str(cores)]] * 2
    assert texts[0][0] != texts[1][0]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["state"], record["config"]["launch"]["nproc"]) == ("completed", 2)


@pytest.mark.medium
@pytest.mark.parametrize("launcher", [("launch.nproc=2",), TORCHRUN], ids=["own", "torchrun"])
def test_work_that_is_done_is_not_lost_to_how_a_rank_ends(
    launcher: tuple[str, ...], launched: Launched, tmp_path: Path
) -> None:
    code, said = launched("work.what=spoil", launcher=launcher).finish()
    assert code == 0, said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "completed"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("what", "code", "told"),
    [
        ("refuse", 6, ["align: rank 1 of 2: the loss is NaN at this step"]),
        ("raise", 1, ["rank 1 of 2 failed", "ZeroDivisionError: the test divides by nothing", "in _raise"]),
        ("die", 9, ["rank 1 of 2: was killed by SIGKILL", "the last words"]),
        ("vanish", 9, ["rank 1 of 2: exited with code 0 before its work was done"]),
        pytest.param("leave", 1, ["rank 1 of 2 failed", "SystemExit"], marks=pytest.mark.slow),
        pytest.param("fork", 9, ["rank 1 of 2: was killed by SIGKILL"], marks=pytest.mark.slow),
    ],
)
def test_one_rank_that_falls_ends_all_and_is_named(
    what: str, code: int, told: list[str], launched: Launched, tmp_path: Path
) -> None:
    command = launched(f"work.what={what}", "work.steps=100000")
    command.wait_for_step(1)
    began = time.monotonic()
    returned, said = command.finish()
    assert time.monotonic() - began < GRACE
    assert returned == code, said
    for words in told:
        assert words in said
    assert "rank 0" not in said
    assert command.none_is_left()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "failed"
    assert record["error"] in said, "run.json names the same rank"


@pytest.mark.slow
@pytest.mark.parametrize(("what", "why"), [("stop", "no sign of life"), ("sleep", "did not move")])
@pytest.mark.parametrize("launcher", [("launch.nproc=2",), TORCHRUN], ids=["own", "torchrun"])
def test_a_rank_that_hangs_is_named_with_its_stack(
    what: str, why: str, launcher: tuple[str, ...], launched: Launched
) -> None:
    command = launched(f"work.what={what}", "work.steps=100000", launcher=launcher)
    command.wait_for_step(1)
    began = time.monotonic()
    code, said = command.finish()
    assert time.monotonic() - began < GRACE + 2, "and the time that torchrun itself takes to end"
    assert code == (9 if launcher != TORCHRUN else 1), said
    assert "rank 1 of 2 hung" in said
    assert why in said
    assert f"in _{what}" in said
    assert command.none_is_left()


@pytest.mark.slow
def test_one_that_turns_in_circles_is_shown_when_the_others_give_up(launched: Launched) -> None:
    """It moves, so it does not hang; what bounds it is the others' patience in their collective."""
    command = launched("work.what=spin", "work.steps=100000", "launch.timeout=8")
    command.wait_for_step(1)
    code, said = command.finish()
    assert code == 1, said
    assert "rank 0 of 2 failed" in said
    assert "rank 1 was at: step 2 of 100000" in said
    assert "in _spin" in said
    assert command.none_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compute", "hold"])
def test_a_long_computation_is_no_hang(what: str, launched: Launched) -> None:
    """It is longer than a rank may stand still, in calls that let nothing in Python move."""
    command = launched(f"work.what={what}")
    code, said = command.finish()
    assert code == 0, said
    assert command.steps() == ["1", "2", "3", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [("launch.nproc=2",), TORCHRUN], ids=["own", "torchrun"])
def test_no_rank_outlives_the_launcher(launcher: tuple[str, ...], launched: Launched) -> None:
    command = launched("work.steps=100000", launcher=launcher)
    command.wait_for_step(2)
    command.process.kill()
    assert command.none_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["nothing", "stop"])
def test_sigterm_reaches_the_ranks_which_save_first(what: str, launched: Launched) -> None:
    """One that cannot is killed in time."""
    command = launched(f"work.what={what}", "work.step=3", "work.steps=100000")
    command.wait_for_step(2)
    began = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    code, said = command.finish()
    assert time.monotonic() - began < GRACE + 2
    assert command.none_is_left()
    if what == "nothing":
        assert code == 143, said
        assert f"SIGTERM: step {command.steps()[-1]} is saved" in said


@pytest.mark.slow
def test_the_keyboard_ends_the_ranks_too(launched: Launched) -> None:
    """Each rank has a session of its own, so that a terminal's ctrl-C reaches the parent alone."""
    command = launched("work.steps=100000")
    command.wait_for_step(2)
    command.process.send_signal(signal.SIGINT)
    code, said = command.finish()
    assert code == 130, said
    assert "stopped by the keyboard" in said
    assert "Traceback" not in said
    assert command.none_is_left()


ACCELERATE = (
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
)
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no")


@pytest.mark.slow
def test_ranks_of_accelerate_work_together(launched: Launched) -> None:
    command = launched(launcher=ACCELERATE)
    code, said = command.finish()
    assert code == 0, said
    assert sorted(command.ranks()) == [0, 1]
    assert command.steps() == ["1", "2", "3", "4"]


@pytest.mark.medium
def test_ranks_of_torchrun_stop_by_one_message(launched: Launched) -> None:
    command = launched("work.what=refuse", launcher=TORCHRUN)
    code, said = command.finish()
    assert code == 1, "torchrun's own"
    assert said.count("the loss is NaN at this step") == 1
    assert "exitcode  : 6" in said, "torchrun finds the culprit too"
    assert command.none_is_left()


def test_a_process_that_is_gone_is_told_from_one_that_is_there() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert is_alive(process.pid)
    process.kill()
    until = time.monotonic() + 5
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
    assert not is_alive(process.pid)
    process.wait()
    assert not is_alive(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["nothing", "refuse"])
def test_two_nodes_meet_and_end_together(what: str, launched: Launched, tmp_path: Path) -> None:
    """Both are this machine: each is a command of its own, with one rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"launch.rendezvous=127.0.0.1:{free.getsockname()[1]}"
    steps = "4" if what == "nothing" else "100000"
    words = (f"work.what={what}", f"work.steps={steps}", "launch.nodes=2", meeting)
    nodes = [launched(*words, launcher=(f"launch.node_rank={rank}",)) for rank in (0, 1)]
    (first, said), (second, told) = nodes[0].finish(), nodes[1].finish()
    assert {int(text.split()[1]) for text in (one.read_text() for one in tmp_path.glob("rank-*.txt"))} == {2}
    if what == "nothing":
        assert (first, second) == (0, 0), said + told
        assert nodes[0].steps() == ["1", "2", "3", "4"]
    else:
        assert first != 0, "its rank lost the other one"
        assert second == 6, told
        assert "the loss is NaN at this step" in told
    assert nodes[0].none_is_left()

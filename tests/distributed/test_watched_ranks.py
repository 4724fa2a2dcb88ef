"""Who hangs, by the signs of life that ranks give; and who a run fell by, by what they left."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from held_threads import held_thread

from align.distributed import pulse
from align.distributed.failures import Failure, culprit, read_failure, write_done, write_failure
from align.distributed.pulse import Beat, Pulse, at_work, beat_file, excused, mark, process_state, read_beat
from align.distributed.settings import LaunchSettings
from align.distributed.verdict import Ends, verdict
from align.distributed.watch import Outside, main_thread, stuck, where
from align.distributed.watcher import Hung, Watcher
from align.errors import DataError, RankError, StoppedElsewhere, Terminated


def beat(at: float = 100.0, quiet: float = 0.0, waits: str = "") -> Beat:
    return Beat(pid=1, thread=2, at=at, quiet=quiet, waits=waits, place="align/x.py:3 in f", mark="step 4")


@pytest.mark.parametrize(
    ("beats", "rank"),
    [
        ({0: beat(), 1: beat()}, None),
        ({0: beat(at=100), 1: beat(at=89)}, 1),  # silent for 11 s
        ({0: beat(at=100), 1: beat(at=91)}, None),
        ({0: beat(quiet=11), 1: beat()}, 0),
        ({0: beat(quiet=11, waits="other ranks"), 1: beat()}, None),
        ({0: beat(quiet=900, waits="other ranks"), 1: beat(quiet=10.5)}, 1),
        ({0: beat(quiet=12), 1: beat(at=85)}, 1),  # the longer of two
        ({0: beat(), 1: None}, 1),  # never gave a sign, and was started 20 s ago
    ],
)
def test_who_hangs(beats: dict[int, Beat | None], rank: int | None) -> None:
    found = stuck(beats, now=100.0, since=80.0, limit=10.0)
    assert (found.rank if found else None) == rank


def test_a_rank_has_time_to_begin() -> None:
    assert stuck({0: None}, now=100.0, since=95.0, limit=10.0) is None


def test_what_was_before_the_watch_began_is_held_against_nobody() -> None:
    assert stuck({0: beat(at=70), 1: beat(quiet=30)}, now=100.0, since=95.0, limit=10.0) is None


def test_a_machine_that_stood_still_is_no_hang(tmp_path: Path) -> None:
    """Signs of life and the watch stop for a minute at once; a rank that is silent from then on hangs."""
    silent = subprocess.Popen(["sleep", "600"])
    try:
        watcher = Watcher(tmp_path, LaunchSettings(nproc=1, grace=10))
        start = time.monotonic()
        sign = replace(beat(at=start), pid=silent.pid)
        beat_file(tmp_path, 0).write_text(json.dumps(asdict(sign)))
        for second in (0, 1, 2, 62, 63, 64, 65, 66, 67, 68):
            watcher._look(start + second)
            assert watcher.hung is None, second
        for second in (69, 70):
            watcher._look(start + second)
        assert watcher.hung is not None
        assert watcher.hung.why.startswith("gave no sign of life for 8 s")
        assert silent.wait(PATIENCE) == -signal.SIGKILL
    finally:
        silent.kill()
        silent.wait()


def test_a_process_at_work_is_alive_without_a_sign() -> None:
    """Its beats are 20 s old; from outside it is seen to compute, a sleeping one is not."""
    works = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sleeps = subprocess.Popen(["sleep", "600"])
    try:
        while process_state(sleeps.pid) != "S":  # it still reads its libraries, which is work
            time.sleep(0.1)
        outside, now = Outside(), time.monotonic()
        beats = {rank: replace(beat(at=now - 1000), pid=one.pid) for rank, one in enumerate((works, sleeps))}
        outside.refreshed(beats, now)
        until = now + PATIENCE
        while outside.moved(works.pid, time.monotonic()) == 0.0:
            assert time.monotonic() < until
            time.sleep(0.1)
        found = stuck(
            outside.refreshed(beats, time.monotonic()), time.monotonic(), now - 2000, limit=PATIENCE + 500
        )
    finally:
        works.kill()
        sleeps.kill()
        works.wait()
        sleeps.wait()
    assert found is not None
    assert found.rank == 1


def test_a_wait_for_the_network_is_not_held_against_a_rank(tmp_path: Path) -> None:
    """A thread of the main one's pool reads from a socket that says nothing."""
    one, other = socket.socketpair()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: one.makefile().readline())
        with Pulse(tmp_path, rank=0):
            until = time.monotonic() + PATIENCE
            while "the network" not in (read_beat(tmp_path, 0) or beat()).waits:
                assert time.monotonic() < until
                time.sleep(0.05)
        other.close()
        asked.result()
    one.close()


def test_where_a_rank_was_is_said_in_words() -> None:
    assert where(None) == "had not begun"
    assert where(beat(waits="a server")) == "step 4, align/x.py:3 in f, waiting for a server"


def test_the_main_threads_frames_are_taken_from_a_dump_of_all(tmp_path: Path) -> None:
    """The dump is a real one of this process, from another thread than the main one."""
    with held_thread(), (tmp_path / "dump").open("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text = file.read()
    assert "stands_here" in text
    mine = main_thread(text, threading.main_thread().ident or 0)
    assert "stands_here" not in mine
    assert "test_the_main_threads_frames" in mine
    assert main_thread("", 3) == ""


class Recorded(Pulse):
    """A pulse that keeps its signs, and tells of the first one that the test waits for."""

    def __init__(self, folder: Path, wanted: Callable[[Beat], bool]) -> None:
        super().__init__(folder, rank=3)
        self.folder = folder
        self.beats: list[Beat] = []
        self.seen = threading.Event()
        self._wanted = wanted

    def _beat(self) -> None:
        super()._beat()
        found = read_beat(self.folder, 3)
        assert found is not None
        self.beats.append(found)
        if self._wanted(found):
            self.seen.set()


PATIENCE = 120.0
"""Seconds that a test waits for what must come, on however slow a machine."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PERIOD", 0.1)


def test_a_main_thread_that_waits_is_quiet_for_ever_longer(tmp_path: Path) -> None:
    with Recorded(tmp_path, lambda one: one.quiet > 0.5) as alive:
        assert alive.seen.wait(PATIENCE)
    still = [one for one in alive.beats if one.quiet > 0]
    assert [one.quiet for one in still] == sorted(one.quiet for one in still)
    assert still[-1].waits == ""


def in_this_process() -> None:
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 100_000)


def in_a_process_of_its_own() -> None:
    words = [sys.executable, "-c", "import time\nwhile time.process_time() < 1:\n    sum(range(10_000))"]
    subprocess.run(words, check=True)


@pytest.mark.parametrize("work", [in_this_process, in_a_process_of_its_own])
def test_a_main_thread_for_which_somebody_computes_is_not_quiet(
    work: Callable[[], None], tmp_path: Path
) -> None:
    """It waits in one place for a thread of its own: what that uses of the processor counts as movement."""
    before = [0.0]

    def moves_again(one: Beat) -> bool:
        fell = one.quiet == 0 and before[0] > 0
        before[0] = one.quiet
        return fell

    with Recorded(tmp_path, moves_again) as alive:

        def compute() -> None:
            while not before[0]:
                time.sleep(0.01)
            while not alive.seen.is_set():
                work()

        worker = threading.Thread(target=compute)
        worker.start()
        seen = alive.seen.wait(PATIENCE)
        alive.seen.set()
        worker.join()
    assert seen


def test_a_call_between_two_signs_that_lets_no_thread_run_is_work(tmp_path: Path) -> None:
    """Both find the main thread in the same place."""
    alive = Pulse(tmp_path, rank=0)
    for _ in range(2):
        alive._beat()
        until = time.process_time() + 0.4
        while time.process_time() < until:
            sum(range(100_000))
    found = read_beat(tmp_path, 0)
    assert found is not None
    assert found.quiet == 0


def test_a_thread_that_wakes_up_now_and_then_is_not_at_work() -> None:
    assert not at_work(0.002 * 40, 40)
    assert at_work(0.03 * 40, 40)
    assert not at_work(0.0, 0.0)


def test_what_the_code_says_of_itself_stands_in_its_signs(tmp_path: Path) -> None:
    mark("dpo, step 3 of 6")
    with Recorded(tmp_path, lambda one: one.waits == "a server") as alive, excused("a server"):
        assert alive.seen.wait(PATIENCE)
    last = next(one for one in alive.beats if one.waits == "a server")
    assert last.mark == "dpo, step 3 of 6"
    assert last.place.startswith("tests/distributed/test_watched_ranks.py:")
    mark("")


def test_a_failure_is_written_down_with_what_it_is(tmp_path: Path) -> None:
    for rank, error in enumerate((DataError("no row"), StoppedElsewhere("rank 0 did", 3), SystemExit(0))):
        write_failure(tmp_path, rank, error)
    found = [read_failure(tmp_path, rank) for rank in range(3)]
    assert all(found)
    told = [(one.exit_code, one.is_told, one.is_consequence) for one in found if one]
    assert told == [(3, True, False), (3, True, True), (1, False, False)]
    assert read_failure(tmp_path, 7) is None


def failure(rank: int, when: float, message: str = "no", consequence: bool = False) -> Failure:
    return Failure(rank, when, message, 1, is_told=True, is_consequence=consequence)


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        ([failure(0, 1.0, consequence=True), failure(1, 2.0)], 1),
        ([failure(0, 2.0, "mine"), failure(1, 1.0, "other")], 1),
        ([failure(0, 2.0), failure(1, 1.0)], 0),  # the same words: the lowest rank's
        ([failure(0, 2.0, "late", True), failure(1, 1.0, "lost", True)], 1),
    ],
)
def test_the_first_that_is_no_consequence_is_the_culprit(failures: list[Failure], rank: int) -> None:
    assert culprit(failures).rank == rank


def ends(
    codes: dict[int, int],
    gone: dict[int, float] | None = None,
    hung: Hung | None = None,
    stopped: signal.Signals | None = None,
    killed: tuple[int, ...] = (),
) -> Ends:
    return Ends(2, range(2), codes, hung, gone or {}, set(killed), stopped)


def test_ranks_that_did_their_work_are_no_failure(tmp_path: Path) -> None:
    for rank in range(2):
        write_done(tmp_path, rank)
    assert verdict(tmp_path, ends({})) is None


def test_one_that_is_killed_is_named_before_those_that_lost_it(tmp_path: Path) -> None:
    write_failure(tmp_path, 0, StoppedElsewhere("the connection was closed", 1))
    found = verdict(tmp_path, ends({0: 1, 1: -signal.SIGKILL}, gone={1: 5.0}))
    assert isinstance(found, RankError)
    assert str(found).startswith("rank 1 of 2: was killed by SIGKILL")
    assert found.exit_code == 9


def test_the_last_words_of_one_that_died_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "id_0" / "attempt_0" / "1" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {i}\n" for i in range(40)))
    told = str(verdict(tmp_path, ends({1: -signal.SIGSEGV}, gone={1: 5.0})))
    assert "SIGSEGV" in told
    assert "line 39" in told
    assert "line 20" not in told


def test_a_failed_ranks_exit_code_is_the_runs(tmp_path: Path) -> None:
    write_failure(tmp_path, 0, StoppedElsewhere("rank 1 did", 3))
    write_failure(tmp_path, 1, DataError("no row is left"))
    found = verdict(tmp_path, ends({0: 3, 1: 3}))
    assert isinstance(found, RankError)
    assert (str(found), found.exit_code) == ("rank 1 of 2: no row is left", 3)


def test_where_all_only_waited_each_one_is_shown(tmp_path: Path) -> None:
    write_failure(tmp_path, 0, StoppedElsewhere("timed out", 1))
    (tmp_path / "beat-1.json").write_text('{"pid": 1, "thread": 1, "at": 1, "quiet": 0, "waits": "", '
                                          '"place": "mine.py:7 in loop", "mark": ""}')  # fmt: skip
    assert "rank 1 was at: mine.py:7 in loop" in str(verdict(tmp_path, ends({0: 1, 1: -9}, killed=(1,))))


def test_a_stop_that_was_asked_for_is_told_in_the_ranks_own_words(tmp_path: Path) -> None:
    for rank in range(2):
        write_failure(tmp_path, rank, Terminated("SIGTERM: step 3 of 6 is saved"))
    found = verdict(tmp_path, ends({}, stopped=signal.SIGTERM))
    assert isinstance(found, Terminated)
    assert str(found) == "SIGTERM: step 3 of 6 is saved"


def test_a_rank_that_left_before_its_work_was_done_has_failed(tmp_path: Path) -> None:
    write_done(tmp_path, 0)
    assert "rank 1 of 2: exited with code 0 before its work was done" in str(verdict(tmp_path, ends({})))


def test_a_hang_is_told_with_its_stack(tmp_path: Path) -> None:
    hung = Hung(1, "did not move for 11 s", "dpo, step 3", 'File "a.py", line 2 in sleep')
    told = str(verdict(tmp_path, ends({0: 1, 1: -9}, hung=hung)))
    assert told.startswith("rank 1 of 2 hung: it did not move for 11 s")
    assert "a.py" in told

"""A rank's sign of life: every half second, whether its main thread moves, for whoever watches the ranks.

The main thread moves where its stack has changed or somebody computes for it: its own threads, a compiler
that it waits for. That needs nothing of the code that runs, and a long step is no hang. Where it waits for
other ranks (a collective, a build that another process does), the network or the disk, those have timeouts
of their own, and the wait is not held against this rank.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from align.distributed.stacks import Frame, Stacks

PERIOD = 0.5
"""Seconds between signs of life."""

_WAITING_ROOMS = {
    "other ranks": ("/torch/distributed/", "/deepspeed/", "/torch/utils/file_baton.py", "/filelock/"),
    "the network": ("/huggingface_hub/", "/httpcore/", "/urllib3/", "/wandb/", "/socket.py", "/ssl.py"),
}
"""What a thread waits for whose innermost frame lies in these files (a build's lock is another rank's)."""

_excuses: list[str] = []
_marks: list[str] = [""]


@dataclass(frozen=True)
class Beat:
    """One sign of life."""

    pid: int
    thread: int
    """Identity of the main thread, as ``faulthandler`` names it."""
    at: float
    """Seconds of the machine's monotonic clock, which stands still while the machine sleeps."""
    quiet: float
    """Seconds for which nothing has moved."""
    waits: str
    """For what the main thread waits, where that is its right; empty where nothing excuses it."""
    place: str
    """The innermost line of this project's code."""
    mark: str
    """What the code itself said last of where it is."""


def at_work(used: float, seconds: float) -> bool:
    """Whether a process that has used so much processor time in so many seconds does something.

    Threads that only wake up now and then use less than a hundredth; one that computes on a machine with
    ten others like it uses more.
    """
    return used > 0.05 + 0.01 * seconds


def mark(text: str) -> None:
    """Says where this process is (``dpo, step 3 of 60``), for the message that names a rank that hung."""
    _marks[0] = text


@contextmanager
def excused(why: str) -> Iterator[None]:
    """Inside, the main thread may wait for something that no clock of this machine sees (a server, say).

    For waits that end by a timeout of their own.
    """
    _excuses.append(why)
    try:
        yield
    finally:
        _excuses.remove(why)


def beat_file(folder: Path, rank: int) -> Path:
    """Where a rank's newest sign of life stands."""
    return folder / f"beat-{rank}.json"


def stack_file(folder: Path, rank: int) -> Path:
    """Where a rank writes its stack when it is sent SIGUSR1."""
    return folder / f"stack-{rank}.txt"


class Pulse(threading.Thread):
    """Writes the beats of this process from its start to its end.

    Also ends this process, with whatever it has started, where its parent is gone.
    """

    def __init__(self, folder: Path, rank: int, parent: int | None = None) -> None:
        super().__init__(name="pulse", daemon=True)
        self._file = beat_file(folder, rank)
        self._parent = parent
        self._over = threading.Event()
        # kept open: the handler writes to it from wherever the process hangs
        self._asked = stack_file(folder, rank).open("w", encoding="utf-8")
        self._stacks = Stacks()
        self._quiet_since = time.monotonic()
        self._stack: tuple[Frame, ...] = ()
        self._used = _used_here()
        self._used_by_children: float | None = None

    def __enter__(self) -> Pulse:
        faulthandler.register(signal.SIGUSR1, file=self._asked, all_threads=True)
        self._beat()
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join(2 * PERIOD)

    def run(self) -> None:
        while not self._over.wait(PERIOD):
            if self._parent is not None and os.getppid() != self._parent:
                os.killpg(0, signal.SIGKILL)
            self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        main = threading.main_thread().ident or 0
        stacks = self._stacks.take()
        stack = stacks.get(main, ())
        # counted where the stack has moved, too: a long call that lets no thread run may come before the next
        used = _used_here()
        if stack != self._stack or at_work(used - self._used + self._children(), now - self._quiet_since):
            self._stack, self._quiet_since = stack, now
            self._used, self._used_by_children = used, None
        beat = Beat(
            pid=os.getpid(),
            thread=main,
            at=now,
            quiet=now - self._quiet_since,
            waits=_waits(stacks),
            place=_place(stack),
            mark=_marks[0],
        )
        aside = self._file.with_suffix(".part")
        try:
            aside.write_text(json.dumps(asdict(beat)), encoding="utf-8")
            os.replace(aside, self._file)
        except FileNotFoundError:
            self._over.set()  # the folder went with whoever watched it

    def _children(self) -> float:
        """Seconds that the started processes have used since this was first asked in this place of the code.

        Not asked while the code moves on: the answer takes a look at every process of the machine.
        """
        used = _used_by_children()
        if self._used_by_children is None:
            self._used_by_children = used
        return used - self._used_by_children


def read_beat(folder: Path, rank: int) -> Beat | None:
    """A rank's newest sign of life, or None where it has given none yet."""
    try:
        return Beat(**json.loads(beat_file(folder, rank).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _used_here() -> float:
    """Seconds of processor time that this process has used for its work."""
    import psutil

    idle = {thread.native_id for thread in _helpers()}
    used = 0.0
    for one in psutil.Process().threads():
        if one.id not in idle:
            used += one.user_time + one.system_time
    return used


def _used_by_children() -> float:
    """Seconds of processor time that the processes that this one started have used, and theirs."""
    import psutil

    used = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            used += times.user + times.system
    return used


def _helpers() -> list[threading.Thread]:
    """Threads that do no work that anything waits for: this one, a progress bar's."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.daemon and not isinstance(thread, threading._DummyThread)
    ]


def _waits(stacks: Mapping[int, Sequence[Frame]]) -> str:
    if _excuses:
        return _excuses[-1]
    helpers = {thread.ident for thread in _helpers()}
    for thread, stack in stacks.items():
        if not stack or thread in helpers:
            continue
        inner = stack[0]
        for what, rooms in _WAITING_ROOMS.items():
            if any(room in inner.file for room in rooms):
                return f"{what} ({Path(inner.file).name}:{inner.line})"
    return "the disk" if process_state(os.getpid(), threading.main_thread().native_id) == "D" else ""


def process_state(pid: int, thread: int | None = None) -> str:
    """Linux's letter for a process or one thread of it (R runs, D waits for the disk, Z is gone).

    Empty where it cannot be known.
    """
    place = Path(f"/proc/{pid}") if thread is None else Path(f"/proc/{pid}/task/{thread}")
    try:
        return (place / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _place(stack: Sequence[Frame]) -> str:
    root = str(Path(__file__).resolve().parent.parent.parent)
    for frame in stack:
        if frame.file.startswith(root) and "site-packages" not in frame.file:
            return f"{Path(frame.file).relative_to(root)}:{frame.line} in {frame.function}"
    return ""

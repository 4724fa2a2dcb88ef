"""The stacks of threads are read as they are, and reading them disturbs nothing."""

from __future__ import annotations

import threading
from pathlib import Path

from held_threads import held_thread

from align.distributed.stacks import Frame, Stacks, by_thread


def test_where_each_thread_is() -> None:
    stacks = Stacks()
    with held_thread() as thread:
        for _ in range(2):
            found = stacks.take()
            mine, others = found[threading.get_ident()], found[thread.ident or 0]
            assert mine[1] == Frame(__file__, mine[1].line, "test_where_each_thread_is")
            assert "stacks.take()" in Path(__file__).read_text().splitlines()[mine[1].line - 1]
            assert "stands_here" in [one.function for one in others]
            assert Path(others[0].file) == Path(threading.__file__)


def test_of_several_dumps_the_newest_counts() -> None:
    first = 'Thread 0x00aa (most recent call first):\n  File "a.py", line 1 in f\n\n'
    then = (
        'Current thread 0x00aa (most recent call first):\n  Garbage-collecting\n  File "b.py", line 2 in g\n'
    )
    assert by_thread(first) == {0xAA: ['  File "a.py", line 1 in f']}
    assert by_thread(first + then) == {0xAA: ["  Garbage-collecting", '  File "b.py", line 2 in g']}
    assert by_thread("") == {}

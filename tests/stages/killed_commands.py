"""Commands that are killed by SIGKILL at a named point. A program of its own.

    python killed_commands.py < SITTINGS

SITTINGS is a JSON list of ``{"words": [...], "kill": null | [event, part of a path, n-th time]}``; each is
one command in a process of its own, in order. Prints the list of their exit statuses, minus the signal's
number where one was killed. Heavy libraries are imported once, here: a sitting is a fork.

Events are those that Python announces (``open``, ``os.rename``, ``os.mkdir``, ``os.rmdir``), which come right
before the operation; ``logged``, right after the line of a step was written to metrics.jsonl; and within an
iteration of ppo and its kin ``token``, right before the next token of all replies is drawn, ``score``, right
before they are scored, and ``update``, right after an optimiser step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from little_drawn import draw_little

from align.__main__ import main
from align.generation import sampler
from align.ppo import asking, course, online
from align.sweeps.warm import warm
from align.tracking.metrics import MetricsFile


def arm(event: str, part: str, time: int) -> None:
    """This process kills itself at the point."""
    seen = 0

    def reached(what: str, where: str) -> None:
        nonlocal seen
        if what == event and part in where:
            seen += 1
            if seen == time:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda what, arguments: reached(what, str(arguments[0]) if arguments else ""))
    write = MetricsFile.write

    def write_then_tell(self: MetricsFile, step: int, values: Any) -> None:
        write(self, step, values)
        reached("logged", f"{self._file.name}:{step}")

    MetricsFile.write = write_then_tell  # type: ignore[method-assign]
    choose, score, update = sampler.choose, asking.Asking.score, course.update

    def tell_then_choose(*rest: Any) -> Any:
        reached("token", "")
        return choose(*rest)

    def tell_then_score(*rest: Any) -> Any:
        reached("score", "")
        return score(*rest)

    def update_then_tell(*rest: Any, **more: Any) -> Any:
        taken = update(*rest, **more)
        reached("update", "")
        return taken

    sampler.choose = tell_then_choose
    asking.Asking.score = tell_then_score  # type: ignore[method-assign]
    course.update = online.update = update_then_tell


def sit(words: list[str], kill: tuple[str, str, int] | None) -> int:
    """The exit status of one command."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if kill is not None:
            arm(*kill)
        code = main(words)
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    warm()
    draw_little()
    statuses = [sit(one["words"], one["kill"]) for one in json.load(sys.stdin)]
    print(json.dumps(statuses))

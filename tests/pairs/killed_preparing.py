"""Preparing data, killed by SIGKILL before each thing that it does to files. A program of its own.

    python killed_preparing.py FOLDER PAIRS

For each operation on a file in turn: a child is killed right before it, then another one prepares the same
data with the same cache, to its end. Prints a JSON list with one item a kill: whether that one found an
entry (``found``), what is then in the cache (``kept``) and in its own directory (``made``: name -> SHA-256).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pandas
import pyarrow
from byte_chat import KeptChat, settings

from align.files import sha256_of
from align.pairs.prepare import prepare

IMPORTED = (pandas, pyarrow, settings("toy"))
"""Once, here, and not in every child (pyarrow loads pandas at its first array)."""

EVENTS = ("open", "os.rename", "os.mkdir", "os.link", "os.remove")
"""What Python announces right before it does it."""


def arm(folder: Path, number: int) -> None:
    """This process kills itself at its ``number``-th operation below a folder."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in EVENTS or not str(arguments[0]).startswith(str(folder)):
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def child(folder: Path, name: str, pairs: str, kill: int | None) -> int:
    """The wait status of a process that prepares into ``folder/name``."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    if kill is not None:
        arm(folder, kill)
    said: list[str] = []
    dataset = settings("preference", path=pairs)
    prepare(dataset, KeptChat(), 100, folder / name, "pairs", said.append, cache=folder / "cache")
    (folder / f"{name}.json").write_text(json.dumps(said))
    os._exit(0)


def main(folder: Path, pairs: str) -> None:
    outcomes = []
    for number in range(1, 1000):
        status = child(folder, "killed", pairs, kill=number)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        assert child(folder, "whole", pairs, kill=None) == 0
        said = json.loads((folder / "whole.json").read_text())
        made = [path for path in sorted((folder / "whole").rglob("*")) if path.is_file()]
        outcomes.append(
            {
                "found": any("from the cache" in line for line in said),
                "kept": sorted(path.name for path in (folder / "cache" / "tokens").glob("[!.]*")),
                "made": {path.name: sha256_of(path) for path in made},
            }
        )
        for name in ("killed", "whole", "cache"):
            shutil.rmtree(folder / name, ignore_errors=True)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

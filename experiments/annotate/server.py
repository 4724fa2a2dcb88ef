"""Starting the child, waiting for it, and ending it without warning."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from experiments.annotate.child import Plan

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """The child process of a folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        plan.write(folder)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it; returns when it listens."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "experiments.annotate.child", str(self.folder)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("http://"):
            self.kill()
            raise RuntimeError(f"the server did not start:\n{(self.folder / 'server.log').read_text()}")

    def links(self) -> list[str]:
        """What people come in by."""
        found: list[str] = json.loads((self.folder / "links.json").read_bytes())
        return found

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

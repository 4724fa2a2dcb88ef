"""A PostgreSQL server of our own, in a folder, reached by a socket in it; gone at the end of the block."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
PORT = 5432
"""Part of the socket's name; nothing listens on the network."""


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, None where they are not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = [path for place in PLACES for path in sorted(Path("/").glob(place.lstrip("/")), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def private_postgres() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database. PostgreSQL refuses to run as root: then it is ``postgres``."""
    binaries = programs()
    assert binaries is not None, "PostgreSQL is not installed"
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="align-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
        data, log = folder / "data", folder / "log"
        init = [binaries / "initdb", "-D", data, "-U", "align", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **who)
        serve = [binaries / "postgres", "-D", data, "-k", folder, "-p", str(PORT), "-c", "listen_addresses="]
        with log.open("wb") as said:
            server = subprocess.Popen(serve, stdout=said, stderr=said, cwd=folder, **who)
        try:
            _wait(folder / f".s.PGSQL.{PORT}", server, log)
            yield f"postgresql+psycopg://align@/postgres?host={folder}&port={PORT}"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)


def _wait(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            psycopg.connect(host=str(socket.parent), port=PORT, user="align", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")

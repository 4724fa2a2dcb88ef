"""Answers of a model that is not asked twice: kept on disk by what was asked, one line each."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def key_of(asked: Mapping[str, Any]) -> str:
    """SHA-256 of a question with all that decides its answer; hexadecimal."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class KeptAnswers:
    """A file of lines ``{"key": ..., "answers": [...]}``, to which several processes may add.

    The first line of a key counts, so that a resumed run reads what it read before. A line that a kill
    left unfinished is no line; a file that cannot be written to is said once, and stops nothing.
    """

    def __init__(self, file: Path, say: Callable[[str], None]) -> None:
        self._file = file
        self._say = say
        self._lock = threading.Lock()
        self._found: dict[str, tuple[str, ...]] = {}
        self._writable = True
        self._read()

    def get(self, key: str) -> tuple[str, ...] | None:
        """The answers that were kept for a question, in the order they came; None where there are none."""
        return self._found.get(key)

    def put(self, key: str, answers: Sequence[str]) -> None:
        """Keeps answers; nothing changes where the question has some already. Safe from several threads."""
        with self._lock:
            if key in self._found:
                return
            self._found[key] = tuple(answers)
            line = json.dumps({"key": key, "answers": list(answers)}, ensure_ascii=False)
            self._write(f"{line}\n")

    def _read(self) -> None:
        try:
            lines = self._file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)
            return
        for line in lines:
            try:
                entry = json.loads(line)
                self._found.setdefault(entry["key"], tuple(map(str, entry["answers"])))
            except (ValueError, KeyError, TypeError):
                continue  # cut by a kill, or the empty rest behind the last line
        if lines[-1]:
            self._write("\n")

    def _write(self, text: str) -> None:
        """In one piece at the file's end, wherever other processes have moved that to."""
        if not self._writable:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(text.encode())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writable = False
        self._say(f"note: answers are not kept for later runs: {self._file}: {error.strerror}")

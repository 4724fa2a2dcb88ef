"""A chat format small enough to count by hand: one token a byte, and one for the end of a turn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from align.config import build
from align.pairs.prepare import prepare
from align.settings import DatasetSettings

END = 256


class ByteChat:
    def prompt_ids(self, prompt):
        text = "".join(message.content for message in prompt)
        return np.array(list(text.encode()), dtype=np.int32)

    def reply_ids(self, prompt, reply):
        return np.array([*reply.encode(), END], dtype=np.int32)


class KeptChat(ByteChat):
    """A chat format whose tokens may be kept for later runs."""

    def content_hash(self):
        return "one token a byte"


def settings(name, **values):
    return build(DatasetSettings, {"name": name, **values}, "dataset")


class Reader:
    """Prepares a dataset in a folder of its own and keeps what was said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []

    def __call__(self, name, wants="pairs", max_length=1000, **values):
        self.said = []
        dataset = settings(name, **values)
        return prepare(dataset, ByteChat(), max_length, self.directory, wants, self.said.append)

    def report(self):
        return json.loads((self.directory / "data_report.json").read_text())

    def refusals(self):
        """(line, reason) of every row that was left out."""
        return [(row["line"], row["reason"]) for row in self.report()["rows"] if row["action"] == "refused"]

"""``stage=annotate`` as a person uses it: a command, a link, choices, Ctrl-C, and what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from align.pairs.records import read_records

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.medium


class Command:
    """``python -m align stage=annotate`` in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "align", "stage=annotate", "dataset.limit=6", "annotate.port=0"]
        self.process = subprocess.Popen(
            [*command, f"run.dir={folder}", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if "annotator 1" in line:
                break
        self.links = re.findall(r"http://127\.0\.0\.1:\d+/in/[\w-]+", "".join(self.said))

    def end(self, number: signal.Signals) -> int:
        """Sends a signal; returns the exit code, with all that was said at the end in ``said``."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        self.said.append(rest)
        return self.process.returncode


def answer(link: str, choice: str, count: int) -> None:
    origin = link.split("/in/")[0]
    with httpx.Client(base_url=origin, follow_redirects=True) as client:
        assert client.get(link).status_code == 200
        for _ in range(count):
            found = client.get("/api/task").json()
            body = {"assignment": found["next"]["item"]["id"], "key": os.urandom(8).hex(), "choice": choice}
            headers = {"Origin": origin, "X-CSRF-Token": found["csrf"]}
            assert client.post("/api/answer", json=body, headers=headers).status_code == 200


def test_a_study_from_the_command_to_the_records(tmp_path: Path) -> None:
    """Ctrl-C ends it in order, SIGTERM too (143); with resume=true the same links and answers are there."""
    folder = tmp_path / "people"
    first = Command(folder)
    assert len(first.links) == 2, "an admin's link, and one to annotate at once"
    answer(first.links[1], "left", 2)
    assert first.end(signal.SIGINT) == 0
    assert f"python -m align stage=reward dataset=records dataset.path={folder}" in first.said[-1]
    assert len(list(read_records(folder))) == 2

    second = Command(folder, "resume=true", "annotate.session_hours=2")
    assert "0 items added (6 duplicate left out)" in "".join(second.said)
    token = first.links[1].rsplit("/", 1)[1]
    answer(f"{second.links[1].rsplit('/', 1)[0]}/{token}", "tie", 1)
    assert second.end(signal.SIGTERM) == 143
    records = list(read_records(folder))
    assert sorted(record.preferred == "tie" for record in records) == [False, False, True]
    assert {record.judge.kind for record in records} == {"human"}
    results = {row["metric"]: row["value"] for row in json.loads((folder / "results.json").read_text())}
    assert results["annotate/judgements"] == 3
    assert json.loads((folder / "run.json").read_text())["state"] == "terminated"


def test_what_cannot_be_served_is_said_at_once(tmp_path: Path) -> None:
    for words, code, text in (
        (["question.guidelines=absent.txt"], 2, "there is no such file"),
        (["annotate.host=0.0.0.0"], 2, "public_url"),
        (["annotate.database=mysql://x/y"], 3, "PostgreSQL"),
    ):
        found = subprocess.run(
            [
                sys.executable,
                "-m",
                "align",
                "stage=annotate",
                f"run.dir={tmp_path / text}",
                "annotate.port=0",
                *words,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.returncode, text in found.stderr) == (code, True), found.stderr

"""The real wandb, offline, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, signal, sys
from pathlib import Path
from align.run import Run
from align.tracking.wandb import Wandb

directory = Path(sys.argv[1])
(directory / "model").mkdir(parents=True)
(directory / "model" / "weights.bin").write_bytes(b"w" * 100_000)
tracker = Wandb(tags=("a",))
tracker.start(Run(directory, None, "dpo", 0, False, tracker, {"loss": {"beta": 0.1}}))
# harm
for step in range(1, 6):
    tracker.log(step, {"loss": 1 / step})
tracker.log(2, {"loss": 0.5})  # as a resumed run repeats it
tracker.table("samples", [{"prompt": "p", "reply": "r"}])
tracker.artifact("model", "model", directory / "model")
tracker.used("sft-before", "model", directory / "model", "ab12")
(directory / "results.json").write_text("[]")
tracker.summary({"dpo/accuracy": 0.75})
tracker.finish(0)
print("missed", tracker.missed)
"""


def track(
    directory: Path, home: Path, harm: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("# harm", harm), str(directory)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.medium
def test_offline_writes_to_the_run_and_nothing_secret(tmp_path: Path) -> None:
    directory, home = tmp_path / "study" / "run", tmp_path / "home"
    home.mkdir()
    done = track(directory, home, WANDB_API_KEY="0123456789" * 3 + "plantedkey")
    assert done.stdout.splitlines()[-1:] == ["missed 0"], done.stderr
    (written,) = (directory / "wandb").glob("offline-run-*/*.wandb")
    content = written.read_bytes()
    for told in (b"loss", b"study", b"dpo", b"beta", b"sft-before", b"dpo/accuracy", b"results.json"):
        assert told in content
    size = sum(path.stat().st_size for path in (directory / "wandb").rglob("*") if path.is_file())
    assert size < 100_000  # the model is referred to, not copied
    assert f"wandb sync {written.parent}" in done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"plantedkey" not in path.read_bytes(), path


@pytest.mark.medium
def test_its_service_dying_stops_nothing(tmp_path: Path) -> None:
    """wandb's own process is killed (a full memory does that) after the start."""
    harm = (
        "for child in Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text().split():\n"
        "    os.kill(int(child), signal.SIGKILL)"
    )
    done = track(tmp_path / "run", tmp_path, harm=harm)
    assert done.returncode == 0, done.stderr
    assert (
        1 <= int(done.stdout.split()[-1]) <= 11
    )  # of eleven calls; some may still reach the dead one's socket
    assert done.stderr.count("wandb failed at") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.medium
def test_a_run_directory_it_cannot_write_to_stops_nothing(tmp_path: Path) -> None:
    """Where wandb's folder should be there is a file, as good as a full disk."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "wandb").write_text("in the way")
    done = track(directory, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] == ["missed 12"], done.stdout
    assert done.stderr.count("wandb failed at start") == 1

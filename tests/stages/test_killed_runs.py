"""SIGKILL at any point of a stage, then ``resume=true``: to the last bit the run that nobody broke."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rollout_runs import PRODUCTS, last_state
from rollout_runs import words as rollout_words
from tiny_runs import SHAPE, STEPS, WORLD, lines, record

from align.training import checkpoints

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("killed_commands.py")
ROOT = PROGRAM.parents[2]
Kill = tuple[str, str, int]

POINTS: dict[str, Kill] = {
    "before there is a run.json": ("os.rename", ".run.json", 1),
    "while the data are written": ("open", ".train.arrow", 1),
    "after the first step, before any save": ("logged", ":1", 1),
    "inside the first save": ("open", ".step-000002.partial", 3),
    "right before a save is whole": ("os.rename", ".step-000002.partial", 1),
    "between two steps": ("logged", ":3", 1),
    "inside the second save": ("open", ".step-000004.partial/manifest.json", 1),
    "while an old checkpoint is deleted": ("os.rmdir", ".step-000002.partial", 1),
    "after the last step, before its save": ("logged", ":6", 1),
    "while the model is written": ("open", ".model.partial", 2),
    "right before the model is whole": ("os.rename", ".model.partial", 1),
    "right before the results are whole": ("os.rename", ".results.json", 1),
    "while the figure is drawn": ("open", "figures", 1),
}
"""Where a run is killed. Steps 2, 4 and 6 are saved, and the two newest saves stay."""
ROLLOUT_POINTS: dict[str, Kill] = {
    "in the first rollout, before any save": ("token", "", 5),
    "in the rollout after a save": ("token", "", 2 * 12 + 7),
    "in a rollout that no save precedes": ("token", "", 3 * 12 + 2),
    "between sampling and scoring": ("score", "", 3),
    "between two minibatches": ("update", "", 2 * 8 + 3),
    "between two epochs": ("update", "", 3 * 8 + 4),
    "after the last update of an iteration": ("update", "", 3 * 8),
    "inside a save": ("open", ".step-000002.partial", 3),
    "right before a save is whole": ("os.rename", ".step-000004.partial", 1),
    "while the end's prompts are answered": ("token", "", 4 * 12 + 3),
    "right before the samples are whole": ("os.rename", ".samples.jsonl", 1),
}
"""Of four iterations with two epochs of four minibatches, and replies of twelve tokens; 2 and 4 are saved."""
FEW_OF_A_ROLLOUT = ("in the rollout after a save", "between two epochs", "right before a save is whole")
FEW = ("after the first step, before any save", "between two steps", "inside the second save")
FEW += ("right before the model is whole",)


def sittings(*asked: tuple[list[str], Kill | None]) -> list[int]:
    """Exit statuses of commands, each killed at its point or left alone."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        input=json.dumps([{"words": words, "kill": kill} for words, kill in asked]),
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    return found


def assert_same_run(broken: Path, whole: Path, when: str) -> None:
    assert record(broken)["state"] == "completed", when
    assert lines(broken) == lines(whole), when
    for file in ("model/model.safetensors", "model/config.json", "results.json", "data/train.arrow"):
        assert (broken / file).read_bytes() == (whole / file).read_bytes(), f"{when}: {file}"
    assert checkpoints.steps_in(broken / "checkpoints") == [4, 6], when
    hidden = [path.name for path in broken.rglob(".*")]
    assert not hidden, f"{when}: left behind {hidden}"


@pytest.mark.parametrize(
    ("stage", "points"), [("sft", tuple(POINTS)), ("reward", FEW), ("dpo", FEW), ("kto", FEW)]
)
def test_killed_anywhere_it_resumes_bit_for_bit(
    stage: str, points: tuple[str, ...], tmp_path: Path, sft_run: Path
) -> None:
    start = SHAPE if stage == "sft" else (f"model.path={sft_run}",)

    def words(name: str) -> list[str]:
        # a cache of its own: what another run left there would be passed by where a kill waits
        cache = f"run.cache={tmp_path / 'caches' / name}"
        return [f"stage={stage}", f"run.dir={tmp_path / name}", cache, *start, *WORLD, *STEPS]

    asked: list[tuple[list[str], Kill | None]] = [(words("whole"), None)]
    for number, when in enumerate(points):
        again = [*words(f"broken-{number}"), "resume=true"]
        asked += [(words(f"broken-{number}"), POINTS[when]), (again, None)]
    statuses = sittings(*asked)
    killed = dict(zip(points, statuses[1::2], strict=True))
    assert killed == dict.fromkeys(points, -signal.SIGKILL)
    assert [statuses[0], *statuses[2::2]] == [0] * (1 + len(points))
    for number, when in enumerate(points):
        assert_same_run(tmp_path / f"broken-{number}", tmp_path / "whole", when)


@pytest.mark.parametrize(
    ("kind", "points"),
    [("ppo", tuple(ROLLOUT_POINTS)), *((kind, FEW_OF_A_ROLLOUT) for kind in ("separate", "lora", "rloo"))],
)
def test_killed_within_an_iteration_it_resumes_bit_for_bit(
    kind: str, points: tuple[str, ...], tmp_path: Path, sft_run: Path
) -> None:
    """The KL coefficient, the moments of the scores, the demonstrations, both critics, an adapter."""

    def words(name: str, *more: str) -> list[str]:
        cache = f"run.cache={tmp_path / 'caches' / name}"
        return rollout_words(kind, tmp_path / name, sft_run, cache, *more)

    asked: list[tuple[list[str], Kill | None]] = [(words("whole"), None)]
    for number, when in enumerate(points):
        asked.append((words(f"broken-{number}"), ROLLOUT_POINTS[when]))
        asked.append((words(f"broken-{number}", "resume=true"), None))
    statuses = sittings(*asked)
    assert dict(zip(points, statuses[1::2], strict=True)) == dict.fromkeys(points, -signal.SIGKILL)
    assert [statuses[0], *statuses[2::2]] == [0] * (1 + len(points))
    whole = tmp_path / "whole"
    for number, when in enumerate(points):
        broken = tmp_path / f"broken-{number}"
        assert record(broken)["state"] == "completed", when
        assert lines(broken) == lines(whole), when
        for file in PRODUCTS:
            assert (broken / file).read_bytes() == (whole / file).read_bytes(), f"{when}: {file}"
        assert last_state(broken) == last_state(whole), when
        hidden = [path.name for path in broken.rglob(".*")]
        assert not hidden, f"{when}: left behind {hidden}"


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Every resumed sitting is killed too, one step further on."""

    def words(name: str, *more: str) -> list[str]:
        return ["stage=sft", f"run.dir={tmp_path / name}", *SHAPE, *WORLD, *STEPS, *more]

    kills: list[Kill] = [("logged", f":{step}", 1) for step in (1, 2, 3, 4, 5, 6)]
    statuses = sittings(
        (words("whole"), None),
        *((words("broken", "resume=true"), kill) for kill in kills),
        (words("broken", "resume=true"), None),
    )
    assert statuses == [0, *[-signal.SIGKILL] * 6, 0]
    assert_same_run(tmp_path / "broken", tmp_path / "whole", "six times")

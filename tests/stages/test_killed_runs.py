"""SIGKILL at any point of a stage, then ``resume=true``: to the last bit the run that nobody broke."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rollout_runs import PRODUCTS, ROLLOUTS, last_state
from rollout_runs import words as rollout_words
from served_policies import serving_policy, words_for
from sittings import Kill, sittings
from tiny_runs import SHAPE, STEPS, WORLD, lines, record

from align.training import checkpoints

pytestmark = pytest.mark.slow

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
SERVED_POINTS: dict[str, Kill] = {
    "between sampling and scoring": ("score", "", 3),
    "between two epochs": ("update", "", 2 * 8 + 4),
    "while new weights are written for the server": ("open", "step-000004/.model.partial", 1),
    "right before new weights are whole": ("os.rename", "step-000004/.model.partial", 1),
    "after the server has loaded new weights, before any save": ("update", "", 3 * 8 + 1),
    "while the weights that it had go": ("logged", ":4", 1),
}
"""Of the same four iterations, with weights handed over before the first and the fourth: a run that is
resumed from the second's checkpoint goes on with what the server had then."""
FEW_OF_A_ROLLOUT = ("in the rollout after a save", "between two epochs", "right before a save is whole")
FEW_OF_ONE_THAT_ENDS_EARLY = (
    "in the rollout after a save",
    "between sampling and scoring",
    "in a rollout that no save precedes",
    "right before a save is whole",
)
"""Where ``objective.target_kl`` ends iterations, the updates are not counted off in eights."""
FEW = ("after the first step, before any save", "between two steps", "inside the second save")
FEW += ("right before the model is whole",)


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
    [
        ("ppo", tuple(ROLLOUT_POINTS)),
        *((kind, FEW_OF_A_ROLLOUT) for kind in ("separate", "lora", "rloo")),
        ("grpo", FEW_OF_ONE_THAT_ENDS_EARLY),
    ],
)
def test_killed_within_an_iteration_it_resumes_bit_for_bit(
    kind: str, points: tuple[str, ...], tmp_path: Path, sft_run: Path
) -> None:
    """The KL coefficient, the moments of the scores, the demonstrations, both critics, an adapter."""

    def words(name: str, *more: str) -> list[str]:
        cache = f"run.cache={tmp_path / 'caches' / name}"
        return rollout_words(kind, tmp_path / name, sft_run, cache, *more)

    assert_killed_and_resumed(words, {when: ROLLOUT_POINTS[when] for when in points}, tmp_path)


def test_killed_within_an_iteration_of_online_dpo_it_resumes_bit_for_bit(
    tmp_path: Path, sft_run: Path
) -> None:
    """Its labels are drawn, and its pairs are passed over twice in two minibatches: four updates a step."""
    kills: dict[str, Kill] = {
        "in the rollout after a save": ROLLOUT_POINTS["in the rollout after a save"],
        "between sampling and scoring": ("score", "", 3),
        "between two minibatches": ("update", "", 2 * 4 + 1),
        "between two passes": ("update", "", 3 * 4 + 2),
        "right before a save is whole": ROLLOUT_POINTS["right before a save is whole"],
    }
    online = ("online.labels=bradley_terry", "online.epochs=2", "online.minibatches=2")
    short = [one for one in ROLLOUTS if not one.startswith("objective.")]

    def words(name: str, *more: str) -> list[str]:
        place = (f"run.dir={tmp_path / name}", f"run.cache={tmp_path / 'caches' / name}")
        start = f"model.path={sft_run}"
        return ["stage=online_dpo", *place, start, *WORLD, *STEPS, *short, *online, *more]

    assert_killed_and_resumed(words, kills, tmp_path)


def test_killed_with_a_server_that_writes_the_replies_it_resumes_bit_for_bit(
    tmp_path: Path, sft_run: Path
) -> None:
    """One server for all runs, one after the other: whatever weights the one before has left there."""
    with serving_policy(sft_run / "model") as (stand_in, _):

        def words(name: str, *more: str) -> list[str]:
            cache = f"run.cache={tmp_path / 'caches' / name}"
            asked = words_for(stand_in, cache, *more)
            return rollout_words("served", tmp_path / name, sft_run, *asked)

        assert_killed_and_resumed(words, SERVED_POINTS, tmp_path)
    for name in ("whole", "broken-0"):
        folders = sorted(path.name for path in (tmp_path / name / "served").iterdir())
        assert folders == ["step-000001", "step-000004"], "what step 3 samples from is kept for step 2's save"


def assert_killed_and_resumed(
    words: Callable[..., list[str]], kills: Mapping[str, Kill], tmp_path: Path
) -> None:
    asked: list[tuple[list[str], Kill | None]] = [(words("whole"), None)]
    for number, kill in enumerate(kills.values()):
        asked.append((words(f"broken-{number}"), kill))
        asked.append((words(f"broken-{number}", "resume=true"), None))
    statuses = sittings(*asked)
    assert dict(zip(kills, statuses[1::2], strict=True)) == dict.fromkeys(kills, -signal.SIGKILL)
    assert [statuses[0], *statuses[2::2]] == [0] * (1 + len(kills))
    whole = tmp_path / "whole"
    for number, when in enumerate(kills):
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

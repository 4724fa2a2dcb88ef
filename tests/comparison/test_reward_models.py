"""Reward models from the test pairs that they left: pooled over seeds, found behind policies, or told of."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_sweep import made_run

from align.comparison.differences import differences
from align.comparison.found import read_runs, run_directories
from align.comparison.groups import Group, grouped
from align.comparison.pairs_field import pairs_field
from align.comparison.reward_models import reward_models
from align.comparison.whole import compared
from align.evaluation.paired import mcnemar
from align.settings import CompareSettings
from align.types import Result

THREE = math.log(3)


def rewarded(directory: Path, margins: list[float], *, size: int = 32, seed: int = 0) -> Path:
    """A reward model's run; pair i is of prompt i // 2, its chosen reply i - 5 tokens longer."""
    config = {"stage": {"name": "reward"}, "seed": seed, "model": {"hidden_size": size}}
    made_run(directory, config, [Result("reward/accuracy", 0.5, 9, 0.4, 0.6, "wilson")])
    rows = [
        {
            "id": str(place),
            "prompt": f"{place // 2:016x}",
            "chosen_score": margin,
            "rejected_score": 0.0,
            "margin": margin,
            "chosen_tokens": 10 + place,
            "rejected_tokens": 15,
            "stated_margin": None,
            "probability": 0.9 if margin > 0 else 0.6,
        }
        for place, margin in enumerate(margins)
    ]
    (directory / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return directory


def _groups(folder: Path) -> list[Group]:
    return grouped(read_runs(run_directories([str(folder)]))[0])[0]


def test_a_group_over_seeds_is_pooled_with_prompts_as_units(tmp_path: Path) -> None:
    """20 + 20 pairs of the same ten prompts, three of four right, one pair scored alike."""
    rewarded(tmp_path / "r" / "1", [THREE] * 15 + [-THREE] * 5, seed=1)
    rewarded(tmp_path / "r" / "2", [THREE] * 15 + [-THREE] * 4 + [0.0], seed=2)
    (found,), missing = reward_models(_groups(tmp_path / "r"))
    assert missing == {}
    assert (found.pairs, found.prompts, found.runs, found.alike) == (40, 10, 2, 1)
    numbers = {one.metric: one for one in found.numbers}
    # a tie is half right in the accuracy, and no part of the calibration
    assert numbers["reward/accuracy"].value == pytest.approx(30.5 / 40)
    assert numbers["reward/accuracy"].n == 10
    assert numbers["reward/overconfidence"].value == pytest.approx(0.75 - 30 / 39)
    (only,) = found.calibration.curve
    assert only.mean == pytest.approx(0.75)
    # where the label is sure (0.9) the model is right on every pair, where it is not (0.6) on none
    weak, sure = found.by_strength[0], found.by_strength[-1]
    assert weak.share.value < 0.2
    assert sure.share.value == 1.0


def test_accuracy_by_length_sees_a_model_that_prefers_the_longer(tmp_path: Path) -> None:
    """Chosen replies are -5 to 34 tokens longer; it is right exactly where they are longer at all."""
    rewarded(tmp_path / "r" / "1", [1.0 if place > 5 else -1.0 for place in range(40)])
    (found,), _ = reward_models(_groups(tmp_path / "r"))
    assert [one.share.value for one in found.by_length] == [0.25, 1.0, 1.0, 1.0, 1.0]
    assert found.by_length[0].low == -5
    assert found.by_length[-1].high == 34


def test_models_behind_the_compared_policies_are_found(tmp_path: Path) -> None:
    """Two policies were trained with one reward model, and a third was scored with another's model/."""
    first = rewarded(tmp_path / "models" / "first", [1.0, -1.0] * 20)
    second = rewarded(tmp_path / "models" / "second", [1.0, 1.0] * 20)
    for name, place in (("a", first), ("b", first), ("c", second / "model")):
        config = {"stage": {"name": "ppo"}, "seed": 0, "kl": {"coef": ord(name)}}
        directory = made_run(tmp_path / "p" / name, config, [Result("ppo/x", 1.0, 2, None, None, "exact")])
        record = json.loads((directory / "run.json").read_text())
        record["inputs"]["reward"] = {"path": str(place), "sha256": name}
        (directory / "run.json").write_text(json.dumps(record))
    found, _ = reward_models(_groups(tmp_path / "p"))
    assert [one.label for one in found] == ["models/first", "models/second"]
    # right on every pair: no slope, which the others have
    assert [len(one.numbers) for one in found] == [4, 3]


def test_too_few_pairs_are_told(tmp_path: Path) -> None:
    rewarded(tmp_path / "r" / "1", [1.0, -1.0])
    found, missing = reward_models(_groups(tmp_path / "r"))
    assert found == []
    assert "2 unseen pairs are too few" in next(iter(missing.values()))
    rewarded(tmp_path / "s" / "1", np.zeros(30).tolist())
    found, missing = reward_models(_groups(tmp_path / "s"))
    assert found == []
    assert "scores every pair alike" in next(iter(missing.values()))


def test_models_are_held_against_each_other_on_the_same_pairs(tmp_path: Path) -> None:
    """One is right on 30 of 40 pairs, the other on 20 of these; two pairs a prompt, so that 20 are units."""
    rewarded(tmp_path / "r" / "a", [1.0] * 30 + [-1.0] * 10, size=32)
    rewarded(tmp_path / "r" / "b", [2.0] * 20 + [-2.0] * 20, size=64)
    runs, left_out = read_runs(run_directories([str(tmp_path / "r")]))
    found = compared(runs, left_out, CompareSettings())
    (one,) = found.differences
    assert (one.ours, one.theirs) == ("model.hidden_size=32", "model.hidden_size=64")
    assert one.score.value == pytest.approx(10 / 40)
    assert one.score.n == 20
    assert one.win_rate == pytest.approx((10 + 30 / 2) / 40)
    # pairs of a prompt go together: they are no units of McNemar's test
    assert one.mcnemar is None
    assert (found.by, found.tournament) == ("accuracy", None)
    told = {one.metric: one.value for one in found.results()}
    assert told["model.hidden_size=32/pairs/accuracy"] == pytest.approx(30 / 40)
    # claims of sigmoid(1) in one bin, right in three of four
    assert told["model.hidden_size=32/pairs/ece"] == pytest.approx(3 / 4 - 1 / (1 + math.exp(-1)))


def test_single_pairs_of_prompts_have_mcnemars_test(tmp_path: Path) -> None:
    for name, size, right in (("a", 32, 30), ("b", 64, 20)):
        place = rewarded(tmp_path / "r" / name, [1.0] * right + [-1.0] * (40 - right), size=size)
        rows = [json.loads(line) for line in (place / "pairs.jsonl").read_text().splitlines()]
        alone = [{**row, "prompt": row["id"]} for row in rows]
        (place / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in alone))
    field = pairs_field(_groups(tmp_path / "r"))
    assert not isinstance(field, str)
    (one,) = differences(field, _groups(tmp_path / "r")[0], 100)
    assert one.mcnemar == mcnemar(10, 0).mid_p


def test_other_pairs_are_not_compared(tmp_path: Path) -> None:
    rewarded(tmp_path / "r" / "a", [1.0, -1.0] * 20, size=32)
    rewarded(tmp_path / "r" / "b", [1.0, -1.0] * 19, size=64)
    assert pairs_field(_groups(tmp_path / "r")) == "the runs scored different pairs"

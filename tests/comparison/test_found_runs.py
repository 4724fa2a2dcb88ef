"""Which runs are compared, which are refused by name, and what sets them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_sweep import evaluated, made_run, scores, sweep, trained

from align.comparison.found import read_runs, run_directories, settings_of, short_names
from align.comparison.groups import baseline_of, cells, grouped
from align.errors import DataError
from align.run import read_record
from align.types import Result


def test_runs_are_named_by_folder_pattern_or_list(tmp_path: Path) -> None:
    folder = sweep(tmp_path, betas=(0.1,), seeds=(1, 2))
    both = [folder / f"loss.beta=0.1_seed={seed}" for seed in (1, 2)]
    assert run_directories([str(folder)]) == both
    assert run_directories([f"{folder}/*seed=2"]) == both[1:]
    assert run_directories([str(both[1]), str(folder)]) == [both[1], both[0]], "each once, in the order named"
    assert short_names(both) == ["loss.beta=0.1_seed=1", "loss.beta=0.1_seed=2"]
    with pytest.raises(DataError, match="no run directory there"):
        run_directories([str(tmp_path / "nowhere")])


def test_runs_that_differ_in_their_seed_alone_are_a_group(tmp_path: Path) -> None:
    """The evaluations have one config but for the path of their model: what sets it apart is that model's."""
    runs, left_out = read_runs(run_directories([str(sweep(tmp_path))]))
    groups, twins = grouped(runs)
    assert [group.label for group in groups] == ["loss.beta=0.1", "loss.beta=0.5"]
    assert [len(group.runs) for group in groups] == [3, 3]
    assert groups[0].settings == {"loss.beta": 0.1}
    assert (left_out, twins) == ({}, {})
    assert baseline_of(groups, None) is groups[0]
    assert baseline_of(groups, "loss.beta=0.5") is groups[1]
    with pytest.raises(DataError, match=r"There are: loss\.beta=0\.1; loss\.beta=0\.5"):
        baseline_of(groups, "beta")


def test_a_metric_over_seeds_by_hand(tmp_path: Path) -> None:
    """Gains of beta 0.5 are 0.9, 1.0, 1.1: mean 1, sd 0.1, interval 4.302653 x 0.1 / sqrt(3) about it."""
    groups, _ = grouped(read_runs(run_directories([str(sweep(tmp_path))]))[0])
    cell = cells(groups)["dpo/gold_gain"]["loss.beta=0.5"]
    assert cell.values == pytest.approx((0.9, 1.0, 1.1))
    assert (cell.result.value, cell.spread, cell.result.n) == pytest.approx((1.0, 0.1, 3))
    assert cell.result.ci_low == pytest.approx(1 - 4.302653 * 0.1 / 3**0.5)
    assert cells(groups[:1])["dpo/kl"]["loss.beta=0.1"].result.method == "t over seeds"


def test_a_single_run_keeps_its_own_interval(tmp_path: Path) -> None:
    groups, _ = grouped(read_runs(run_directories([str(sweep(tmp_path, seeds=(2,)))]))[0])
    cell = cells(groups)["dpo/kl"]["loss.beta=0.5"]
    assert (cell.result.method, cell.spread) == ("bootstrap", None)
    assert cell.result.ci_high == pytest.approx(cell.result.value + 0.5)


def test_runs_on_other_data_are_refused_by_name(tmp_path: Path) -> None:
    folder = sweep(tmp_path, betas=(0.1,))
    evaluated(folder / "stray", trained(tmp_path / "d", 0.3, 1), scores(1.0, 1), data="d2")
    with pytest.raises(
        DataError, match=r"evaluation data.*\n  d1: .*seed=1, .*\n  d2: stray\n.*same dataset"
    ):
        read_runs(run_directories([str(folder)]))


def test_runs_of_several_stages_are_refused_by_name(tmp_path: Path) -> None:
    evaluated(tmp_path / "one", trained(tmp_path / "other", 0.3, 1), scores(1.0, 1))
    with pytest.raises(DataError, match=r"stages.*\n  stage=evaluate: one\n  stage=dpo: other\n"):
        read_runs(run_directories([str(tmp_path / "one"), str(tmp_path / "other")]))


def test_unfinished_runs_and_repeats_are_left_out_and_told(tmp_path: Path) -> None:
    folder = sweep(tmp_path, betas=(0.1,), seeds=(1,))
    made_run(folder / "failed", {"stage": {"name": "evaluate"}, "seed": 0}, state="failed")
    evaluated(folder / "twice", tmp_path / "dpo" / "loss.beta=0.1_seed=1", scores(2.0, 5))
    runs, left_out = read_runs(run_directories([str(folder)]))
    assert left_out == {str(folder / "failed"): "its state is failed"}
    groups, twins = grouped(runs)
    assert [len(group.runs) for group in groups] == [1]
    assert list(twins) == [str(folder / "twice")]
    with pytest.raises(DataError, match="no finished run to compare"):
        read_runs([folder / "failed"])


def test_a_pipelines_steps_vary_together_under_one_name(tmp_path: Path) -> None:
    """One option of two steps is named once; paths into the run itself are no difference."""
    for rate, seed in ((0.01, 1), (0.01, 2), (0.02, 1)):
        place = tmp_path / f"{rate}_{seed}"
        step = {"training": {"learning_rate": rate}, "seed": seed, "run": {"dir": str(place / "x")}}
        steps = {"sft": step, "dpo": {**step, "model": {"path": f"{place}/sft"}}}
        config = {"stage": {"name": "pipeline"}, "seed": seed, "order": ["sft", "dpo"], "steps": steps}
        made_run(place, config, [Result("dpo/kl", 1.0, 5, None, None, "exact")], data=None)
    groups, _ = grouped(read_runs(run_directories([str(tmp_path)]))[0])
    assert [group.label for group in groups] == ["training.learning_rate=0.01", "training.learning_rate=0.02"]
    assert [len(group.runs) for group in groups] == [2, 1]


def test_options_that_follow_from_another_are_no_part_of_the_label(tmp_path: Path) -> None:
    """The method tells the groups apart; the options that only one method has are in the settings alone."""
    for name, collect in (("a", {"name": "noise", "rate": 0.1}), ("b", {"name": "corrupt", "negated": 1})):
        made_run(tmp_path / name, {"stage": {"name": "collect"}, "seed": 0, "collect": collect})
    groups, _ = grouped(read_runs([tmp_path / "a", tmp_path / "b"])[0])
    assert [group.label for group in groups] == ["collect.name=corrupt", "collect.name=noise"]
    assert groups[1].settings == {"collect.name": "noise", "collect.rate": 0.1, "collect.negated": None}


def test_policies_of_several_stages_meet_under_one_name(tmp_path: Path) -> None:
    evaluated(tmp_path / "a", trained(tmp_path / "d1", 0.3, 1), scores(1.0, 1))
    evaluated(tmp_path / "b", trained(tmp_path / "d2", 0.4, 1), scores(1.0, 1), label="ppo")
    runs, _ = read_runs([tmp_path / "a", tmp_path / "b"])
    names = [{one.metric for one in run.results} for run in runs]
    assert names[0] == names[1]
    assert {"policy/gold_gain", "policy/kl", "reference/gold_reward"} <= names[0]


def test_settings_reach_through_a_path_into_the_run_it_names(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "a", trained(tmp_path / "d", 0.3, 7), scores(1.0, 1))
    found = settings_of(run, read_record(run) or {})
    assert found["model.path > loss.beta"] == 0.3
    assert found["model.path > seed"] == 7
    assert not any("run.dir" in key or "resume" in key for key in found)

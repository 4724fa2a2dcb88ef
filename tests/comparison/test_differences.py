"""Pairs of groups whose true difference is known."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from made_sweep import PROMPTS, evaluated, scores, sweep, trained

from align.comparison.differences import Difference, differences
from align.comparison.found import read_runs, run_directories
from align.comparison.groups import Group, grouped
from align.comparison.replies import Field, against_reference, controlled, field_of, tournament, wins_of
from align.evaluation.paired import mcnemar
from align.evaluation.seeds import detectable_over_seeds, t_quantile
from align.types import Result


def _groups(folder: Path) -> list[Group]:
    return grouped(read_runs(run_directories([str(folder)]))[0])[0]


def _field(folder: Path) -> tuple[list[Group], Field]:
    groups = _groups(folder)
    field = field_of(groups)
    assert isinstance(field, Field)
    return groups, field


def _found(folder: Path, most_pairs: int = 100) -> dict[tuple[str, str], Difference]:
    groups, field = _field(folder)
    return {(one.ours, one.theirs): one for one in differences(field, groups[0], most_pairs)}


def test_every_pair_and_the_reference_that_all_share(tmp_path: Path) -> None:
    found = _found(sweep(tmp_path))
    assert set(found) == {
        ("loss.beta=0.1", "loss.beta=0.5"),
        ("loss.beta=0.1", "the reference"),
        ("loss.beta=0.5", "the reference"),
    }
    between = found["loss.beta=0.1", "loss.beta=0.5"]
    assert between.score.value == pytest.approx(4.0)
    assert between.score.n == PROMPTS
    assert between.seeds is not None
    # both groups' seeds lie 0.1 apart: 4 is forty spreads
    assert between.seeds.in_spreads == pytest.approx(40.0)
    assert between.verdict == "loss.beta=0.1 is higher, over prompts and over seeds"
    gained = found["loss.beta=0.5", "the reference"].seeds
    assert gained is not None
    assert (gained.difference.value, gained.in_spreads) == pytest.approx((1.0, 10.0))


def test_many_prompts_do_not_make_up_for_seeds_that_scatter(tmp_path: Path) -> None:
    """Each of these runs is higher than the other on nearly every prompt; their seeds move more than that."""
    for beta, shifts in ((0.1, (0.0, 3.0)), (0.5, (-0.5, 2.5))):
        for seed, shift in enumerate(shifts):
            model = trained(tmp_path / "dpo" / f"{beta}_{seed}", beta, seed)
            evaluated(tmp_path / "e" / f"{beta}_{seed}", model, scores(1.0, 1, shift))
    found = _found(tmp_path / "e")["loss.beta=0.1", "loss.beta=0.5"]
    assert found.score.value == pytest.approx(0.5)
    assert found.p_holm < 0.001
    assert found.seeds is not None
    assert found.seeds.p > 0.5
    # each side's two seeds lie 3 apart: 3 / sqrt(2) is their spread, 1.5 the error of a mean, 2 the degrees
    error = (1.5**2 + 1.5**2) ** 0.5
    needed = (t_quantile(0.975, 2) + t_quantile(0.8, 2)) * error
    # three pairs are tested, the reference among them
    assert found.seeds_detectable is not None
    assert found.seeds_detectable > needed
    assert detectable_over_seeds([0.0, 3.0], [-0.5, 2.5]) == pytest.approx(needed)
    assert "seeds alone may explain it; as many would show one of" in found.verdict


def test_one_seed_says_nothing_of_others_and_has_mcnemars_test(tmp_path: Path) -> None:
    """a beats the reference on 30 of 40 prompts, b on 20 of these and on 2 more."""
    ours = [1.0] * 30 + [-1.0] * 10
    theirs = [0.5] * 20 + [-2.0] * 10 + [0.5] * 2 + [-2.0] * 8
    evaluated(tmp_path / "e" / "a", trained(tmp_path / "da", 0.1, 1), ours)
    evaluated(tmp_path / "e" / "b", trained(tmp_path / "db", 0.5, 1), theirs)
    found = _found(tmp_path / "e")["loss.beta=0.1", "loss.beta=0.5"]
    assert found.mcnemar == mcnemar(10, 2).mid_p
    assert found.seeds is None
    assert found.verdict == "loss.beta=0.1 is higher in these runs; other seeds are not known"
    # won where 1 stands against 0.5 or -2 (30), and -1 against -2 (8)
    assert found.win_rate == 38 / 40


def test_equal_replies_show_no_difference_and_what_n_could_show(tmp_path: Path) -> None:
    for name, beta in (("a", 0.1), ("b", 0.5)):
        evaluated(tmp_path / "e" / name, trained(tmp_path / f"d{name}", beta, 1), scores(1.0, ord(name)))
    found = _found(tmp_path / "e")["loss.beta=0.1", "loss.beta=0.5"]
    assert found.score.value == pytest.approx(0.0, abs=1e-12)
    left, right = np.array(scores(1.0, ord("a"))), np.array(scores(1.0, ord("b")))
    # among three pairs the smallest p has to be a third of 0.05
    quantiles = NormalDist().inv_cdf(1 - 0.05 / 6) + NormalDist().inv_cdf(0.8)
    assert found.detectable == pytest.approx(quantiles * (left - right).std(ddof=1) / 40**0.5, rel=1e-9)
    assert found.verdict.startswith(f"no difference shown; {PROMPTS} prompts would show one of")


def test_replies_alike_are_said_to_be_so(tmp_path: Path) -> None:
    for name, beta in (("a", 0.1), ("b", 0.5)):
        evaluated(tmp_path / "e" / name, trained(tmp_path / f"d{name}", beta, 1), scores(1.0, 7))
    found = _found(tmp_path / "e")["loss.beta=0.1", "loss.beta=0.5"]
    assert found.verdict == f"no difference: alike on all {PROMPTS} prompts"


def test_too_many_pairs_are_held_against_the_baseline(tmp_path: Path) -> None:
    found = _found(sweep(tmp_path), most_pairs=2)
    assert set(found) == {("loss.beta=0.5", "loss.beta=0.1"), ("the reference", "loss.beta=0.1")}
    assert found["loss.beta=0.5", "loss.beta=0.1"].score.value == pytest.approx(-4.0)


def test_wins_are_shares_of_the_pairs_of_runs(tmp_path: Path) -> None:
    """Two runs against one, on one prompt of two: above and below it, 1/2; on the other both above, 1."""
    for name, beta, seed, made in (
        ("a", 0.1, 1, [2.0, 2.0]),
        ("b", 0.1, 2, [0.0, 3.0]),
        ("c", 0.5, 1, [1.0, 1.0]),
    ):
        evaluated(tmp_path / "e" / name, trained(tmp_path / f"d{name}", beta, seed), made)
    _, field = _field(tmp_path / "e")
    wins = wins_of(field.contestants)
    assert wins[:, 0, 1].tolist() == [0.5, 1.0]
    assert wins[:, 1, 0].tolist() == [0.5, 0.0]


def test_the_ranking_follows_the_gains_and_says_where_there_is_none(tmp_path: Path) -> None:
    found = tournament(_field(sweep(tmp_path / "near", betas=(0.48, 0.5)))[1])
    assert isinstance(found.ranking, tuple)
    values = [one.value for one in found.ranking]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(0, abs=1e-9)
    far = tournament(_field(sweep(tmp_path / "far", betas=(0.1, 5.0), seeds=(1,)))[1])
    assert isinstance(far.ranking, str)
    assert "infinitely far apart" in far.ranking


def test_win_rates_at_equal_length(tmp_path: Path) -> None:
    """Lengths have nothing to do with these scores: about the plain win rate, 0.8 of 120 replies."""
    found = controlled(_field(sweep(tmp_path))[1])
    held, lost = found["loss.beta=0.5"], found["loss.beta=0.1"]
    assert isinstance(held, Result)
    assert held.value == pytest.approx(0.83, abs=0.06)
    assert held.n == PROMPTS
    assert isinstance(lost, str)
    assert "one side won all" in lost


def test_plain_wins_stand_beside_those_at_equal_length(tmp_path: Path) -> None:
    """30 of 40 replies score above the reference's 0, and 2 as high."""
    evaluated(tmp_path / "e" / "a", trained(tmp_path / "d", 0.1, 1), [1.0] * 30 + [0.0] * 2 + [-1.0] * 8)
    (found,) = against_reference(_field(tmp_path / "e")[1]).values()
    assert (found.value, found.n) == (31 / 40, PROMPTS)


def test_other_prompts_or_no_samples_are_told(tmp_path: Path) -> None:
    folder = sweep(tmp_path, seeds=(1, 2))
    rows = (folder / "loss.beta=0.1_seed=1" / "samples.jsonl").read_text().splitlines()
    (folder / "loss.beta=0.1_seed=1" / "samples.jsonl").write_text("\n".join(rows[1:]) + "\n")
    assert field_of(_groups(folder)) == "the runs' samples answer different prompts"
    (folder / "loss.beta=0.1_seed=1" / "samples.jsonl").unlink()
    assert field_of(_groups(folder)) == "not every run left samples.jsonl (stage=evaluate does)"

"""An ensemble: the combinations by hand, members' arbitrary zeros, and real members from the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_architectures import texts, tiny

from align import registry
from align.compose import run_from
from align.config import build
from align.errors import ConfigError, ModelError
from align.models.scalar import load_scalar, save_scalar
from align.models.settings import AdapterSettings
from align.models.unseen import UnseenScores, unseen_scores, write_unseen
from align.protocols import KnownRange, ScoresInParts
from align.types import Message
from reward_models.bradley_terry import BradleyTerry
from reward_models.ensemble import Ensemble, How, Members, combine

PROMPTS = [(Message("user", text),) for text in ("hello", "how are you?", "hello there")]
REPLIES = ["yes", "no, not at all", "ünïcödé"]
SEEN = [-1.0, 0.0, 1.0, 4.0]
"""Scores of unseen pairs: mean 1, variance (4 + 1 + 0 + 9) / 4 = 3.5."""


def test_the_combinations_by_hand():
    """Three members, two replies; the first: mean 2, deviations -1, 0, 1, variance 2/3, unbiased 1."""
    scores_MN = [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]
    assert combine(scores_MN, "mean").tolist() == [2, 5]
    assert combine(scores_MN, "worst_case").tolist() == [1, 5]
    np.testing.assert_allclose(combine(scores_MN, "mean_minus_variance", 0.5), [2 - 0.5 * 2 / 3, 5])
    np.testing.assert_allclose(combine(scores_MN, "mean_minus_variance", 2.0, unbiased=True), [0, 5])


@given(
    st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=2, max_size=6),
    st.floats(0, 5),
)
def test_caution_never_raises_a_score_and_members_have_no_order(
    scores: list[list[float]], coefficient: float
):
    mean = combine(scores, "mean")
    for how in ("worst_case", "mean_minus_variance"):
        assert (combine(scores, how, coefficient) <= mean + 1e-9).all()
        np.testing.assert_allclose(
            combine(scores[::-1], how, coefficient), combine(scores, how, coefficient), atol=1e-9
        )
    np.testing.assert_allclose(combine(scores, "mean_minus_variance", 0.0), mean)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two reward models; the second scores as the first plus 7, as the same training may well end."""
    folder = tmp_path_factory.mktemp("members")
    first = load_scalar(tiny(), AdapterSettings(), texts=texts, seed=0)
    save_scalar(first, folder / "a" / "model")
    write_unseen(folder / "a" / "model", SEEN)
    other = load_scalar(tiny(), AdapterSettings(), texts=texts, seed=1)
    save_scalar(other, folder / "b" / "model")
    write_unseen(folder / "b" / "model", [2 * score + 7 for score in SEEN])
    return [str(folder / name) for name in "ab"]


def alone(path: str) -> np.ndarray:
    return np.array(BradleyTerry(path=path, device="cpu").prepare().score(PROMPTS, REPLIES))


def test_members_are_the_models_themselves(paths: list[str]):
    a, b = map(alone, paths)
    scorer = Ensemble(tuple(paths), how="worst_case", scale="raw", device="cpu").prepare()
    assert scorer.score(PROMPTS, REPLIES) == pytest.approx(np.minimum(a, b), abs=1e-6)
    found = scorer.score_in_parts(PROMPTS, REPLIES)
    assert found.scores == scorer.score(PROMPTS, REPLIES)
    # two members a, b: standard deviation |a - b| / 2
    assert found.parts["disagreement"] == pytest.approx(np.abs(a - b) / 2, abs=1e-6)
    assert isinstance(scorer, ScoresInParts)
    assert isinstance(scorer, KnownRange)


def test_members_are_put_on_one_scale(paths: list[str]):
    """Unseen means 1 and 2 * 1 + 7 = 9; standard deviations sqrt(3.5) and 2 sqrt(3.5)."""
    a, b = map(alone, paths)
    centred = Ensemble(tuple(paths), how="mean_minus_variance", coefficient=0.3, device="cpu").prepare()
    one, two = a - 1, b - 9
    expected = (one + two) / 2 - 0.3 * ((one - two) / 2) ** 2
    assert centred.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)
    standardised = Ensemble(tuple(paths), how="worst_case", scale="standardised", device="cpu").prepare()
    expected = np.minimum(one / math.sqrt(3.5), two / (2 * math.sqrt(3.5)))
    assert standardised.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)


@dataclass(frozen=True)
class Shifted:
    """Stands in for a loaded member: fixed scores of three replies and of unseen pairs, plus a constant."""

    scores: tuple[float, ...]
    constant: float

    @property
    def seen(self) -> UnseenScores:
        return unseen_scores([score + self.constant for score in SEEN])

    @property
    def score_range(self) -> tuple[float, float]:
        return self.seen.low, self.seen.high

    def score(self, prompts: Sequence[object], replies: Sequence[str]) -> list[float]:
        return [score + self.constant for score in self.scores]


def shifted(monkeypatch: pytest.MonkeyPatch, constant: float, **settings: Any) -> Members:
    members = {"a": Shifted((1.0, 0.0, 4.0), 0.0), "b": Shifted((0.0, 2.0, 3.0), constant)}
    monkeypatch.setattr(BradleyTerry, "prepare", lambda self, cache: members[self.path])
    return Ensemble(("a", "b"), **settings).prepare()


@pytest.mark.parametrize("how", ["worst_case", "mean_minus_variance"])
def test_a_constant_added_to_one_member_changes_nothing(monkeypatch: pytest.MonkeyPatch, how: How):
    """Bradley-Terry training does not see it; taken as they come, the same scores would now be others."""
    centred, moved = (shifted(monkeypatch, constant, how=how) for constant in (0.0, 10.0))
    assert moved.score(PROMPTS, REPLIES) == pytest.approx(centred.score(PROMPTS, REPLIES))
    assert moved.score_range == pytest.approx(centred.score_range)
    raw = [shifted(monkeypatch, constant, how=how, scale="raw") for constant in (0.0, 10.0)]
    apart = np.subtract(*(one.score(PROMPTS, REPLIES) for one in raw))
    assert apart.std() > 0.1


def test_the_range_is_made_of_the_members(monkeypatch: pytest.MonkeyPatch):
    """Each member, centred: the quantiles 0.001 and 0.999 of -2, -1, 0, 3 are -1.997 and 2.991."""
    low, high = -2 + 0.001 * 3, 3 - 0.001 * 3 * 3
    for how in ("mean", "worst_case"):
        assert shifted(monkeypatch, 5.0, how=how).score_range == pytest.approx((low, high))
    assert shifted(monkeypatch, 5.0).score_range == pytest.approx((-math.inf, high))
    raw = shifted(monkeypatch, 5.0, how="mean", scale="raw").score_range
    assert raw == pytest.approx((low + 1 + 2.5, high + 1 + 2.5))


def test_a_member_that_says_nothing_of_unseen_pairs(paths: list[str], tmp_path: Path):
    save_scalar(load_scalar(tiny(), AdapterSettings(), texts=texts, seed=2), tmp_path / "model")
    three = (*paths, str(tmp_path))
    with pytest.raises(ModelError, match=f"reward=ensemble: {tmp_path} does not say how .* reward.scale=raw"):
        Ensemble(three, device="cpu").prepare()
    raw = Ensemble(three, how="mean", scale="raw", device="cpu").prepare()
    assert raw.score_range is None
    assert raw.score(PROMPTS, REPLIES) == pytest.approx(sum(map(alone, three)) / 3, abs=1e-6)


def test_a_member_that_scores_all_alike_cannot_be_standardised(paths: list[str], tmp_path: Path):
    save_scalar(load_scalar(tiny(), AdapterSettings(), texts=texts, seed=2), tmp_path / "model")
    write_unseen(tmp_path / "model", [1.0, 1.0])
    with pytest.raises(ModelError, match="scores all unseen replies alike"):
        Ensemble((paths[0], str(tmp_path)), scale="standardised", device="cpu").prepare()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"paths": ["a"]}, "two members or more, paths=\\['a'\\] names 1: .*reward=bradley_terry for one"),
        ({"paths": ["a", "b", "a"]}, "paths names a twice"),
        ({"paths": ["a", "b"], "how": "worst"}, "how: takes one of .* Did you mean 'worst_case'"),
        ({"paths": ["a", "b"], "coefficient": -1}, "coefficient: takes a number at least 0"),
    ],
)
def test_mistakes_are_told(values: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        build(Ensemble, values)


def test_it_is_typed_as_a_list_of_runs_of_a_sweep():
    words = ["model.path=a", "reference.path=b", "reward=ensemble", "reward.paths=[runs/seed=1,runs/seed=2]"]
    stage: Any = run_from(["stage=evaluate", *words], []).stage
    assert stage.reward == Ensemble(("runs/seed=1", "runs/seed=2"))
    assert registry.component("reward", "ensemble") is Ensemble

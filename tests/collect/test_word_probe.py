"""The word-count probe: its model against scikit-learn's, its baseline, and when it warns."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from align.collect._probe import ProbeSettings, artefact_warning, counted, fitted, probe, sampled
from align.types import Message, PreferencePair

SETTINGS = ProbeSettings()
WORDS = [f"w{i}" for i in range(12)]


def pair(chosen: str, rejected: str, prompt: str) -> PreferencePair:
    return PreferencePair("", (Message("user", prompt),), chosen, rejected)


def random_pairs(count: int, seed: int, marked: float = 0.0, prompts: int = 10**9) -> list[PreferencePair]:
    """Replies of random words; a share of the chosen ones says "indeed" as well."""
    rng = Random(seed)
    pairs = []
    for i in range(count):
        chosen, rejected = (" ".join(rng.choices(WORDS, k=6)) for _ in range(2))
        chosen += " indeed" if rng.random() < marked else ""
        pairs.append(pair(chosen, rejected, f"p{i % prompts}"))
    return pairs


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_the_model_is_scikit_learns(penalty: float):
    """Each pair in both directions is theirs without an intercept: their loss counts it twice."""
    counts = counted(random_pairs(80, seed=1, marked=0.5), least=1)
    dense = np.zeros((counts.pairs, len(counts.vocabulary)))
    dense[counts.rows, counts.columns] = counts.values
    theirs = LogisticRegression(C=1 / (2 * penalty), fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(np.concatenate([dense, -dense]), [1] * counts.pairs + [0] * counts.pairs)
    np.testing.assert_allclose(fitted(counts, penalty), theirs.coef_[0], atol=1e-4)


def test_one_word_by_hand():
    """40 pairs that one word tells, x = log 2 in each: its weight solves w = 40 x / (1 + exp(w x))."""
    counts = counted([pair("yes", "", f"p{i}") for i in range(40)], least=3)
    assert counts.vocabulary == ("yes",)
    (weight,) = fitted(counts, penalty=1.0)
    x = np.log(2)
    assert weight == pytest.approx(40 * x / (1 + np.exp(weight * x)), abs=1e-4)


def test_counts_are_differences_with_the_case_folded():
    """'the' stands once more in the chosen reply, 'cat' as often; marks are words of their own."""
    counts = counted([pair("The cat, the dog", "a Cat: the", "p")], least=1)
    found = {
        counts.vocabulary[column]: value for column, value in zip(counts.columns, counts.values, strict=True)
    }
    two = np.log(2)
    expected = {"the": np.log(3) - two, ",": two, "dog": two, "a": -two, ":": -two}
    assert found == pytest.approx(expected)


def test_rare_words_are_not_looked_at():
    pairs = [pair("yes", "no", "p"), pair("yes", "no", "q"), pair("yes", "maybe", "r")]
    assert counted(pairs, least=2).vocabulary == ("no", "yes")


def test_fair_coins_are_right_half_the_time():
    """Over many sets of labels that mean nothing, the mean accuracy is 1/2 within four standard errors."""
    found = [probe(random_pairs(100, seed), SETTINGS) for seed in range(40)]
    accuracies = [one.accuracy.value for one in found if one is not None]
    assert abs(np.mean(accuracies) - 0.5) < 4 * 0.5 / np.sqrt(40 * 100)


def test_an_artefact_is_found_named_and_warned_of():
    """Nine in ten chosen replies say "indeed"; in the others a guess is right half the time."""
    found = probe(random_pairs(600, seed=0, marked=0.9), SETTINGS)
    assert found is not None
    assert found.accuracy.value == pytest.approx(0.95, abs=0.04)
    first = found.telling[0]
    assert (first.word, first.rejected) == ("indeed", 0)
    assert first.chosen == pytest.approx(540, abs=30)
    warning = artefact_warning(found, None, SETTINGS)
    assert warning is not None
    assert "rarely a matter of quality" in warning
    assert f"'indeed' {first.chosen}:0" in warning
    assert artefact_warning(found, None, replace(SETTINGS, limit=0.99)) is None


def test_what_the_truth_shows_as_well_is_no_artefact():
    """The same labels by the truth warn of nothing; a truth that words do not tell does."""
    pairs = random_pairs(400, seed=0, marked=0.9)
    found = probe(pairs, SETTINGS)
    rng = Random(5)
    coins = [
        one if rng.random() < 0.5 else replace(one, chosen=one.rejected, rejected=one.chosen) for one in pairs
    ]
    truth = probe(coins, SETTINGS)
    assert found is not None
    assert truth is not None
    assert artefact_warning(found, found, SETTINGS) is None
    warning = artefact_warning(found, truth, SETTINGS)
    assert warning is not None
    assert f"(the truth's labels on {truth.accuracy.value:.1%}" in warning


def test_a_prompt_is_never_seen_in_training():
    """Words that belong to one prompt each tell nothing of another, though each tells its own perfectly."""
    pairs = [pair(f"good{i % 40}", f"bad{i % 40}", f"p{i % 40}") for i in range(400)]
    found = probe(pairs, SETTINGS)
    assert found is not None
    assert found.accuracy.value == 0.5
    assert found.accuracy.n == 40


def test_too_few_pairs_or_prompts_say_nothing():
    assert probe(random_pairs(19, seed=0), SETTINGS) is None
    assert probe(random_pairs(100, seed=0, prompts=4), SETTINGS) is None
    assert probe(random_pairs(20, seed=0, prompts=5), SETTINGS) is not None


def test_many_pairs_are_thinned_evenly():
    pairs = random_pairs(10, seed=0)
    assert sampled(pairs, 3) == [pairs[0], pairs[3], pairs[6]]
    assert sampled(pairs, 10) == pairs

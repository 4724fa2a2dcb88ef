"""The curves of Gao et al. (2022): recovered from their own points, and their peaks by calculus."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.errors import DataError
from align.evaluation.overoptimisation import Form, fitted

KL = np.array([0.25, 1.0, 4.0, 9.0, 16.0])


def test_best_of_n_by_hand() -> None:
    """a = 1, b = 0.1 at d = 1/2, 1, 2, 3, 4: 0.475, 0.9, 1.6, 2.1, 2.4; the peak a/2b = 5 has a^2/4b."""
    found = fitted("best_of_n", KL, [0.475, 0.9, 1.6, 2.1, 2.4])
    assert (found.a, found.b, found.error) == pytest.approx((1.0, 0.1, 0.0), abs=1e-12)
    assert found.peak() == pytest.approx((5.0, 2.5))


def test_reinforcement_learning_by_hand() -> None:
    """a = b = 1/4: d (1 - log d)/4, whose peak at e^(a/b - 1) = 1 is b d = 1/4."""
    d = np.sqrt(KL)
    found = fitted("rl", KL, d * (1 - np.log(d)) / 4)
    assert (found.a, found.b) == pytest.approx((0.25, 0.25), abs=1e-12)
    assert found.peak() == pytest.approx((1.0, 0.25))
    assert found.at([math.e]) == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_no_other_coefficients_fit_better(form: Form) -> None:
    rewards = [0.3, 1.2, 1.4, 2.6, 2.1]
    found = fitted(form, KL, rewards)

    def squares(a: float, b: float) -> float:
        return float(((type(found)(form, a, b, 0.0).at(np.sqrt(KL)) - rewards) ** 2).sum())

    least = squares(found.a, found.b)
    assert found.error == pytest.approx(math.sqrt(least / 3))
    for da, db in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01), (0.01, 0.01), (-0.01, -0.01)):
        assert squares(found.a + da, found.b + db) > least


def test_a_curve_that_never_turns_has_no_peak() -> None:
    assert fitted("best_of_n", KL, KL).peak() is None


def test_too_few_points_are_refused() -> None:
    with pytest.raises(DataError, match="three distances"):
        fitted("rl", [1.0, 4.0, 4.0], [1.0, 2.0, 2.1])
    with pytest.raises(DataError, match="above 0"):
        fitted("rl", [0.0, 1.0, 4.0], [0.0, 1.0, 2.0])
    with pytest.raises(DataError, match="2 rewards"):
        fitted("rl", [1.0, 4.0, 9.0], [1.0, 2.0])

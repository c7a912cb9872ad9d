"""The rule of the verdicts: every word, the correction for many comparisons, the power."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME, Comparison, judge, power
from scipy import stats


def c(value: float, half: float = 1.0, metric: str = "iic", margin: float | None = 0.5, **more) -> Comparison:
    """A difference whose 95 % interval reaches ``half`` to both sides."""
    more = {"n": 500, "cell": metric, **more}
    return Comparison("a", "b", metric, value, value - half, value + half, margin=margin, **more)


@pytest.mark.parametrize(
    ("comparisons", "word"),
    [
        ([c(1.2)], HOLDS),
        ([c(0.9)], HOLDS),  # the 95 % interval crosses 0, the one-sided test at 5 % does not
        ([c(0.8)], OPEN),
        ([c(1.2), c(0.0, 0.1)], SAME),  # what does not hold is no difference to speak of
        ([c(0.0, 0.1), c(0.1, 0.2)], SAME),
        ([c(0.0, 0.7)], OPEN),
        ([c(-1.2)], AGAINST),
        ([c(-1.2), c(1.2)], AGAINST),
        ([c(-0.3, 0.1)], SAME),  # certainly below 0, but by less than what matters
        ([c(-0.3, 0.1, margin=None)], AGAINST),  # a level has no margin
        ([replace(c(0.5), low=None, high=None)], OPEN),
        ([c(0.0, 1e-8)], SAME),  # two names of one map
        ([c(3e-7, 1e-8)], SAME),
    ],
)
def test_words(comparisons, word):
    assert judge(comparisons).word == word


def test_the_printed_value_is_looked_for_in_an_interval_alone():
    assert c(1.0, 0.5, printed=1.2).as_printed
    assert not c(1.0, 0.1, printed=1.2).as_printed
    assert c(1.0, 0.5).as_printed is None
    assert c(21.61, 0.0, printed=21.61).as_printed is None  # a size


def test_one_of_many_must_be_further_below():
    """z of 2.4: p = 0.008 is below 2 % alone, not times six."""
    alone, others = c(-2.4, 1.96), [c(3.0, 1.96)] * 5
    assert judge([alone]).word == AGAINST
    assert judge([alone, *others]).word == OPEN
    assert judge([c(-2.8, 1.96), *others]).word == AGAINST


def test_few_images_must_be_further_below_too():
    assert judge([c(-2.4, 1.96, n=500)]).word == AGAINST
    assert judge([c(-2.4, 1.96, n=100)]).word == OPEN
    assert judge([c(-2.7, 1.96, n=100)]).word == AGAINST


def test_a_level_is_turned_by_its_sign_and_exact_numbers_need_no_interval():
    level = Comparison("a", None, "shap_cosine", 0.85, 0.83, 0.87, 100, bound=0.9)
    assert judge([level]).word == AGAINST
    assert judge([replace(level, sign=-1)]).word == HOLDS
    counted = Comparison("a", "b", "parameters", 0.53, 0.53, 0.53, 1, margin=0.265)
    assert judge([counted]).word == HOLDS
    assert judge([replace(counted, value=-133.0, low=-133.0, high=-133.0)]).word == AGAINST
    assert judge([replace(counted, value=0.0, low=0.0, high=0.0)]).word == SAME


def test_the_deciding_comparison_is_the_strongest_against_the_claim():
    weak, strong = c(-1.5), replace(c(-6.0), reference="d")
    assert judge([weak, strong, c(2.0)]).deciding is strong
    assert judge([c(2.0), c(3.0)]).deciding.value == 2.0
    found = judge([c(1.5), c(0.0, 0.1), c(0.2, 3.0)])
    assert (found.word, found.holding, found.deciding.value) == (OPEN, 1, 0.2)


def test_skewed_intervals_test_each_side_by_its_own_width():
    leaning = replace(c(-1.0), low=-1.5, high=0.2)
    assert judge([leaning]).word == OPEN  # its upper end is 1.2 away
    assert judge([replace(c(-1.0), low=-2.2, high=-0.5)]).word == AGAINST


def test_a_small_sample_of_networks_uses_students_t():
    three = c(1.0, 1.2, n=3, of_networks=True)
    assert three.p_holds == pytest.approx(stats.t.sf(1.0 / (1.2 / stats.t.ppf(0.975, 2)), 2))
    assert judge([replace(three, value=-1.0, low=-2.2, high=0.2)]).word == OPEN
    assert judge([replace(three, value=-2.2, low=-3.4, high=-1.0)]).word == AGAINST  # networks are few by nature


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ((2.0, 2.0, -2.0), HOLDS),
        ((2.0, -2.0, -2.0), AGAINST),
        ((2.0, 0.3, -2.0), OPEN),
        ((2.0, -2.0, -1.1), OPEN),  # -1.1 is below alone, but not at half the level
    ],
)
def test_most_cells(cells, word):
    assert judge([c(v, metric=m) for v, m in zip(cells, ("iic", "ad", "add"), strict=True)], cells=True).word == word


def test_the_power_of_one_comparison_is_the_normal_one_and_of_several_that_of_their_minimum():
    one = c(0.0, 1.96, printed=2.0)
    expected = stats.norm.cdf(2.0 - 1.6449)
    assert power([one], np.eye(1)) == pytest.approx(expected, abs=0.01)
    assert power([one, one], np.eye(2)) == pytest.approx(expected**2, abs=0.01)
    assert power([one, one], np.ones((2, 2))) == pytest.approx(expected, abs=0.01)
    assert power([one], np.eye(1), n=2000) == pytest.approx(stats.norm.cdf(4.0 - 1.6449), abs=0.01)
    few = c(0.0, stats.t.ppf(0.975, 4), printed=0.2, n=5)  # its standard error is 1; 500 images are judged as 500
    assert power([few], np.eye(1), n=500) == pytest.approx(stats.norm.cdf(2.0 - 1.6449), abs=0.01)
    assert power([c(1.0)], np.eye(1)) is None
    halves = stats.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([2.0 - 1.6449] * 2)
    assert power([one, one], np.array([[1, 0.5], [0.5, 1]])) == pytest.approx(halves, abs=0.01)


def test_the_power_of_most_cells_counts_cells():
    cells = [c(0.0, 1.96, metric=m, printed=2.0) for m in ("iic", "ad", "add")]
    p = stats.norm.cdf(2.0 - 1.6449)
    assert power(cells, np.eye(3), cells=True) == pytest.approx(p**3 + 3 * p**2 * (1 - p), abs=0.01)

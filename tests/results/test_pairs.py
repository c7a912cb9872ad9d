"""Intervals over pairs of networks: by the formula of a mean of two, by lot, and where there are too few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from campanion.results.pairs import Pairs, over_networks
from scipy import stats


def of_networks(level: np.ndarray, images: int = 50, noise: float = 0.0, seed: int = 0) -> Pairs:
    """Networks whose value in a pair is the sum of their levels."""
    values = level[:, None] + level[None]
    drawn = np.random.default_rng(seed).normal(0, noise, images) if noise else np.zeros(images)
    apart = ~np.eye(len(level), dtype=bool)
    return Pairs(values + drawn.mean(), values[apart].mean() + drawn)


def test_a_sum_of_two_levels_has_twice_the_error_of_their_mean() -> None:
    """The mean over pairs of u_i + u_j is 2 mean(u), whose standard error is known."""
    level = np.array([3.0, 5.0, 4.0, 9.0, 1.0])
    found = over_networks([(1, of_networks(level))])
    half = stats.t.ppf(0.975, 4) * 2 * level.std(ddof=1) / 5**0.5
    assert found["mean"] == pytest.approx(2 * level.mean())
    assert (found["low"], found["high"]) == pytest.approx((found["mean"] - half, found["mean"] + half))
    assert found["low_images"] == found["high_images"] == found["mean"]


def test_images_and_networks_add_up_and_a_difference_pairs_the_images() -> None:
    one, other = (
        of_networks(np.array([3.0, 5.0, 4.0, 9.0]), noise=8.0),
        of_networks(np.array([1.0, 2.0, 4.0]), noise=8.0),
    )
    found = over_networks([(1, one)])
    alone = (found["high_images"] - found["low_images"]) / 2 / stats.norm.ppf(0.975)
    assert alone == pytest.approx(one.images.std(ddof=1) / 50**0.5)
    total = alone**2 + one.variance
    freedom = total**2 / (one.variance**2 / 3)
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, freedom) * total**0.5)
    both = over_networks([(1, one), (-1, other)])
    # the same images are as hard for both: only the networks' chance is left
    assert both["high_images"] - both["low_images"] == pytest.approx(0, abs=1e-9)
    assert both["mean"] == pytest.approx(2 * 5.25 - 2 * 7 / 3)
    assert both["low"] < both["mean"] < both["high"]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, hits, count = np.random.default_rng(0), 0, 600
    for _ in range(count):
        level, error = rng.normal(15, 4, 6), np.triu(rng.normal(0, 3, (6, 6)), 1)
        values = level[:, None] + level[None] + error + error.T
        found = over_networks([(1, Pairs(values, np.full(2, 30.0)))])
        hits += found["low"] <= 30 <= found["high"]
    assert 0.93 <= hits / count <= 0.99


def test_pairs_that_do_not_count_are_left_out() -> None:
    values = of_networks(np.array([1.0, 2.0, 3.0, 50.0])).values
    values[3], values[:, 3] = np.nan, np.nan
    pairs = Pairs(values, np.zeros(4))
    assert pairs.networks == 3
    assert over_networks([(1, pairs)])["mean"] == pytest.approx(4)


@pytest.mark.parametrize("names", ["ab", "a star"])
def test_too_few_networks_have_no_interval(names: str) -> None:
    values = np.full((4, 4), np.nan)
    values[0, 1] = values[1, 0] = 30
    if names == "a star":  # every pair holds the first network: without it nothing is left
        values[0, 2:] = values[2:, 0] = 40
    found = over_networks([(1, Pairs(values, np.array([29.0, 31.0])))])
    assert math.isnan(found["low"])
    assert found["low_images"] < found["mean"]

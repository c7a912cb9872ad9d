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
    return Pairs(values + drawn.mean(), values[apart].mean() + drawn, range(len(level)))


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
        found = over_networks([(1, Pairs(values, np.full(2, 30.0), range(6)))])
        hits += found["low"] <= 30 <= found["high"]
    assert 0.93 <= hits / count <= 0.99


def test_pairs_that_do_not_count_are_left_out() -> None:
    values = of_networks(np.array([1.0, 2.0, 3.0, 50.0])).values
    values[3], values[:, 3] = np.nan, np.nan
    pairs = Pairs(values, np.zeros(4), range(4))
    assert len(pairs.units) == 3
    assert over_networks([(1, pairs)])["mean"] == pytest.approx(4)


def brute_force(values: dict[tuple[int, int], float], units: list[int]) -> float:
    """Half of the 95 % interval over networks: each unit's networks are left out with their pairs."""
    means = []
    for unit in sorted(set(units)):
        left = [value for (i, j), value in values.items() if unit not in (units[i], units[j])]
        means.append(sum(left) / len(left))
    count = len(means)
    variance = (count - 1) / count * sum((mean - sum(means) / count) ** 2 for mean in means)
    return stats.t.ppf(0.975, count - 1) * variance**0.5


@pytest.mark.parametrize(
    ("seeds", "units"),
    [
        ([0, 0, 0, 1, 2, 2], [0, 0, 0, 1, 2, 2]),
        ([5, 1, 4, 1, 2, 3], [5, 1, 4, 1, 2, 3]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ([7] * 6, [0, 1, 2, 3, 4, 5]),  # pairs of one seed: one network at a time
    ],
)
def test_a_seed_is_left_out_with_all_its_networks(seeds: list[int], units: list[int]) -> None:
    drawn = np.random.default_rng(3).normal(30, 5, (6, 6))
    counted = {(i, j): drawn[i, j] for i in range(6) for j in range(i + 1, 6) if units[i] != units[j]}
    values = np.full((6, 6), np.nan)
    for (i, j), value in counted.items():
        values[i, j] = values[j, i] = value
    mean = sum(counted.values()) / len(counted)
    found = over_networks([(1, Pairs(values, np.full(2, mean), seeds))])
    assert (found["mean"], found["high"] - mean) == pytest.approx((mean, brute_force(counted, units)))


def test_two_seeds_have_no_interval_however_many_their_networks() -> None:
    values = np.full((8, 8), 30.0)
    for seed in (slice(0, 4), slice(4, 8)):
        values[seed, seed] = np.nan
    assert math.isnan(over_networks([(1, Pairs(values, np.full(2, 30.0), [0] * 4 + [1] * 4))])["low"])


@pytest.mark.parametrize("names", ["ab", "a star"])
def test_too_few_networks_have_no_interval(names: str) -> None:
    values = np.full((4, 4), np.nan)
    values[0, 1] = values[1, 0] = 30
    if names == "a star":  # every pair holds the first network: without it nothing is left
        values[0, 2:] = values[2:, 0] = 40
    found = over_networks([(1, Pairs(values, np.array([29.0, 31.0]), range(4)))])
    assert math.isnan(found["low"])
    assert found["low_images"] < found["mean"]

"""Intervals over images, training runs and networks: against other implementations, and how often they hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from campanion.results.statistics import combine, paired, random_effects, summarise
from scipy import stats


def errors(seed: int, shares: list[float], n: int = 2000) -> np.ndarray:
    """Errors of some training runs on images of which some are hard for all of them."""
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < 0.1
    return np.stack([100.0 * (hard | (generator.random(n) < share)) for share in shares])


def test_over_images_the_interval_is_that_of_the_bootstrap() -> None:
    a, b = errors(0, [0.10, 0.12]), errors(0, [0.06, 0.08])
    rows = [
        {"method": name, "image": i, "error": value}
        for name, values in (("a", a), ("b", b))
        for run in values
        for i, value in enumerate(run)
    ]
    frame = pd.DataFrame(rows)
    mean = summarise(frame, "error").set_index("method").loc["a"]
    difference = paired(frame, "error").iloc[0]
    for found, expected in ((combine([(1, a)]), mean), (combine([(1, a), (-1, b)]), difference)):
        assert found["mean"] == pytest.approx(expected["mean"])
        width = expected["high"] - expected["low"]
        assert found["low_images"] == pytest.approx(expected["low"], abs=0.05 * width)
        assert found["high_images"] == pytest.approx(expected["high"], abs=0.05 * width)


def test_trainings_alone_give_welchs_interval() -> None:
    """Where all images of a training run have one error, only the runs vary."""
    a, b = (np.repeat(np.array(v)[:, None], 50, 1) for v in ([6.1, 6.9, 6.4], [5.2, 5.9, 5.5, 5.0]))
    expected = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False).confidence_interval()
    found = combine([(1, a), (-1, b)])
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["low_images"] == pytest.approx(found["high_images"])
    single = combine([(1, a)])
    expected = stats.ttest_1samp(a[:, 0], 0).confidence_interval()
    assert (single["low"], single["high"]) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_both_covers_the_truth_about_as_often_as_it_says() -> None:
    """Training runs with errors of their own (sd 1 point) on images drawn anew."""
    generator, hits = np.random.default_rng(3), 0
    for _ in range(300):
        share = np.clip(generator.normal(0.10, 0.01, 3), 0, 1)
        found = combine([(1, 100.0 * (generator.random((3, 400)) < share[:, None]))])
        hits += found["low"] <= 10 <= found["high"]
    assert 0.92 <= hits / 300 <= 1


def test_two_trainings_give_no_interval() -> None:
    found = combine([(1, errors(1, [0.1, 0.2])), (-1, errors(2, [0.1, 0.2, 0.15]))])
    assert np.isnan([found["low"], found["high"]]).all()
    assert np.isfinite([found["mean"], found["low_images"]]).all()


# BCG vaccine trials (Colditz et al. 1994, dat.bcg of the R package metafor): ill and well, vaccinated and not
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip


def test_random_effects_are_those_of_the_published_meta_analysis() -> None:
    """DerSimonian and Laird for these trials: tau^2 0.3088, mean -0.7141; Knapp and Hartung's error is 0.1807."""
    a, b, c, d = BCG.T
    values, variances = np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    found = random_effects(values, variances**0.5)
    assert found["tau"] ** 2 == pytest.approx(0.3088, abs=2e-4)
    assert found["mean"] == pytest.approx(-0.7141, abs=2e-4)
    half = stats.t.ppf(0.975, 12)
    assert (found["high"] - found["low"]) / 2 / half == pytest.approx(0.1807, abs=2e-3)
    predicted = (found["predicted_high"] - found["predicted_low"]) / 2 / half
    assert predicted == pytest.approx((0.3088 + 0.1807**2) ** 0.5, abs=2e-3)
    assert np.isnan(random_effects(values[:2], variances[:2])["low"])

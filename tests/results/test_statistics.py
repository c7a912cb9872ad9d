"""Intervals against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from campanion.results.statistics import paired, summarise


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    base = rng.gamma(2.0, 1.0, 150)
    methods = {"cam": base + rng.normal(0, 0.1, 150), "fd_cam": base + 0.2 + rng.normal(0, 0.1, 150)}
    methods["lift_cam"] = rng.gamma(2.0, 1.0, 150)
    return pd.DataFrame(
        [{"image": i, "method": m, "auc": v[i], "drop": 1 - v[i]} for m, v in methods.items() for i in range(150)]
    ).sample(frac=1, random_state=0)


def values(frame: pd.DataFrame, method: str) -> np.ndarray:
    return frame[frame.method == method].sort_values("image").auc.to_numpy()


def test_mean_interval_agrees_with_scipy_and_the_normal_limit(frame):
    summary = summarise(frame, ["auc", "drop"])
    assert list(summary.columns) == ["method", "metric", "mean", "low", "high", "n"]
    assert len(summary) == 6
    for method in ("cam", "fd_cam", "lift_cam"):
        row = summary[(summary.method == method) & (summary.metric == "auc")].iloc[0]
        x = values(frame, method)
        outside = scipy.stats.bootstrap((x,), np.mean, method="percentile", n_resamples=10_000, rng=1)
        se = x.std(ddof=1) / np.sqrt(len(x))
        assert row["mean"] == pytest.approx(x.mean(), abs=1e-12)
        assert row.n == 150
        np.testing.assert_allclose([row.low, row.high], outside.confidence_interval, atol=0.08 * se)
        np.testing.assert_allclose([row.low, row.high], x.mean() + np.array([-1.96, 1.96]) * se, atol=0.2 * se)


def test_paired_interval_is_that_of_the_differences(frame):
    rows = paired(frame, "auc", reference="cam").set_index("method")
    assert set(rows.index) == {"fd_cam", "lift_cam"}
    d = values(frame, "fd_cam") - values(frame, "cam")
    outside = scipy.stats.bootstrap((d,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    se = d.std(ddof=1) / np.sqrt(len(d))
    row = rows.loc["fd_cam"]
    assert row["mean"] == pytest.approx(d.mean(), abs=1e-12)
    np.testing.assert_allclose([row.low, row.high], outside, atol=0.08 * se)
    assert row.low > 0  # the shift of 0.2 shows, though the unpaired intervals overlap widely
    summary = summarise(frame, "auc").set_index("method")
    assert summary.loc["cam"].high > summary.loc["fd_cam"].low


def test_all_pairs_once_and_a_swapped_pair_is_negated(frame):
    every = paired(frame, ["auc", "drop"])
    assert len(every) == 6
    one = every[every.metric == "auc"].iloc[0]
    back = paired(frame, "auc", reference=one.method).set_index("method").loc[one.reference]
    np.testing.assert_allclose([back["mean"], back.low, back.high], [-one["mean"], -one.high, -one.low], atol=1e-12)


def test_the_same_rows_in_another_order_give_the_same_numbers(frame):
    again = summarise(frame.sample(frac=1, random_state=5), "auc").set_index("method").sort_index()
    pd.testing.assert_frame_equal(summarise(frame, "auc").set_index("method").sort_index(), again)


def test_few_images_have_students_interval_and_two_have_none():
    rng = np.random.default_rng(4)
    x = rng.gamma(2.0, 1.0, 20)
    frame = pd.DataFrame({"image": range(20), "method": "cam", "auc": x})
    row, expected = summarise(frame, "auc").iloc[0], scipy.stats.ttest_1samp(x, 0).confidence_interval()
    np.testing.assert_allclose([row.low, row.high], [expected.low, expected.high], rtol=1e-12)
    two = summarise(frame[:2], "auc").iloc[0]
    assert two["mean"] == x[:2].mean()
    assert np.isnan([two.low, two.high]).all()


def test_few_images_are_covered_as_often_as_the_interval_says():
    rng, hits = np.random.default_rng(11), 0
    for _ in range(300):
        x = 100.0 * (rng.random(40) < 0.3)
        row = summarise(pd.DataFrame({"image": range(40), "method": "cam", "iic": x}), "iic", resamples=2).iloc[0]
        hits += row.low <= 30 <= row.high
    assert 0.92 <= hits / 300 <= 0.98


def test_an_interval_stays_where_the_metric_can_be():
    frame = pd.DataFrame({"image": range(5), "method": "cam", "iic": [100.0, 100, 100, 100, 0]})
    row = summarise(frame, "iic").iloc[0]
    assert (row.low > 0, row.high) == (True, 100.0)


def test_rows_of_one_image_are_drawn_together():
    """100 images with 9 equal rows each: as wide as 100 rows, three times wider than 900 independent ones."""
    rng = np.random.default_rng(0)
    hit = rng.integers(0, 2, 100).astype(float)
    single = pd.DataFrame({"image": range(100), "method": "cam", "hit": hit})
    nine = pd.concat([single] * 9)
    a, b = summarise(single, "hit").iloc[0], summarise(nine, "hit").iloc[0]
    np.testing.assert_allclose([a["mean"], a.low, a.high, a.n], [b["mean"], b.low, b.high, b.n], atol=1e-12)
    uneven = pd.DataFrame({"image": [0, 0, 0, 1], "method": "cam", "hit": [1.0, 1.0, 1.0, 0.0]})
    assert summarise(uneven, "hit").iloc[0]["mean"] == 0.75  # micro: over rows


def test_missing_values_and_unshared_images(frame):
    holes = frame.copy()
    holes.loc[(holes.method == "cam") & (holes.image < 50), "auc"] = np.nan
    rows = paired(holes, "auc", reference="cam").set_index("method")
    d = (values(frame, "fd_cam") - values(frame, "cam"))[50:]
    assert rows.loc["fd_cam"].n == 100
    assert rows.loc["fd_cam"]["mean"] == pytest.approx(d.mean(), abs=1e-12)
    assert summarise(holes, "auc").set_index("method").loc["cam"].n == 100
    apart = pd.DataFrame({"image": [0, 1], "method": ["cam", "fd_cam"], "auc": [0.0, 1.0]})
    with pytest.raises(ValueError, match="share no image"):
        paired(apart, "auc")


def test_wrong_names_are_told(frame):
    with pytest.raises(KeyError, match=r"No column 'auk'.*auc"):
        summarise(frame, "auk")
    with pytest.raises(ValueError, match=r"reference 'grad_cam'.*fd_cam"):
        paired(frame, "auc", reference="grad_cam")

r"""Intervals: of means and paired differences over images, over training runs too, and over networks.

The resampled unit is the image, not the row: where an image gives several rows (one per class in the pointing game)
they are drawn together, and the mean is the one over all rows (micro). All methods see the same resamples, which makes
a difference between two methods a paired one. From 100 units on intervals are those of the percentile bootstrap; below,
where it is too narrow, those of Student's t for a ratio of sums. Fewer than three units give no interval.

With values :math:`e_{si}` of S training runs on N images, and their difference between methods,

.. math:: \bar e \pm t_\nu \sqrt{s^2_{\text{images}} / N + s^2_{\text{runs}} / S}

where :math:`s^2_{\text{images}}` is the variance over images of an image's mean, :math:`s^2_{\text{runs}}` that
of the training runs' means, and :math:`\nu` the degrees of freedom of Welch and Satterthwaite. In the difference of two
methods the images are paired (both see the same ones), the training runs are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from campanion.results.measures import limits

RESAMPLES = 10_000
LEVEL = 0.95
FEW = 100  # units below which the percentile bootstrap is too narrow
LEAST = 3  # units (images, training runs, networks) that an interval needs
_BLOCK = 1 << 22  # resampling counts held at once: 32 MiB, whatever the number of images


def bootstrap_means(totals: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """``sum(totals) / sum(counts)`` of draws of units with replacement, ``[resamples, columns]``, from sums and numbers
    of the rows of each unit, ``[units, columns]``. Every column sees the same draws; NaN where a draw holds no row.
    """
    units = len(totals)
    rng = np.random.default_rng(0)
    parts, step = [], max(1, _BLOCK // units)
    for start in range(0, resamples, step):
        weights = rng.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start)).astype(float)
        held = weights @ counts
        parts.append(np.divide(weights @ totals, held, out=np.full(held.shape, np.nan), where=held > 0))
    return np.concatenate(parts)


def summarise(frame: pd.DataFrame, metrics: Sequence[str] | str, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Mean of every metric for every method, in the order of first appearance, with its 95 % interval, which stays
    between the metric's limits: columns ``method, metric, mean, low, high, n`` with n the number of images.

    ``frame`` has one row per image and method (or several per image), a column per metric; NaN rows are left out.

    >>> summarise(frame, ["insertion", "deletion"])
    """
    rows = []
    for metric, names, totals, counts, means in _resampled(frame, metrics, "method", resamples):
        for j, name in enumerate(names):
            n = int((counts[:, j] > 0).sum())
            mean = totals[:, j].sum() / counts[:, j].sum() if n else np.nan
            low, high = np.clip(_interval(means[:, j], totals[:, j], counts[:, j]), *limits(metric))
            rows.append((name, metric, mean, float(low), float(high), n))
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "n"])


def paired(
    frame: pd.DataFrame, metrics: Sequence[str] | str, reference: str | None = None, by: str = "method"
) -> pd.DataFrame:
    """Differences ``method - reference`` on the same images, with 95 % intervals as in :func:`summarise`.

    Without a ``reference`` every pair is given once: a test of a rank order needs neighbours, and a test of the best
    one against all. Columns ``method, reference, metric, mean, low, high, n``. Only images with equally many rows of
    both methods count; n is their number. ValueError where two methods share none.
    """
    rows = []
    for metric, names, totals, counts, resampled in _resampled(frame, metrics, by, RESAMPLES):
        if reference is not None and reference not in names:
            raise ValueError(f"No rows of the reference {reference!r} in column {by!r}; there are {', '.join(names)}.")
        for pair in combinations(names, 2) if reference is None else ((m, reference) for m in names if m != reference):
            columns = [names.index(name) for name in pair]
            shared = (counts[:, columns[0]] == counts[:, columns[1]]) & (counts[:, columns[0]] > 0)
            if not shared.any():
                raise ValueError(f"{pair[0]} and {pair[1]} share no image with a value of {metric}.")
            t, c = totals[np.ix_(shared, columns)], counts[np.ix_(shared, columns)]
            means = resampled[:, columns] if shared.all() else bootstrap_means(t, c)
            low, high = _interval(means[:, 0] - means[:, 1], t[:, 0] - t[:, 1], c[:, 0])
            mean = (t[:, 0].sum() - t[:, 1].sum()) / c[:, 0].sum()
            rows.append((*pair, metric, mean, low, high, len(t)))
    return pd.DataFrame(rows, columns=["method", "reference", "metric", "mean", "low", "high", "n"])


def means_and_differences(
    frame: pd.DataFrame, metrics: Sequence[str], reference: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`summarise` and :func:`paired` of each metric over the rows that have it; nothing of a metric without rows,
    and no differences where fewer than two methods, or not the reference, have it.
    """
    means, differences = [pd.DataFrame()], [pd.DataFrame()]
    for metric in (metric for metric in metrics if metric in frame):
        rows = frame.dropna(subset=metric)
        methods = set(rows["method"])
        if methods:
            means.append(summarise(rows, metric))
        if len(methods) > 1 and (reference is None or reference in methods):
            differences.append(paired(rows, metric, reference))
    return pd.concat(means, ignore_index=True), pd.concat(differences, ignore_index=True)


def _resampled(
    frame: pd.DataFrame, metrics: Sequence[str] | str, by: str, resamples: int
) -> Iterator[tuple[str, list[str], np.ndarray, np.ndarray, np.ndarray]]:
    """Of each metric its name, the methods, sums and numbers of rows ``[images, methods]`` and resampled means."""
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    missing = [column for column in (*metrics, by, "image") if column not in frame.columns]
    if missing:
        raise KeyError(f"No column {missing[0]!r} in the rows; there are {', '.join(map(str, frame.columns))}.")
    names = list(dict.fromkeys(frame[by]))
    parts = [_units(frame, metric, by, names) for metric in metrics]
    means = bootstrap_means(*(np.hstack(tables) for tables in zip(*parts, strict=True)), resamples)
    for metric, part, resampled in zip(metrics, parts, np.split(means, len(metrics), axis=1), strict=True):
        yield metric, names, *part, resampled


def _units(frame: pd.DataFrame, metric: str, by: str, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of rows per image and method, ``[images, methods]``; images in sorted order."""
    table = frame.assign(_value=pd.to_numeric(frame[metric]).astype(float)).pivot_table(
        index="image", columns=by, values="_value", aggfunc=["sum", "count"], dropna=False, observed=False
    )
    totals, counts = (table[f].reindex(columns=names).fillna(0).to_numpy(float) for f in ("sum", "count"))
    return totals, counts


def _interval(resampled: np.ndarray, totals: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Of sum(totals) / sum(counts): by the resampled means where there are many units, else by t."""
    held = counts > 0
    n = int(held.sum())
    if n < LEAST:
        return np.nan, np.nan
    tail = (1 - LEVEL) / 2
    if n >= FEW:
        low, high = np.nanpercentile(resampled, [100 * tail, 100 - 100 * tail])
        return float(low), float(high)
    totals, counts = totals[held], counts[held]
    mean = totals.sum() / counts.sum()
    error = ((totals - mean * counts) / counts.mean()).std(ddof=1) / n**0.5  # of a ratio of sums, to first order
    return _around(mean, error**2, n - 1)


def _around(mean: float, variance: float, freedom: float) -> tuple[float, float]:
    from scipy import stats  # only here: what draws a figure need not wait for it

    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5
    return float(mean - half), float(mean + half)


def combine(arms: Sequence[tuple[int, np.ndarray]]) -> dict[str, float]:
    """Mean of a signed sum of methods' values, as :func:`with_intervals` gives it; ``arms``: (sign, values [S, N]) of
    each method, one for a mean, two for a difference, over the same N images. Fewer than three training runs S of a
    method give no ``low`` and ``high`` (NaN).
    """
    images = sum(sign * values.mean(0) for sign, values in arms)
    runs = [
        (values.mean(1).var(ddof=1) / len(values) if len(values) >= LEAST else np.nan, len(values) - 1)
        for _, values in arms
    ]
    return with_intervals(float(images.mean()), images, runs)


def with_intervals(mean: float, images: np.ndarray, others: Sequence[tuple[float, float]]) -> dict[str, float]:
    """A mean over images [N] whose variance has further sources: ``mean``, ``low``, ``high``, and ``low_images``,
    ``high_images`` over images alone; ``others``: (variance of the mean, degrees of freedom), NaN where not known.
    """
    variance = float(images.var(ddof=1)) / len(images)
    total = variance + sum(v for v, _ in others)
    spread = sum(v**2 / max(freedom, 1) for v, freedom in others)
    low, high = _around(mean, total, total**2 / spread if spread > 0 else np.inf)
    low_images, high_images = _around(mean, variance, np.inf)
    return {"mean": mean, "low": low, "high": high, "low_images": low_images, "high_images": high_images}


def random_effects(values: Sequence[float], errors: Sequence[float]) -> dict[str, float]:
    r"""Mean over networks (values and their standard errors) whose true values differ, and where one more may be
    expected.

    :math:`\tau^2` (DerSimonian and Laird 1986) is the variance between networks, the weights are
    :math:`1 / (s_i^2 + \tau^2)`; the interval of the mean is that of Hartung, Knapp, Sidik and Jonkman (never narrower
    than the plain one), the prediction interval adds :math:`\tau^2` (IntHout et al. 2016), both with K - 1 degrees of
    freedom, and NaN below three networks.

    >>> random_effects([0.1, 0.2, 0.3], [0.01, 0.01, 0.01])["mean"]
    0.2
    """
    y, s2 = np.asarray(values, float), np.maximum(np.asarray(errors, float) ** 2, 1e-18)
    k, w = len(y), 1 / s2
    fixed = (w * y).sum() / w.sum()
    q = (w * (y - fixed) ** 2).sum()
    tau2 = max(0.0, (q - (k - 1)) / (w.sum() - (w**2).sum() / w.sum())) if k > 1 else 0.0
    w = 1 / (s2 + tau2)
    mean = float((w * y).sum() / w.sum())
    ends = [np.nan] * 4
    if k >= LEAST:
        variance = max(1.0, (w * (y - mean) ** 2).sum() / (k - 1)) / w.sum()
        ends = [*_around(mean, variance, k - 1), *_around(mean, variance + tau2, k - 1)]
    intervals = zip(("low", "high", "predicted_low", "predicted_high"), ends, strict=True)
    return {"mean": mean, "tau": float(tau2**0.5), "n": k, **dict(intervals)}

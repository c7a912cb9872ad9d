"""Intervals of means and of paired differences, by the bootstrap over images.

The resampled unit is the image, not the row: where an image gives several rows (one per class in the pointing
game) they are drawn together, and the mean is the one over all rows (micro). All methods see the same resamples,
which is what makes a difference between two methods a paired one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

RESAMPLES = 10_000
LEVEL = 0.95
_BLOCK = 1 << 22  # resampling counts held at once: 32 MiB, whatever the number of images


def bootstrap_means(totals: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of ``resamples`` draws of units with replacement: ``sum(totals) / sum(counts)`` of each draw.

    Args:
        totals: sums of the rows of each unit, ``[units, columns]``.
        counts: number of rows of each unit, ``[units, columns]``.
        resamples: number of draws.
        seed: of the draws; every column sees the same ones.

    Returns:
        ``[resamples, columns]``; NaN where a draw holds no row of a column.

    >>> bootstrap_means(np.array([[0.0], [1.0]]), np.ones((2, 1)), resamples=3).shape
    (3, 1)
    """
    units = len(totals)
    rng = np.random.default_rng(seed)
    parts, step = [], max(1, _BLOCK // units)
    for start in range(0, resamples, step):
        weights = rng.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start)).astype(float)
        held = weights @ counts
        parts.append(np.divide(weights @ totals, held, out=np.full(held.shape, np.nan), where=held > 0))
    return np.concatenate(parts)


def summarise(
    frame: pd.DataFrame,
    metrics: Sequence[str] | str,
    by: str = "method",
    unit: str = "image",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Mean of every metric for every method with its 95 % percentile-bootstrap interval.

    The interval runs from the 2.5 % to the 97.5 % quantile of the resampled means
    :math:`\bar x^* = \frac1n \sum_i x_{I_i}` with :math:`I_i` drawn uniformly with replacement.

    Args:
        frame: one row per image and method (or several per image), a column per metric; NaN rows are left out.
        metrics: names of the columns.
        by: column of the methods; their order of first appearance is kept.
        unit: column of what is resampled.

    Returns:
        Columns ``method, metric, mean, low, high, n`` with n the number of units. ``low`` and ``high`` are NaN
        where there are fewer than two units.

    Raises:
        KeyError: a column is missing; the sentence lists what is there.

    >>> summarise(frame, ["insertion", "deletion"])
    """
    rows = []
    for metric, names, totals, counts, means in _resampled(frame, metrics, by, unit, resamples, seed):
        for j, name in enumerate(names):
            n = int((counts[:, j] > 0).sum())
            mean = totals[:, j].sum() / counts[:, j].sum() if n else np.nan
            rows.append((name, metric, mean, *_interval(means[:, j], n), n))
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "n"])


def paired(
    frame: pd.DataFrame,
    metric: Sequence[str] | str,
    reference: str | None = None,
    by: str = "method",
    unit: str = "image",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Differences ``method - reference`` on the same images, with 95 % percentile-bootstrap intervals.

    Args:
        frame: as for :func:`summarise`.
        metric: one name or several.
        reference: the method to compare with; None gives every pair once (a test of a rank order needs
            neighbours, and a test of the best needs one against all).

    Returns:
        Columns ``method, reference, metric, mean, low, high, n``. Only units with equally many rows of both
        methods count; n is their number.

    Raises:
        ValueError: ``reference`` is not among the methods, or two methods share no image.
    """
    rows = []
    for name, methods, totals, counts, shared in _resampled(frame, metric, by, unit, resamples, seed):
        if reference is not None and reference not in methods:
            raise ValueError(
                f"No rows of the reference {reference!r} in column {by!r}; there are {', '.join(methods)}."
            )
        pairs = combinations(range(len(methods)), 2)
        if reference is not None:
            r = methods.index(reference)
            pairs = ((j, r) for j in range(len(methods)) if j != r)
        for pair in map(list, pairs):
            both = (counts[:, pair[0]] == counts[:, pair[1]]) & (counts[:, pair[0]] > 0)
            a, b = (methods[j] for j in pair)
            if not both.any():
                raise ValueError(f"{a} and {b} share no {unit} with a value of {name}.")
            t, c = totals[np.ix_(both, pair)], counts[np.ix_(both, pair)]
            means = shared[:, pair] if both.all() else bootstrap_means(t, c, resamples, seed)
            low, high = _interval(means[:, 0] - means[:, 1], len(t))
            mean = (t[:, 0].sum() - t[:, 1].sum()) / c[:, 0].sum()
            rows.append((a, b, name, mean, low, high, len(t)))
    return pd.DataFrame(rows, columns=["method", "reference", "metric", "mean", "low", "high", "n"])


def _resampled(
    frame: pd.DataFrame, metrics: Sequence[str] | str, by: str, unit: str, resamples: int, seed: int
) -> Iterator[tuple[str, list[str], np.ndarray, np.ndarray, np.ndarray]]:
    """Metric, methods, totals, counts and resampled means of each metric; one set of draws serves all of them."""
    metrics = _listed(frame, metrics, by, unit)
    parts = [_units(frame, m, by, unit) for m in metrics]
    means = bootstrap_means(np.hstack([p[1] for p in parts]), np.hstack([p[2] for p in parts]), resamples, seed)
    for metric, part, own in zip(metrics, parts, np.split(means, len(metrics), axis=1), strict=True):
        yield metric, *part, own


def _listed(frame: pd.DataFrame, metrics: Sequence[str] | str, *others: str) -> list[str]:
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    missing = [c for c in (*names, *others) if c not in frame.columns]
    if missing:
        raise KeyError(f"No column {missing[0]!r} in the rows; there are {', '.join(map(str, frame.columns))}.")
    return names


def _units(frame: pd.DataFrame, metric: str, by: str, unit: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sum and number of rows per unit and method, ``[units, methods]``; units in sorted order."""
    names = list(dict.fromkeys(frame[by]))
    values = pd.to_numeric(frame[metric]).astype(float)
    table = frame.assign(_value=values).pivot_table(
        index=unit, columns=by, values="_value", aggfunc=["sum", "count"], dropna=False, observed=False
    )
    parts = (table[f].reindex(columns=names).fillna(0).to_numpy(float) for f in ("sum", "count"))
    return names, *parts


def _interval(means: np.ndarray, n: int) -> tuple[float, float]:
    if n < 2:
        return np.nan, np.nan
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return float(low), float(high)

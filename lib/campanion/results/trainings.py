r"""Intervals with two sources of chance: which pictures were tested, and which networks were trained.

With values :math:`e_{si}` of S trainings (or of S pairs of them) on N pictures,

.. math:: \bar e \pm t_\nu \sqrt{s^2_{\text{pictures}} / N + s^2_{\text{trainings}} / S}

where :math:`s^2_{\text{pictures}}` is the variance over pictures of a picture's mean,
:math:`s^2_{\text{trainings}}` that of the trainings' means, and :math:`\nu` the degrees of freedom of Welch and
Satterthwaite. In the difference of two methods the pictures are paired (both see the same ones), the trainings are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95


def combine(arms: Sequence[tuple[int, np.ndarray]]) -> dict[str, float]:
    """Mean of a signed sum of methods' values, with both intervals of the module's head.

    Args:
        arms: (sign, values [S, N]) of each method: one for a mean, two for a difference, over the same N pictures.

    Returns:
        ``mean``; ``low``, ``high`` over pictures and trainings (NaN where a method has one training); ``low_pictures``,
        ``high_pictures`` over pictures alone.

    >>> combine([(1, plain), (-1, abn)])["mean"]
    """
    each = sum(sign * values.mean(0) for sign, values in arms)
    n, mean = len(each), float(each.mean())
    pictures = float(each.var(ddof=1)) / n
    trainings = [(values.mean(1).var(ddof=1) / len(values), len(values) - 1) for _, values in arms if len(values) > 1]
    low, high = np.nan, np.nan
    if len(trainings) == len(arms):
        total = pictures + sum(variance for variance, _ in trainings)
        spread = sum(variance**2 / freedom for variance, freedom in trainings)
        low, high = _interval(mean, total, total**2 / spread if spread > 0 else np.inf)
    low_pictures, high_pictures = _interval(mean, pictures, np.inf)
    return {"mean": mean, "low": low, "high": high, "low_pictures": low_pictures, "high_pictures": high_pictures}


def _interval(mean: float, variance: float, freedom: float) -> tuple[float, float]:
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5
    return float(mean - half), float(mean + half)

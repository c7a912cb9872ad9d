r"""Intervals of a mean over pairs of networks, which share networks and so are not independent.

The mean :math:`\bar u` over the pairs of K networks is a U-statistic. Leaving out network k with all its pairs gives
:math:`\bar u_{-k}`, and the jackknife over networks (Arvesen 1969)

.. math:: s^2_{\text{networks}} = \frac{K - 1}{K} \sum_k \Bigl(\bar u_{-k} - \tfrac1K \sum_l \bar u_{-l}\Bigr)^2

The interval is :math:`\bar u \pm t_\nu \sqrt{s^2_{\text{images}} / N + s^2_{\text{networks}}}`, where the first term is
the variance over images of an image's mean over the pairs, and :math:`\nu` the degrees of freedom of Welch and
Satterthwaite (K - 1 for the networks). In the difference of two methods the images are paired, the networks are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campanion.results.statistics import LEAST, with_intervals


@dataclass(frozen=True)
class Pairs:
    """Values of pairs of networks: ``values`` [K, K], symmetric, the mean over images of two networks' value, NaN for
    pairs that do not count; ``images`` [N], each image's mean over the pairs.
    """

    values: np.ndarray
    images: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """The pairs that count, bool [K, K], each once."""
        return np.triu(~np.isnan(self.values), 1)

    @property
    def networks(self) -> int:
        """K, those that are in a pair."""
        return int((self.counted | self.counted.T).any(0).sum())

    @property
    def variance(self) -> float:
        """The jackknife's over networks; NaN below three networks, or where one of them is in every pair."""
        means = []
        for k in np.flatnonzero((self.counted | self.counted.T).any(0)):
            others = self.counted
            others[k], others[:, k] = False, False
            means.append(self.values[others].mean() if others.any() else np.nan)
        if len(means) < LEAST:
            return np.nan
        return float((len(means) - 1) / len(means) * np.square(np.array(means) - np.mean(means)).sum())


def over_networks(arms: Sequence[tuple[int, Pairs]]) -> dict[str, float]:
    """Mean of a signed sum of methods' values, with its intervals, see
    :func:`~campanion.results.statistics.with_intervals`; ``low`` and ``high`` are NaN where a method has fewer than
    three networks.

    Args:
        arms: (sign, pairs) of each method: one for a mean, two for a difference, over the same N images.
    """
    mean = float(sum(sign * pairs.values[pairs.counted].mean() for sign, pairs in arms))
    networks = [(pairs.variance, pairs.networks - 1) for _, pairs in arms]
    return with_intervals(mean, sum(sign * pairs.images for sign, pairs in arms), networks)

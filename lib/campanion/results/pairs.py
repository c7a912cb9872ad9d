r"""Intervals of a mean over pairs of networks, which share networks and so are not independent.

The mean :math:`\bar u` over pairs is a U-statistic. Networks of one seed share initial weights and the order of images:
not the networks are independent but the K seeds. Leaving out seed k, with all its networks and their pairs, gives
:math:`\bar u_{-k}`, and the jackknife over seeds (Arvesen 1969)

.. math:: s^2_{\text{networks}} = \frac{K - 1}{K} \sum_k \Bigl(\bar u_{-k} - \tfrac1K \sum_l \bar u_{-l}\Bigr)^2

The interval is :math:`\bar u \pm t_\nu \sqrt{s^2_{\text{images}} / N + s^2_{\text{networks}}}`, where the first term is
the variance over images of an image's mean over the pairs, and :math:`\nu` the degrees of freedom of Welch and
Satterthwaite (K - 1 for the seeds). In the difference of two methods the images are paired, the networks are not. Pairs
of networks that all have one seed leave out one network at a time, and say nothing of another seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campanion.results.statistics import LEAST, with_intervals


@dataclass(frozen=True)
class Pairs:
    """Values of pairs of networks: ``values`` [K, K], symmetric, the mean over images of two networks' value, NaN for
    pairs that do not count; ``images`` [N], each image's mean over the pairs; ``seeds`` [K], of the networks.
    """

    values: np.ndarray
    images: np.ndarray
    seeds: Sequence[int]

    @property
    def counted(self) -> np.ndarray:
        """The pairs that count, bool [K, K], each once."""
        return np.triu(~np.isnan(self.values), 1)

    @property
    def units(self) -> list[np.ndarray]:
        """The networks [K] that are left out together: those of a seed, or each alone where all pairs share one."""
        paired, seeds = (self.counted | self.counted.T).any(0), np.asarray(self.seeds)
        units = seeds if len(set(seeds[paired])) > 1 else np.arange(len(seeds))
        return [paired & (units == unit) for unit in np.unique(units[paired])]

    @property
    def variance(self) -> float:
        """The jackknife's over the units; NaN below three, or where one of them is in every pair."""
        left = [self.values[self.counted & ~unit & ~unit[:, None]] for unit in self.units]
        if len(left) < LEAST or not all(map(len, left)):
            return np.nan
        return float((len(left) - 1) * np.var([values.mean() for values in left]))


def over_networks(arms: Sequence[tuple[int, Pairs]]) -> dict[str, float]:
    """Mean of a signed sum of methods' values as :func:`~campanion.results.statistics.with_intervals` gives it; ``low``
    and ``high`` are NaN where a method has fewer than three seeds. ``arms``: as of
    :func:`~campanion.results.statistics.combine`.
    """
    mean = float(sum(sign * pairs.values[pairs.counted].mean() for sign, pairs in arms))
    networks = [(pairs.variance, len(pairs.units) - 1) for _, pairs in arms]
    return with_intervals(mean, sum(sign * pairs.images for sign, pairs in arms), networks)

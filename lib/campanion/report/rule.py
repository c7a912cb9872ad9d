"""The rule of the verdicts: what intervals say of a claim.

A claim needs one or several quantities to lie above a bound: differences of two methods on the same images above 0, a
mean above a threshold. With one-sided tests at 5 % it

- **holds** where every one of them lies above its bound (an intersection-union test, which needs no correction);
- shows **no difference to speak of** where those that do not hold have 90 % intervals inside the claim's margin;
- is **contradicted** where at least one lies below (Holm over the needed quantities: 5 % for the whole claim, see
  :data:`AGAINST_ALPHA`), unless it lies inside the margin;
- else one **cannot tell**, and the power says how likely the printed differences would have been seen.

``docs/verdicts.md`` has the simulated rates at which the rule errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from scipy import special

from campanion.results.statistics import FEW, LEVEL

HOLDS, AGAINST, SAME, OPEN = "holds", "contradicted", "no difference to speak of", "cannot tell"
ALPHA = 0.05
#: nominal level of a contradiction. Few images carry most of a mean difference, so that tests at extreme levels are too
#: bold: at 5 % a tie is called contradicted in up to 8 % of the simulated runs of 500 images, at 2 % in at most 5 %.
#: With fewer images than MANY the level falls in proportion, for the same reason.
AGAINST_ALPHA, MANY = 0.02, 500
TIE = 1e-6  # differences below a millionth are rounding: on a linear head several methods are one
_DRAWS = 20_000


@dataclass(frozen=True)
class Comparison:
    """A quantity with its 95 % interval; the claim needs ``sign * (value - bound)`` above 0.

    ``printed`` is the same quantity in the paper, ``margin`` the difference that does not matter (None for a level),
    ``reference`` is None for a mean; ``same_images`` is whether both methods were measured on as many; ``of_networks``
    whether n counts networks, not images.
    """

    method: str
    reference: str | None
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    bound: float = 0.0
    sign: int = 1
    margin: float | None = None
    printed: float | None = None
    of_networks: bool = False
    same_images: bool = True
    cell: str = ""

    @property
    def freedom(self) -> float:
        """Degrees of freedom of its interval, which is Student's over networks and over few images."""
        normal = self.n >= FEW or self.method.startswith("rank")  # correlation, by Fisher's transform
        return inf if normal and not self.of_networks else max(self.n - 1, 1)

    @property
    def excess(self) -> float:
        """How far the quantity lies on the claimed side of its bound."""
        return self.sign * (self.value - self.bound)

    @property
    def errors(self) -> tuple[float, float]:
        """Standard errors downwards and upwards of the excess: the interval of skewed differences is not symmetric."""
        quantile = special.stdtrit(self.freedom, (1 + LEVEL) / 2)
        down, up = (max(width, 1e-300) / quantile for width in (self.value - self.low, self.high - self.value))
        return (down, up) if self.sign > 0 else (up, down)

    @property
    def tied(self) -> bool:
        """Whether it is a difference above 0 that is asked of two methods which are equal but for rounding."""
        return bool(self.reference and not self.bound and self.low is not None and max(-self.low, self.high) < TIE)

    @property
    def exact(self) -> bool:
        """Whether nothing varies, as in a number of parameters."""
        return self.low is not None and self.low == self.high

    @property
    def p_holds(self) -> float:
        """One-sided p value of 'the quantity does not lie above its bound'."""
        if self.low is None or self.tied:
            return 1.0
        if self.exact:
            return 0.0 if self.excess > 0 or (self.reference is None and self.excess > -TIE) else 1.0
        return special.stdtr(self.freedom, -self.excess / self.errors[0])

    @property
    def p_against(self) -> float:
        """One-sided p value of 'the quantity does not lie below its bound'."""
        if self.low is None or self.tied:
            return 1.0
        return 1.0 - self.p_holds if self.exact else special.stdtr(self.freedom, self.excess / self.errors[1])

    @property
    def inside(self) -> bool:
        """Whether the 90 % interval lies inside the margin."""
        if self.tied:
            return True
        if self.low is None or self.margin is None:
            return False
        down, up = (special.stdtrit(self.freedom, 1 - ALPHA) * e for e in self.errors)
        return -self.margin < self.excess - down and self.excess + up < self.margin

    @property
    def as_printed(self) -> bool | None:
        """Whether the 95 % interval holds the printed value; None where there is no interval or value to compare."""
        return None if self.exact or None in (self.printed, self.low) else self.low <= self.printed <= self.high

    @property
    def holds(self) -> bool:
        """Whether this quantity alone bears the claim out."""
        return self.p_holds <= ALPHA


@dataclass(frozen=True)
class Judgement:
    """What the rule says of the comparisons of a claim; ``deciding`` is the one that weighs most against it."""

    word: str
    comparisons: tuple[Comparison, ...]

    @property
    def holding(self) -> int:
        """How many comparisons hold."""
        return sum(c.holds for c in self.comparisons)

    @property
    def deciding(self) -> Comparison:
        """The weakest where the claim holds, else the strongest against it."""
        candidates = [c for c in self.comparisons if not (c.holds or c.inside)] or self.comparisons
        return min(candidates, key=lambda c: (c.p_against, -c.p_holds, c.excess))

    @property
    def tied(self) -> bool:
        """Whether methods that the claim tells apart are one and the same on this network."""
        return any(c.tied for c in self.comparisons)


def judge(comparisons: Sequence[Comparison], cells: bool = False) -> Judgement:
    """The verdict over all needed comparisons, or on 'the best in most cells' (comparisons of one ``cell`` belong
    together): it holds where more than half of the cells hold and is contradicted where so many are contradicted
    (Bonferroni over the cells that could still be lost, so 5 % for the claim) that no majority is left.
    """
    if not cells:
        return Judgement(_word(comparisons, AGAINST_ALPHA), tuple(comparisons))
    parts = [[c for c in comparisons if c.cell == cell] for cell in dict.fromkeys(c.cell for c in comparisons)]
    lost = -(-len(parts) // 2)  # so many lost cells leave no majority
    words = [_word(part, AGAINST_ALPHA) for part in parts]
    against = sum(_word(part, AGAINST_ALPHA / (len(parts) - lost + 1)) == AGAINST for part in parts)
    word = AGAINST if against >= lost else OPEN
    if words.count(HOLDS) + words.count(SAME) > len(parts) / 2:
        word = HOLDS if words.count(HOLDS) > len(parts) / 2 else SAME
    return Judgement(word, tuple(comparisons))


def power(
    comparisons: Sequence[Comparison], correlation: np.ndarray, n: int | None = None, cells: bool = False
) -> float | None:
    """Probability that the claim holds if the printed values are true; None where no comparison has a printed value.

    The standardised comparisons are drawn from a normal distribution with their ``correlation`` [C, C], at ``n`` images
    where given, else at their own. ``cells`` asks for more than half of the cells, as :func:`judge` does.
    """
    known = [i for i, c in enumerate(comparisons) if c.printed is not None and c.low is not None and not c.exact]
    if not known:
        return None
    chosen = [comparisons[i] for i in known]
    effects = [c.sign * (c.printed - c.bound) / c.errors[0] * ((n or c.n) / c.n) ** 0.5 for c in chosen]
    shift = np.array(effects) - [special.stdtrit(replace(c, n=n or c.n).freedom, 1 - ALPHA) for c in chosen]
    values, vectors = np.linalg.eigh(correlation[np.ix_(known, known)])
    root = vectors * np.sqrt(np.clip(values, 0, None))  # rounded variances may leave it slightly indefinite
    seen = np.random.default_rng(0).standard_normal((_DRAWS, len(known))) @ root.T + shift > 0
    if not cells:
        return float(seen.all(axis=1).mean())
    names = np.array([c.cell for c in chosen])
    won = np.stack([seen[:, names == name].all(axis=1) for name in dict.fromkeys(names)])
    return float((won.sum(axis=0) > len(won) / 2).mean())


def _word(comparisons: Sequence[Comparison], alpha: float) -> str:
    if all(c.holds for c in comparisons):
        return HOLDS
    if all(c.holds or c.inside for c in comparisons):
        return SAME
    for c in comparisons:  # Holm's first step: the others follow from it
        caution = 1.0 if c.exact or c.of_networks else min(1.0, c.n / MANY)  # of few images
        if not c.inside and c.p_against * len(comparisons) <= alpha * caution:
            return AGAINST
    return OPEN

"""The kinds of test that a claim may be, and how intervals decide them.

A test is a list of steps; a step asks whether a quantity with an interval lies at or above a bound. Quantities are
turned so that higher is better: the advantage of one method over another on the same images, or a mean.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise, product

from campanion.errors import unknown
from campanion.results.measures import better

YES, NO, OPEN = "reproduced", "not reproduced", "undecided"
TIE = 1e-6  # differences below a millionth are rounding, not evidence: linear heads make several methods equal


class NotThere(LookupError):
    """The rows hold no value that the test needs; the message says which."""


@dataclass(frozen=True)
class Number:
    """A quantity with its 95 % interval and what was found for it; ``reference`` is None for a mean."""

    method: str
    reference: str | None
    metric: str
    mean: float
    low: float | None
    high: float | None
    n: int
    word: str = ""
    paired: bool = True

    @property
    def tied(self) -> bool:
        """Whether it is a difference of two methods that are equal but for rounding."""
        return self.reference is not None and self.low is not None and max(-self.low, self.high) < TIE

    def __str__(self) -> str:
        name = self.method if self.reference is None else f"{self.method} - {self.reference}"
        interval = "no interval" if self.low is None else f"{self.low:.4g} to {self.high:.4g}"
        unpaired = "" if self.paired else ", unpaired"
        return f"{name}, {self.metric}: {self.mean:.4g} ({interval}{unpaired}, N = {self.n:,})"

    def as_dict(self) -> dict[str, object]:
        """Plain values, for a table."""
        return asdict(self)


class Rows:
    """The rows and differences of one run, looked up by name; a difference is found in either direction."""

    def __init__(self, run: Mapping) -> None:
        self.means = {(r["method"], r["metric"]): r for r in run["rows"]}
        self.differences = {(d["method"], d["reference"], d["metric"]): d for d in run["differences"]}

    def mean(self, method: str, metric: str) -> Number:
        """Mean of a method, as measured."""
        row = self.means.get((method, metric))
        if row is None:
            raise NotThere(f"no {metric} of {method}")
        return Number(method, None, metric, row["mean"], row["low"], row["high"], row["n"])

    def difference(self, method: str, reference: str, metric: str) -> Number:
        """``method - reference``: paired where the run holds it, else from the two means' intervals, which is wider."""
        for sign, key in ((1, (method, reference, metric)), (-1, (reference, method, metric))):
            if key in self.differences:
                d = self.differences[key]
                low, high = (None, None) if d["low"] is None else sorted((sign * d["low"], sign * d["high"]))
                return Number(method, reference, metric, sign * d["mean"], low, high, d["n"])
        a, b = self.mean(method, metric), self.mean(reference, metric)
        known = a.low is not None and b.low is not None
        low, high = (a.low - b.high, a.high - b.low) if known else (None, None)
        return Number(method, reference, metric, a.mean - b.mean, low, high, min(a.n, b.n), paired=False)


def decide(number: Number, bound: float, sign: int = 1) -> Number:
    """Whether ``sign * quantity`` lies at or above ``bound``, from the interval.

    A quantity without interval and one that is rounding noise around a bound of 0 stay undecided.
    """
    if number.low is None:
        return _worded(number, OPEN)
    low, high = sorted((sign * number.low, sign * number.high))
    if number.tied and bound == 0:
        return _worded(number, OPEN)
    if low > bound or (low == high and low >= bound - TIE):  # an exact quantity, such as a size, may equal the bound
        return _worded(number, YES)
    return _worded(number, NO if high < bound else OPEN)


def every(numbers: list[Number]) -> str:
    """All reproduced: reproduced; any not: not reproduced; else undecided."""
    words = {n.word for n in numbers}
    return NO if NO in words else OPEN if OPEN in words else YES


def advantage(rows: Rows, method: str, other: str, metric: str, margin: float = 0.0) -> Number:
    """Whether ``method`` is better than ``other`` by ``margin`` or more."""
    return decide(rows.difference(method, other, metric), margin, better(metric))


def best(rows: Rows, method: str, among: list[str], metrics: list[str], margin: float = 0.0) -> tuple:
    """The method is better than every other, by ``margin`` or more, in every metric."""
    others = [m for m in among if m != method]
    numbers = [advantage(rows, method, o, m, margin) for m in metrics for o in others]
    return every(numbers), numbers


def second_best(rows: Rows, method: str, among: list[str], metrics: list[str]) -> tuple:
    """Exactly one other method is better, in every metric."""
    found, words = [], []
    for metric in metrics:
        numbers = [advantage(rows, method, o, metric) for o in among if o != method]
        above, below = (sum(n.word == w for n in numbers) for w in (NO, YES))
        ahead = above + below == len(numbers)
        words.append(YES if ahead and above == 1 else NO if above > 1 or below == len(numbers) else OPEN)
        found += numbers
    return (NO if NO in words else OPEN if OPEN in words else YES), found


def rank(rows: Rows, methods: list[str], metrics: list[str]) -> tuple:
    """Each method is better than the next of the list, in every metric."""
    numbers = [advantage(rows, a, b, m) for m in metrics for a, b in pairwise(methods)]
    return every(numbers), numbers


def improves_with(rows: Rows, methods: list[str], metrics: list[str]) -> tuple:
    """Each method of the list is better than the one before it, in every metric."""
    return rank(rows, methods[::-1], metrics)


def greater(rows: Rows, method: str, than: str, metrics: list[str]) -> tuple:
    """One method is better than one other, in every metric."""
    return best(rows, method, [than], metrics)


def group_above(rows: Rows, methods: list[str], others: list[str], metrics: list[str]) -> tuple:
    """Every one of ``methods`` is better than every one of ``others``, in every metric."""
    numbers = [advantage(rows, a, b, m) for m in metrics for a, b in product(methods, others)]
    return every(numbers), numbers


def close(rows: Rows, method: str, to: str, metrics: list[str], margin: float) -> tuple:
    """The two methods differ by ``margin`` at most, in every metric."""
    differences = [rows.difference(method, to, m) for m in metrics]
    numbers = [_within(d, -margin, margin) for d in differences]
    return every(numbers), numbers


def threshold(
    rows: Rows, methods: list[str], metrics: list[str], at_least: float = -math.inf, at_most: float = math.inf
) -> tuple:
    """The means of every method and metric lie in ``at_least .. at_most``."""
    numbers = [_within(rows.mean(a, m), at_least, at_most) for m in metrics for a in methods]
    return every(numbers), numbers


def most_cells(rows: Rows, method: str, among: list[str], metrics: list[str]) -> tuple:
    """The method is the best in more than half of the metrics."""
    cells = [best(rows, method, among, [m]) for m in metrics]
    words = [word for word, _ in cells]
    half = len(metrics) / 2
    word = YES if words.count(YES) > half else NO if words.count(NO) >= half else OPEN
    return word, [n for _, numbers in cells for n in numbers]


def as_printed(rows: Rows, methods: list[str], metrics: list[str], tolerance: float, printed: Rows) -> tuple:
    """The values are the printed ones to within ``tolerance``."""
    numbers = []
    for metric, method in product(metrics, methods):
        value = printed.mean(method, metric).mean
        numbers.append(_within(rows.mean(method, metric), value - tolerance, value + tolerance))
    return every(numbers), numbers


KINDS: dict[str, Callable[..., tuple[str, list[Number]]]] = {
    "best": best,
    "second_best": second_best,
    "at_least_difference": best,
    "rank": rank,
    "improves_with": improves_with,
    "greater": greater,
    "group_above": group_above,
    "close": close,
    "threshold": threshold,
    "most_cells": most_cells,
    "as_printed": as_printed,
}


def function_of(spec: Mapping[str, object], printed: Rows | None = None) -> Callable[[Rows], tuple[str, list[Number]]]:
    """The function of :class:`Rows` that a claim's ``test`` describes.

    Raises:
        ValueError: unknown kind.
        TypeError: wrong arguments for it.
    """
    arguments = dict(spec)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(unknown("kind of test", kind, KINDS))
    if kind == "as_printed":
        arguments["printed"] = printed
    inspect.signature(KINDS[kind]).bind(None, **arguments)  # wrong arguments are told here, not in the middle of a run
    return partial(KINDS[kind], **arguments)


def _within(number: Number, low: float, high: float) -> Number:
    above, below = decide(number, low).word, decide(number, -high, -1).word
    return _worded(number, NO if NO in (above, below) else OPEN if OPEN in (above, below) else YES)


def _worded(number: Number, word: str) -> Number:
    return Number(**{**asdict(number), "word": word})

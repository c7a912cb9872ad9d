"""What a result holds for a claim: the comparisons that its test needs, beside the same numbers of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from math import exp, log

import numpy as np
import pandas as pd
from scipy import stats

from campanion.report import words
from campanion.report.claims import Claim, Test
from campanion.report.networks import paper_data
from campanion.report.papers import published
from campanion.report.rule import LEVEL, Comparison
from campanion.results.measures import DIRECTION, better


class NotThere(LookupError):
    """The result holds no value that the test needs; the message says which."""


@dataclass(frozen=True)
class Run:
    """One network on one data set: its means and differences, by name."""

    model: str
    data: str
    epochs: int | None = None
    means: Mapping[tuple[str, str], Mapping] = field(default_factory=dict)
    differences: Mapping[tuple[str, str, str], Mapping] = field(default_factory=dict)
    trained: str = ""  #: how, where it was trained here: ``5 epochs from ImageNet weights``

    @classmethod
    def of(cls, *runs: Mapping) -> Run:
        """One of a result file, or several joined; the first counts where two hold the same value."""
        means, differences = {}, {}
        for run in reversed(runs):
            means |= {(r["method"], r["metric"]): r for r in run["rows"]}
            differences |= {(d["method"], d["reference"], d["metric"]): d for d in run["differences"]}
        settings = [run.get("provenance", {}).get("settings") or {} for run in runs]
        model = runs[0]["model"] if len({r["model"] for r in runs}) == 1 else " and ".join(r["model"] for r in runs)
        epochs = next((s["epochs"] for s in settings if "epochs" in s), None)
        start = " from ImageNet weights" * any("fine_tune" in str(s) for s in settings)  # the recipe's name
        return cls(model, runs[0]["data"], epochs, means, differences, f"{epochs} epochs{start}" if epochs else "")

    def mean(self, method: str, metric: str) -> Mapping:
        """The row of a method."""
        if (method, metric) not in self.means:
            some = any(name == method for name, _ in self.means)
            raise NotThere(f"no {f'{words.metric(metric)} of ' * some}{words.method(method)}")
        return self.means[method, metric]

    def difference(self, method: str, other: str, metric: str) -> Comparison:
        """How far ``method`` is better: paired where the result holds it, else of two independent means."""
        turn = better(metric)
        for sign, key in ((turn, (method, other, metric)), (-turn, (other, method, metric))):
            if d := self.differences.get(key):
                low, high = (None, None) if d["low"] is None else sorted((sign * d["low"], sign * d["high"]))
                return Comparison(method, other, metric, sign * d["mean"], low, high, d["n"])
        a, b = self.mean(method, metric), self.mean(other, metric)
        value, n = turn * (a["mean"] - b["mean"]), min(a["n"], b["n"])
        if None in (a["low"], b["low"]) or " and " in self.model:  # of two networks, one training run each
            return Comparison(method, other, metric, value, None, None, n, same_images=a["n"] == b["n"])
        reach = np.hypot((a["high"] - a["low"]) / 2, (b["high"] - b["low"]) / 2)
        return Comparison(method, other, metric, value, value - reach, value + reach, n, same_images=a["n"] == b["n"])

    def variance(self, a: str, b: str, metric: str) -> float | None:
        """Of the mean difference of two methods; None where the result does not pair them."""
        if a == b:
            return 0.0
        d = self.differences.get((a, b, metric)) or self.differences.get((b, a, metric))
        return None if d is None or d["low"] is None else ((d["high"] - d["low"]) / 2) ** 2


def full_runs(results: Mapping[str, Mapping], key: str) -> list[Mapping]:
    """The full runs of a notebook's result; none where there is no result."""
    return [run for run in results.get(key, {"runs": []})["runs"] if run["mode"] == "full"]


def comparisons(claim: Claim, run: Run) -> list[Comparison]:
    """All that the claim needs of a run, with margins and the paper's own values; NotThere where the run lacks one."""
    near, needed = nearest(claim, run), []
    for c in (c for test in claim.test for c in _KINDS[test.kind](test, run, claim)):
        margin = claim.margin.get(c.metric) if c.reference is not None and c.bound == 0 else None
        printed = c.printed if c.printed is not None else _printed(c, near)
        cell = f"{paper_data(run.data)} {run.model} {c.metric}"
        needed.append(replace(c, margin=margin, printed=printed, cell=cell))
    return needed


def correlation(run: Run, needed: Sequence[Comparison]) -> np.ndarray:
    """Correlation of the comparisons: from the variances of all differences of one metric, 0 between metrics.

    Where a variance is missing two comparisons that share a method have 0.5, as for equal variances.
    """
    matrix = np.eye(len(needed))
    for (i, a), (j, b) in combinations(enumerate(needed), 2):
        if a.metric == b.metric and a.reference is not None and b.reference is not None:
            matrix[i, j] = matrix[j, i] = a.sign * b.sign * _correlated(run, b, a)
    return matrix


def nearest(claim: Claim, run: Run) -> list[dict[tuple[str, str], float]]:
    """The paper's printed values by method and metric: those on the run's data and network first."""
    if not claim.tables:
        return []
    frame = pd.concat([published(claim.paper, table) for table in claim.tables])
    frame = frame[frame.metric.isin(DIRECTION) & ((frame.data == "") | frame.data.map(claim.is_about))]
    groups = {key: {(r.method, r.metric): float(r.number) for r in g.itertuples()}
              for key, g in frame.groupby(["model", "data"], sort=False)}  # fmt: skip
    order = sorted(groups, key=lambda key: (key[1] != paper_data(run.data), key[0] != run.model))
    return [groups[key] for key in order]


def _printed(comparison: Comparison, near: Iterable[Mapping[tuple[str, str], float]]) -> float | None:
    for values in near:
        first, second = (values.get((name, comparison.metric)) for name in (comparison.method, comparison.reference))
        if comparison.reference is None and first is not None:
            return first
        if first is not None and second is not None:
            return round(better(comparison.metric) * (first - second), 10)
    return None


def _correlated(run: Run, x: Comparison, y: Comparison) -> float:
    parts = [run.variance(a, b, x.metric) for a, b in
             ((x.method, y.reference), (x.reference, y.method), (x.method, y.method), (x.reference, y.reference),
              (x.method, x.reference), (y.method, y.reference))]  # fmt: skip
    if any(p is None for p in parts):
        shared = len({x.method, x.reference} & {y.method, y.reference})
        sign = 1 if x.method == y.method or x.reference == y.reference else -1
        return 0.5 * sign * (shared > 0)
    ad, bc, ac, bd, ab, cd = parts
    return 0.0 if ab * cd == 0 else float(np.clip((ad + bc - ac - bd) / 2 / (ab * cd) ** 0.5, -1, 1))


def _above(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    pairs = [(a, b) for a, b in product(test.methods, test.others) if a != b]
    needed = [run.difference(a, b, m) for m in test.metrics for a, b in pairs]
    for c in (c for c in needed if not c.same_images):
        names = " and ".join(map(words.method, (c.method, c.reference)))
        raise NotThere(f"no {words.metric(c.metric)} of {names} on the same images")
    return needed


def _level(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    bounds = [(bound, sign) for bound, sign in ((test.at_least, 1), (test.at_most, -1)) if bound is not None]
    levels = [_mean(run, method, metric) for metric, method in product(test.metrics, test.methods)]
    return [replace(level, bound=bound, sign=sign) for level in levels for bound, sign in bounds]


def _mean(run: Run, method: str, metric: str) -> Comparison:
    row = run.mean(method, metric)
    return Comparison(method, None, metric, row["mean"], row["low"], row["high"], row["n"])


def _close(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    differences = _above(test, run, claim)
    below = [replace(d, bound=-test.within) for d in differences]
    return below if test.kind == "not_worse" else below + [replace(d, bound=test.within, sign=-1) for d in differences]


def _ratio(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    needed = []
    for metric, a, b in product(test.metrics, test.methods, test.others):
        fast, slow = run.mean(a, metric), run.mean(b, metric)
        value, n, low, high = slow["mean"] / fast["mean"], min(fast["n"], slow["n"]), None, None
        if fast["low"] is not None and slow["low"] is not None:
            # relative half-widths add in squares: the two are timed apart
            reach = np.hypot(*(log(max(r["high"] / r["mean"], r["mean"] / max(r["low"], 1e-12))) for r in (fast, slow)))
            low, high = value * exp(-reach), value * exp(reach)
        needed.append(Comparison(f"{b} / {a}", None, metric, value, low, high, n, bound=test.times))
    return needed


def _as_printed(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    if run.model not in set(published(claim.paper, claim.tables[0]).model):
        raise NotThere(f"a network that the paper does not print ({run.model})")
    table, needed = nearest(claim, run)[0], []
    for metric, method in product(test.metrics, test.methods):
        text = table[test.printed_as or method, metric]
        value, reach = test.misprints.get(f"{text:g}", text), test.within + 1e-9
        mean = replace(_mean(run, method, metric), printed=value)
        needed += [replace(mean, bound=value - reach), replace(mean, bound=value + reach, sign=-1)]
    return needed


def _association(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    """Spearman's rank correlation over the methods; the interval by Fisher's transform with Fieller's variance."""
    needed, count = [], len(test.methods)
    for metric in test.metrics:
        x, y = (_ranks(test.methods, run, key) for key in (test.by, metric))
        rho = float(np.clip(x.corr(y), -0.999, 0.999)) if x.nunique() > 1 and y.nunique() > 1 else 0.0
        reach = stats.norm.ppf((1 + LEVEL) / 2) * (1.06 / (count - 3)) ** 0.5
        low, high = np.tanh(np.arctanh(rho) - reach), np.tanh(np.arctanh(rho) + reach)
        needed.append(Comparison(f"rank correlation with {test.by}", None, metric, rho, float(low), float(high), count))
    return needed


def _ranks(methods: Sequence[str], run: Run, metric: str) -> pd.Series:
    """Of means over the same images."""
    rows = pd.DataFrame([run.mean(method, metric) for method in methods])
    if rows["n"].nunique() > 1:
        raise NotThere(f"no {words.metric(metric)} of {words.method(methods[rows['n'].argmin()])} on others' images")
    return (better(metric) * rows["mean"]).rank()


def _none(test: Test, run: Run, claim: Claim) -> list[Comparison]:
    raise NotThere("nothing that a number decides" if test.kind == "by_eye" else "a comparison of several runs")


_KINDS: dict[str, Callable[[Test, Run, Claim], list[Comparison]]] = {
    "above": _above, "most_cells": _above, "level": _level, "close": _close, "not_worse": _close, "ratio": _ratio,
    "as_printed": _as_printed, "association": _association, "across": _none, "by_eye": _none,
}  # fmt: skip

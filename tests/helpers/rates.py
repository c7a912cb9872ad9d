"""How often the rule of the verdicts errs, simulated with this project's own covariances and means that are known.

``python tests/helpers/rates.py`` prints the table of ``docs/verdicts.md``. A world is a claim on the images of one
network: the differences that the claim needs are drawn image by image with replacement, their means moved to what is
to be true, and the rule judges every draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from campanion import paths
from campanion.report.claims import find_claim
from campanion.report.evidence import comparisons, correlation
from campanion.report.networks import paper_data
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME, Comparison, judge, power
from campanion.report.verdicts import runs_of
from campanion.results import load_results
from campanion.results.measures import better
from campanion.results.statistics import FEW
from scipy import special

WORDS = (HOLDS, AGAINST, SAME, OPEN)
#: claim, network, data set, files of rows
WORLDS = [
    ("fd_table1_best_overall", "resnet18", "imagenet-val", ["imagenet-val_resnet18"]),
    ("fd_table1_best_insertion", "resnet18", "imagenet-val", ["imagenet-val_resnet18"]),
    ("fd_table1_deletion", "resnet18", "imagenet-val", ["imagenet-val_resnet18"]),
    ("fd_table3_full_best", "voc_mlp", "voc2007", ["fd_ablation_voc2007_voc_mlp"]),
    ("fd_table4_combination", "voc_mlp", "voc2007", ["fd_ablation_voc2007_voc_mlp"]),
    ("lift_table1_orderings", "voc_mlp", "voc2007", ["orderings_voc2007_voc_mlp"]),
    ("lift_table1_shap_best", "voc_mlp", "voc2007", ["lift_voc2007_voc_mlp", "orderings_voc2007_voc_mlp"]),
    ("lift_table2_best", "imagenette_vgg", "imagenette", ["lift_imagenette_imagenette_vgg"]),
    ("lift_table3_most_cells", "voc_mlp", "voc2007", ["lift_voc2007_voc_mlp"]),
    ("lift_table4_insertion", "imagenette_vgg", "imagenette", ["lift_imagenette_imagenette_vgg"]),
    ("lift_table4_deletion", "imagenette_vgg", "imagenette", ["lift_imagenette_imagenette_vgg"]),
    ("lift_table5_proportion", "squeezenet1_1", "imagenet-val", ["imagenet-val_squeezenet1_1"]),
]
#: what is to be true, as a share of the printed differences
TRUTHS = {"all equal": 0.0, "a tenth": 0.1, "a half": 0.5, "as printed": 1.0, "the opposite": -1.0}


@dataclass(frozen=True)
class World:
    """Per-image differences of a claim's comparisons, ``[images, comparisons]``, and which of them are not zero.

    What is to be true is made by moving these alone: an image on which a yes-or-no metric is the same for both methods
    stays so, and few images may hold no difference at all, as in a result.
    """

    claim: str
    comparisons: tuple[Comparison, ...]
    differences: np.ndarray

    def made(self, share: float) -> np.ndarray:
        """The differences, their means moved to ``share`` of what the paper prints, towards the claim."""
        wanted = share * np.array([c.printed for c in self.comparisons])
        differ = self.differences != 0
        return self.differences + differ * (wanted - self.differences.mean(0)) / differ.mean(0)


def world(claim: str, model: str, data: str, files: list[str]) -> World:
    """The world of a claim on a network's committed rows."""
    found = find_claim(claim)
    (run,) = [r for r in runs_of(found, _results()) if (r.model, r.data) == (model, data)]
    needed = comparisons(found, run)
    frames = [pd.read_parquet(paths.results_dir() / "rows" / f"{f}.parquet") for f in files]
    rows = pd.concat(frames, ignore_index=True)
    by = {m: rows.pivot_table(index="image", columns="method", values=m, aggfunc="mean") for m in
          {c.metric for c in needed}}  # fmt: skip
    columns = [better(c.metric) * (by[c.metric][c.method] - by[c.metric][c.reference]) for c in needed]
    table = pd.concat(columns, axis=1).dropna().to_numpy()
    return World(claim, tuple(needed), table)


def rates(of: World, share: float, n: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Per cent of draws of ``n`` images in which the rule says each word, if ``share`` of the printed is true."""
    rng = np.random.default_rng(seed)
    images = len(of.differences)
    weights = rng.multinomial(n, np.full(images, 1 / images), size=draws) / n
    means, low, high = intervals(weights, of.made(share), n)
    claim, words = find_claim(of.claim), []
    for ends in zip(means, low, high, strict=True):
        each = zip(of.comparisons, *ends, strict=True)
        drawn = [replace(c, value=m, low=lo, high=hi, n=n) for c, m, lo, hi in each]
        words.append(judge(drawn, claim.by_cells).word)
    return {word: 100 * words.count(word) / draws for word in WORDS}


def intervals(weights: np.ndarray, differences: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Means of the draws and the ends of their intervals: below 100 images Student's, else those of the percentile
    bootstrap to second order (Cornish and Fisher)."""
    means, second, third = (weights @ differences**k for k in (1, 2, 3))
    variance = np.maximum(second - means**2, 1e-30)
    error = np.sqrt(variance / (n - 1))
    if n < FEW:
        reach = special.stdtrit(n - 1, 0.975) * error
        return means, means - reach, means + reach
    skewness = (third - 3 * means * second + 2 * means**3) / variance**1.5 / n**0.5  # of the mean
    z = special.ndtri(0.975)
    lean = skewness * (z**2 - 1) / 6
    return means, means + (lean - z) * error, means + (lean + z) * error


LOOKS = (25, 100, 250, 500)  # images


def looks(count: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Per cent of draws in which a tie of ``count`` comparisons is first told to hold, or to be contradicted, where
    answers are read at each of :data:`LOOKS`."""
    rng, told = np.random.default_rng(seed), {HOLDS: 0, AGAINST: 0}
    for _ in range(draws):
        values = rng.standard_normal((LOOKS[-1], count))
        for n in LOOKS:
            mean, error = values[:n].mean(0), values[:n].std(0, ddof=1) / n**0.5
            reach = error * special.stdtrit(np.inf if n >= FEW else n - 1, 0.975)
            rows = zip(mean, mean - reach, mean + reach, strict=True)
            word = judge([Comparison("a", "b", "overall", *map(float, row), n) for row in rows]).word
            if word in told:
                told[word] += 1
                break
    return {word: 100 * number / draws for word, number in told.items()}


def table(draws: int = 1000) -> str:
    """The table of the docs."""
    heads = [
        "claim (comparisons)",
        "network",
        *(f"{t}, N = 500" for t in TRUTHS),
        "as printed, the paper's N",
        "all equal, N = 15",
        "all equal, N = 100",
        "all equal, N = 20,000",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    for claim, model, data, files in WORLDS:
        of = world(claim, model, data, files)
        cells = [_cell(rates(of, share, 500, draws)) for share in TRUTHS.values()]
        n = find_claim(claim).n
        cells += [
            f"{_cell(rates(of, 1.0, n, draws))} ({n:,})",
            *(_cell(rates(of, 0.0, few, draws)) for few in (15, 100, 20_000)),
        ]
        name = f"`{claim}` ({len(of.comparisons)})"
        lines.append(f"| {name} | {model} on {paper_data(data)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: dict[str, float]) -> str:
    return " / ".join(f"{found[w]:.0f}" for w in WORDS[:3])


@cache
def _results() -> dict:
    return load_results(paths.root() / "data" / "results")


__all__ = ["correlation", "power", "rates", "runs_of", "world"]

if __name__ == "__main__":
    print(table())

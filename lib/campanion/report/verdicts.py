"""What was found for every claim: in the paper's own setting, and whether it carries over to other networks.

*Reproduced* and *not reproduced* are said of the paper's own network and data alone. All other networks answer another
question, *does it carry over?*: by the mean of their differences under random effects where there are three or more,
for networks with hidden layers after the explained layer apart from linear and nearly linear ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from campanion.report import networks
from campanion.report.claims import Claim, Fit, load_claims
from campanion.report.evidence import NotThere, Run, comparisons, correlation, full_runs
from campanion.report.rule import AGAINST, HOLDS, Comparison, Judgement, judge, power
from campanion.results.statistics import LEAST, random_effects

NOT_RUN, NOT_ALL, BY_EYE = "not run", "not run in full", "shown, not judged"
OWN, HIDDEN, LINEAR, OTHER = "own", "hidden", "linear", "other"
#: the groups of networks that answer together, and how a heading calls them
GROUPS = {
    OWN: "the paper's own setting",
    HIDDEN: "networks with hidden layers",
    LINEAR: "linear and nearly linear networks",
    OTHER: "other networks and training runs",
}
_WORDS = {
    OWN: {HOLDS: "reproduced", AGAINST: "not reproduced"},
    **{group: {HOLDS: "carries over", AGAINST: "does not carry over"} for group in (HIDDEN, LINEAR, OTHER)},
}


@dataclass(frozen=True)
class Answer:
    """What one network on one data set says, or lacks (``missing``); ``power``: chance to see the printed values."""

    model: str
    data: str
    group: str
    judgement: Judgement | None
    missing: str = ""
    power: float | None = None
    trained: str = ""  #: how, where the training runs are this project's

    @property
    def word(self) -> str:
        """Of the rule, or *not run in full*."""
        return NOT_ALL if self.judgement is None else self.judgement.word


@dataclass(frozen=True)
class GroupAnswer:
    """What the networks of a group say together; ``predicted`` is where one more network may be expected."""

    group: str
    answers: tuple[Answer, ...]
    judgement: Judgement | None
    pooled: bool = False
    predicted: tuple[float, float] | None = None
    power: float | None = None

    @property
    def word(self) -> str:
        """*reproduced*, *carries over* and their opposites, or a word of the rule."""
        if self.judgement is None:
            return NOT_ALL if self.answers else NOT_RUN
        return _WORDS[self.group].get(self.judgement.word, self.judgement.word)


@dataclass(frozen=True)
class Verdict:
    """The answers to a claim, by group of networks."""

    claim: Claim
    groups: Mapping[str, GroupAnswer]

    @property
    def word(self) -> str:
        """What is said of the paper's own setting."""
        return BY_EYE if self.claim.kind == "by_eye" else self.groups[OWN].word

    @property
    def answers(self) -> list[Answer]:
        """Of all networks that have one, the paper's own first."""
        return [a for g in self.groups.values() for a in g.answers if a.judgement is not None]


def verdict(claim: Claim, results: Mapping[str, Mapping]) -> Verdict:
    """Answer a claim from the result files by notebook (:func:`campanion.results.load_results`).

    Runs of mode ``quick`` answer nothing, nor do runs on data that the claim is not about.
    """
    runs = runs_of(claim, results)
    answers = _across(claim, runs) if claim.kind == "across" else [_answer(claim, run) for run in runs]
    order = (OWN, OTHER) if claim.paper == "lfi" or claim.kind == "across" else (OWN, HIDDEN, LINEAR)
    return Verdict(claim, {g: _together(claim, g, [a for a in answers if a.group == g]) for g in order})


def verdicts(results: Mapping[str, Mapping], notebook: str | None = None) -> list[Verdict]:
    """The verdict of every claim, or of those of one notebook, in the order of claims.yml."""
    return [verdict(c, results) for c in load_claims() if notebook in (None, c.notebook)]


def runs_of(claim: Claim, results: Mapping[str, Mapping]) -> list[Run]:
    """The runs that a claim is about: those of its results joined by network and data, or by data alone."""
    joined: dict[tuple[str, str], list[Mapping]] = {}
    for run in (run for source in claim.sources for run in full_runs(results, source)):
        own_seeds = claim.seeds is None or (run.get("extra") or {}).get("seeds") == "own"
        if claim.is_about(run["data"]) and own_seeds:
            key = "" if claim.join == "data" else run["model"]
            joined.setdefault((key, run["data"]), []).append(run)
    runs = [Run.of(*parts) for parts in joined.values()]
    return [r for r in runs if not claim.heads or networks.head(r.model) in claim.heads]


def group_of(claim: Claim, run: Run) -> str:
    """Which group a run belongs to."""
    if any(s.fits(run.model, run.data, run.epochs) for s in claim.own):
        return OWN
    if claim.paper == "lfi":
        return OTHER
    return HIDDEN if networks.head(run.model) == networks.HIDDEN else LINEAR


def _answer(claim: Claim, run: Run) -> Answer:
    group = group_of(claim, run)
    try:
        needed = comparisons(claim, run)
    except NotThere as missing:
        return Answer(run.model, run.data, group, None, str(missing), trained=run.trained)
    chance = power(needed, correlation(run, needed), cells=claim.by_cells)
    return Answer(run.model, run.data, group, judge(needed, claim.by_cells), power=chance, trained=run.trained)


def _across(claim: Claim, runs: Sequence[Run]) -> list[Answer]:
    """The answer of a comparison of runs: each that fits ``higher`` with each that fits ``lower``."""
    (test,) = claim.test

    def fits(fit: Fit, run: Run) -> bool:
        ours = {run.data, networks.paper_data(run.data)}
        return not ours.isdisjoint(fit.data) or networks.head(run.model) in fit.heads

    measured = [r for r in runs if (test.method, test.metric) in r.means]
    pairs = [(a, b) for a in measured if fits(test.higher, a) for b in measured if fits(test.lower, b)]
    if not pairs:
        return []
    differences = []
    for pair in pairs:
        rows = {networks.where(r.model, r.data): r.means[test.method, test.metric] for r in pair}
        both = Run("", "", means={(name, test.metric): row for name, row in rows.items()})
        differences.append(both.difference(*rows, test.metric))
    models, data = dict.fromkeys(r.model for p in pairs for r in p), {networks.data(r.data) for p in pairs for r in p}
    return [Answer(" and ".join(models), ", ".join(sorted(data)), OTHER, judge(differences))]


def _together(claim: Claim, group: str, answers: list[Answer]) -> GroupAnswer:
    """One answer of a group: over all comparisons of its networks, or over their means where there are enough."""
    judged = [a for a in answers if a.judgement is not None]
    telling = [a for a in judged if not a.judgement.tied] or judged  # networks on which methods coincide have no say
    if not telling:
        return GroupAnswer(group, tuple(answers), None)
    known = {_unit(claim, a) for a in telling if all(c.low is not None for c in a.judgement.comparisons)}
    if group == OWN or len(known) < LEAST:
        judgement = judge([c for a in telling for c in a.judgement.comparisons], claim.by_cells)
        chances = [a.power for a in telling if a.power is not None]
        return GroupAnswer(group, tuple(answers), judgement, power=min(chances, default=None))
    pooled, predicted = _pooled(claim, [a for a in telling if _unit(claim, a) in known])
    judgement = judge(pooled, claim.by_cells)
    return GroupAnswer(group, tuple(answers), judgement, True, predicted[pooled.index(judgement.deciding)])


def _unit(claim: Claim, answer: Answer) -> tuple[str, ...]:
    """What counts as one network: LFI-CAM's are trained on each data set, the others are one on all of them."""
    return (answer.model, answer.data) if claim.paper == "lfi" else (answer.model,)


def _pooled(claim: Claim, answers: Iterable[Answer]) -> tuple[list[Comparison], list[tuple[float, float]]]:
    """Each comparison as its mean over networks, with the prediction interval."""
    by_comparison: dict[tuple, dict[tuple, list[Comparison]]] = {}
    for answer in answers:
        for c in answer.judgement.comparisons:
            key = (c.method, c.reference, c.metric, c.sign)
            by_comparison.setdefault(key, {}).setdefault(_unit(claim, answer), []).append(c)
    pooled, predicted = [], []
    for units in by_comparison.values():
        first = next(iter(units.values()))[0]
        effects = random_effects(*zip(*map(_mean, units.values()), strict=True))
        low, high, n = effects["low"], effects["high"], int(effects["n"])
        if all(c.exact for comparisons in units.values() for c in comparisons):
            low = high = effects["mean"] = first.value  # sizes: a mean over networks says nothing
        ours = {"value": effects["mean"], "low": low, "high": high, "n": n, "of_networks": True}
        pooled.append(replace(first, **ours, cell=first.metric))
        predicted.append((effects["predicted_low"], effects["predicted_high"]))
    return pooled, predicted


def _mean(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Value and standard error of one network: the mean over its data sets, of which the images are others."""
    errors = [sum(c.errors) / 2 for c in comparisons]
    return float(np.mean([c.value for c in comparisons])), float(np.sum(np.square(errors)) ** 0.5 / len(errors))

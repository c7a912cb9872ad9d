"""The answer of a claim in plain words: yes, no, no difference or cannot tell, by network, as the verdicts have it.

Nothing is decided here: :mod:`campanion.report.rule` does that, and the board of each notebook shows the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from campanion.report import networks, words
from campanion.report.claims import find_claim
from campanion.report.evidence import Run
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME, Judgement
from campanion.report.verdicts import OWN, Verdict, verdict
from campanion.results.measures import TITLES

WORDS = {AGAINST: "No", HOLDS: "Yes", SAME: "No difference to speak of", OPEN: "Cannot tell"}


def said(claim: str, results: Mapping[str, Mapping]) -> str:
    """The answer to a claim, network by network, and whether the paper's own network was among them.

    >>> said("lift_table2_best", load_results())
    """
    found = verdict(find_claim(claim), results)
    heard = [(run_name(a.model, a.data), a.judgement) for a in found.answers]
    return f"{decided(heard)}{absent(found, results)}" if heard else f"Not run.{absent(found, results)}"


def tallied(claim: str, results: Mapping[str, Mapping]) -> str:
    """The same in numbers: *Yes on 3 of 5 networks and data sets, cannot tell on 2.*"""
    found = verdict(find_claim(claim), results)
    heard, total = Counter(a.word for a in found.answers), len(found.answers)
    parts = [f"{WORDS[word].lower()} on {heard[word]}" for word in (HOLDS, AGAINST, SAME, OPEN) if heard[word]]
    if not parts:
        return f"Not run.{absent(found, results)}"
    if total == 1:
        parts = [f"{WORDS[a.word]} on {run_name(a.model, a.data)}" for a in found.answers]
    else:
        of = f"all {total}" if len(parts) == 1 else f"{parts[0].rpartition(' ')[2]} of {total}"
        parts[0] = f"{parts[0].rpartition(' ')[0]} {of} networks and data sets"
    own = [f"in the paper's own setting {WORDS[a.word].lower()}" for a in found.answers if a.group == OWN and total > 1]
    told = "; ".join([", ".join(parts), *own])
    return f"{told[0].upper()}{told[1:]}.{absent(found, results)}"


def decided(heard: Sequence[tuple[str, Judgement]]) -> str:
    """Judgements of several networks in a sentence each word: *No on VGG16: Grad-CAM is better by 0.011.*"""
    parts = []
    for word, start in WORDS.items():
        listed = [(name, j) for name, j in heard if j.word == word]
        if listed:
            reason = _BECAUSE[word]([j for _, j in listed]) if word in _BECAUSE else ""
            parts.append(f"{start} on {joined([name for name, _ in listed])}{reason}.")
    return " ".join(parts)


def absent(found: Verdict, results: Mapping[str, Mapping]) -> str:
    """A sentence that says that the paper's own network was not run, or not on all that the claim needs."""
    own = found.groups[OWN]
    network = found.claim.own[0].network[0] if found.claim.own else ""
    if own.judgement is not None or network in ("", "vqa"):
        return ""
    name = f"{networks.name(network)} on {joined([networks.data(name) for name in found.claim.own[0].data])}"
    models = {model for setting in found.claim.own for model in setting.network}
    begun = any(run["model"] in models for key in found.claim.sources for run in results.get(key, {}).get("runs", ()))
    return f" {name}, the paper's own setting, was not run{' in full' if begun or own.answers else ''}."


def value(run: Mapping, method: str, metric: str) -> float:
    """The mean of a row of a run.

    Raises:
        KeyError: there is no such row.
    """
    for row in run["rows"]:
        if (row["method"], row["metric"]) == (method, metric):
            return row["mean"]
    raise KeyError(f"{run['model']} on {run['data']} has no {metric} of {method}")


def difference(run: Mapping, method: str, other: str, metric: str) -> str:
    """How far ``method`` is better than ``other`` on a run: ``+0.004 [0.001, 0.007]``."""
    return words.measured(Run.of(run).difference(method, other, metric))


def runs(results: Mapping[str, Mapping], key: str) -> list[Mapping]:
    """The full runs of a notebook's result; none where there is no result."""
    return [run for run in results.get(key, {"runs": []})["runs"] if run["mode"] == "full"]


def run_name(model: str, data: str) -> str:
    """``ResNet-18 (ImageNet)``."""
    return f"{networks.short(model)} ({networks.data(data)})"


def joined(parts: Sequence[str]) -> str:
    """Parts of a list with commas and a last *and*.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    parts = list(dict.fromkeys(parts)) or [""]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def span(values: Sequence[float], digits: int = 0) -> str:
    """Smallest to largest, or the one value that all have.

    >>> span([3, 5, 4]), span([2.0, 2.0])
    ('3 to 5', '2')
    """
    low, high = (words.number(end(values), digits) for end in (min, max))
    return low if low == high else f"{low} to {high}"


def _against(listed: Sequence[Judgement]) -> str:
    """What decides against: the methods that are better, and by how much; for a level, what was measured."""
    several = len({c.metric for j in listed for c in j.comparisons}) > 1
    gaps: dict[tuple[str, str], list[float]] = {}
    for d in (j.deciding for j in listed):
        if d.reference is None or d.bound or " / " in d.method:
            return f": {_metric(d.metric)} {span([j.deciding.value for j in listed], _places(d.metric))}"
        gaps.setdefault((d.reference, d.metric), []).append(-d.excess)
    told = []
    for (other, metric), values in gaps.items():
        by = f"by {amount(values, metric)}{f' in {_metric(metric)}' if several else ''}"
        told.append(f"{words.method(other)} is better {by}")
    return f": {joined(told)}"


def _open(listed: Sequence[Judgement]) -> str:
    least, total = [j.holding for j in listed], [len(j.comparisons) for j in listed]
    return f": {span(least)} of {span(total)} comparisons hold" if max(total) > 1 else ""


_BECAUSE = {AGAINST: _against, OPEN: _open}


def amount(values: Sequence[float], metric: str) -> str:
    """Differences of a metric in its unit: ``0.011 to 0.045``, ``1.8 points``.

    >>> amount([1.84], "ad")
    '1.8 points'
    """
    places = _places(metric)
    text = "less than 0.001" if places == 3 and max(values) < 0.0005 else span(values, places)
    return f"{text} points" if places == 1 else text


def _places(metric: str) -> int:
    return 1 if TITLES[metric].endswith(("(%)", "(points)")) else 3


def _metric(metric: str) -> str:
    title = TITLES[metric].partition(" (")[0]
    return title if title[1:2].isupper() else title[0].lower() + title[1:]

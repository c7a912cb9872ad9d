"""The answer of a claim in plain words: yes, no, no difference or cannot tell, by network, as the verdicts have it.

Nothing is decided here: :mod:`campanion.report.rule` does that, and the board of each notebook shows the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campanion.report import networks, words
from campanion.report.claims import find_claim
from campanion.report.evidence import Run
from campanion.report.networks import paper_data
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME, Judgement
from campanion.report.verdicts import GROUPS, OWN, GroupAnswer, Verdict, verdict
from campanion.results.measures import TITLES

WORDS = {AGAINST: "No", HOLDS: "Yes", SAME: "No difference to speak of", OPEN: "Cannot tell"}


def claim_answer(claim: str, results: Mapping[str, Mapping]) -> str:
    """The answer to a claim, network by network, and whether the paper's own network was among them."""
    result = verdict(find_claim(claim), results)
    judgements = [(run_name(a.model, a.data, a.trained), a.judgement) for a in result.answers]
    return (decided(judgements) or "Not run.") + absent(result, results)


def overall(claim: str, results: Mapping[str, Mapping]) -> str:
    """The same in the board's words: of the paper's own setting, then of all other networks together (no votes), with
    what each rests on. *It carries over to networks with hidden layers: 2 networks, N = 198.*
    """
    result = verdict(find_claim(claim), results)
    own, *others = result.groups.values()
    others = [group for group in others if group.judgement is not None][:1]  # linear ones speak where they are alone
    parts = [_overall(group) for group in (own, *others) if group.judgement is not None]
    return " ".join(parts or ["Not run."]) + absent(result, results)


def _overall(group: GroupAnswer) -> str:
    word, deciding = group.judgement.word, group.judgement.deciding
    judged = [a for a in group.answers if a.judgement is not None]
    models = len({a.model for a in judged})
    names = joined([run_name(a.model, a.data, a.trained) for a in judged])
    basis = f"{'mean over ' * group.pooled}{words.counted(models, 'network')}" if models > 1 else names
    basis += "" if group.pooled or deciding.exact else f", N = {words.size(deciding)}"
    named = f"{GROUPS[group.group]}: {basis}" if models > 1 or group.group == OWN else basis
    start = {HOLDS: "It carries over to", AGAINST: "It does not carry over to"}.get(word, f"{WORDS[word]} on")
    return f"{f'{WORDS[word]} in' if group.group == OWN else start} {named}."


def decided(judgements: Sequence[tuple[str, Judgement]]) -> str:
    """Judgements of several networks in a sentence each word: *No on VGG16: Grad-CAM is better by 0.011.*"""
    parts = []
    for word, start in WORDS.items():
        alike: dict[object, list[tuple[str, Judgement]]] = {}  # what decides against the claim gets a sentence each
        for name, j in judgements:
            if j.word == word:
                key = (j.deciding.reference, j.deciding.metric) if word == AGAINST else None
                alike.setdefault(key, []).append((name, j))
        for same in alike.values():
            reason = _BECAUSE[word]([j for _, j in same]) if word in _BECAUSE else ""
            parts.append(f"{start} on {joined([name for name, _ in same])}{reason}.")
    return " ".join(parts)


def absent(result: Verdict, results: Mapping[str, Mapping]) -> str:
    """A sentence that says that the paper's own network was not run, or not on all that the claim needs."""
    claim, own = result.claim, result.groups[OWN]
    network = claim.own[0].network[0] if claim.own else ""
    if own.judgement is not None or network in ("", "vqa"):
        return ""
    name = f"{networks.name(network)} on {joined([networks.data(name) for name in claim.own[0].data])}"
    runs = [run for key in claim.sources for run in results.get(key, {}).get("runs", ())]
    begun = any(run["model"] in s.network and paper_data(run["data"]) in s.data for s in claim.own for run in runs)
    lacks = " in full" * begun + (f" ({own.answers[0].missing})" if own.answers else "")
    return f" {name}, the paper's own setting, was not run{lacks}."


def value(run: Mapping, method: str, metric: str) -> float:
    """The mean of a row of a run; LookupError where there is no such row."""
    return Run.of(run).mean(method, metric)["mean"]


def difference(run: Mapping, method: str, other: str, metric: str) -> str:
    """How far ``method`` is better than ``other`` on a run: ``+0.004 [0.001, 0.007]``."""
    return words.measured(Run.of(run).difference(method, other, metric))


def run_name(model: str, data: str, trained: str = "") -> str:
    """``ResNet-20 (CIFAR-10, 3 epochs)``."""
    return f"{networks.short(model)} ({networks.data(data)}{f', {trained}' if trained else ''})"


def joined(parts: Sequence[str]) -> str:
    """Parts of a list with commas and a last *and*: ``a, b and c``."""
    parts = list(dict.fromkeys(parts)) or [""]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def span(values: Sequence[float], digits: int = 0) -> str:
    """Smallest to largest, ``3 to 5``, or the one value that all have."""
    low, high = (words.number(end(values), digits) for end in (min, max))
    return low if low == high else f"{low} to {high}"


def _against(judgements: Sequence[Judgement]) -> str:
    """What decides against, the same for all: the method that is better, and by how much; for a level, its values."""
    first = judgements[0].deciding
    if first.reference is None or first.bound or " / " in first.method:
        return f": {words.metric(first.metric)} {span([j.deciding.value for j in judgements], _places(first.metric))}"
    several = len({c.metric for j in judgements for c in j.comparisons}) > 1
    by = f"by {amount([-j.deciding.excess for j in judgements], first.metric)}"
    return f": {words.method(first.reference)} is better {by}{f' in {words.metric(first.metric)}' if several else ''}"


def _open(judgements: Sequence[Judgement]) -> str:
    totals = [len(j.comparisons) for j in judgements]
    return f": {span([j.holding for j in judgements])} of {span(totals)} comparisons hold" if max(totals) > 1 else ""


_BECAUSE = {AGAINST: _against, OPEN: _open}


def amount(values: Sequence[float], metric: str) -> str:
    """Differences of a metric in its unit: ``0.011 to 0.045``, ``1.8 points``."""
    places = _places(metric)
    text = "less than 0.001" if places == 3 and max(values) < 0.001 else span(values, places)
    return f"{text} points" if places == 1 else text


def _places(metric: str) -> int:
    return 1 if TITLES[metric].endswith(("(%)", "(points)")) else 3

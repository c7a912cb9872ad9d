"""The answer of every notebook in one plain sentence, made from the committed results, for its head and the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from campanion.cams.methods import label
from campanion.report import networks
from campanion.results.measures import TITLES, better

#: By notebook: the sentence of its result (or of all results).
SENTENCES: dict[str, Callable[[Mapping[str, Mapping]], str]] = {}
YES, NO, OPEN = "Yes", "No", "Undecided"
_HIGHER = ("gap",)  # a metric of one notebook alone, in points, higher is better


def answer(key: str, results: Mapping[str, Mapping]) -> str:
    """The answer of the notebook ``key`` in one or two sentences.

    Raises:
        KeyError: no sentence is made for that notebook, or its result is missing.

    >>> answer("21_fd_table1_faithfulness", load_results())
    """
    return SENTENCES[key](results)


def says(key: str) -> Callable[[Callable], Callable]:
    """Decorator: the function makes the sentence of that notebook from all results."""

    def keep(function: Callable[[Mapping[str, Mapping]], str]) -> Callable:
        SENTENCES[key] = function
        return function

    return keep


# ---- what a result says of a method against the others
def rivals(run: Mapping, method: str, metric: str, among: Sequence[str] = ()) -> dict[str, tuple[float, float, float]]:
    """Paired difference ``method`` minus each other method, with its 95 % interval; above 0 ``method`` is better.

    Args:
        among: the other methods to take; empty takes all.
    """
    found, sign = {}, 1 if metric in _HIGHER else better(metric)
    for d in run["differences"]:
        if d["metric"] != metric or d.get("low") is None or method not in (d["method"], d["reference"]):
            continue
        other, turn = (d["reference"], sign) if d["method"] == method else (d["method"], -sign)
        if not among or other in among:
            low, high = sorted((turn * d["low"], turn * d["high"]))
            found[other] = (turn * d["mean"], low, high)
    return found


def contest(runs: Sequence[Mapping], method: str, metric: str, among: Sequence[str] = ()) -> str:
    """Whether ``method`` is the best on each network, in a sentence: yes, no and by how much, or undecided.

    *No* where the interval of the paired difference to some other method lies below 0, *yes* where all lie above 0.
    """
    groups: dict[str, list[tuple[Mapping, dict]]] = {NO: [], YES: [], OPEN: []}
    for run in runs:
        found = rivals(run, method, metric, among)
        if found:
            worse = any(high < 0 for _, _, high in found.values())
            groups[NO if worse else YES if all(low > 0 for _, low, _ in found.values()) else OPEN].append((run, found))
    parts = []
    for word, listed in groups.items():
        if listed:
            on = joined([run_name(run) for run, _ in listed])
            parts.append(f"{word} on {on}: {_because(word, [f for _, f in listed], method, metric)}.")
    return " ".join(parts)


def _because(word: str, found: Sequence[Mapping[str, tuple[float, float, float]]], method: str, metric: str) -> str:
    if word == YES:
        return f"{name(method)} is better than all {len(found[0])} others"
    if word == OPEN:
        ahead = [sum(low > 0 for _, low, _ in each.values()) for each in found]
        return f"no method is surely better, {name(method)} surely beats {span(ahead)} of {len(found[0])}"
    gaps: dict[str, list[float]] = {}
    for each in found:
        best = min(each, key=lambda m, each=each: each[m][0])
        gaps.setdefault(name(best), []).append(-each[best][0])
    if len(gaps) == 1:
        ((other, values),) = gaps.items()
        return f"{other} is better by {amount(min(values), max(values), metric)}"
    return "better are " + joined([f"{o} (by {amount(min(v), max(v), metric)})" for o, v in gaps.items()])


def mean(run: Mapping, method: str, metric: str) -> float:
    """The mean of a row of a run.

    Raises:
        KeyError: there is no such row.
    """
    for row in run["rows"]:
        if (row["method"], row["metric"]) == (method, metric):
            return row["mean"]
    raise KeyError(f"{run['model']} on {run['data']} has no {metric} of {method}")


def runs(results: Mapping[str, Mapping], key: str) -> list[Mapping]:
    """The full runs of a notebook's result."""
    return [run for run in results[key]["runs"] if run["mode"] == "full"]


def absent(listed: Sequence[Mapping], model: str = "vgg16", among: Sequence[str] = ("vgg16", "voc_vgg16")) -> str:
    """A sentence that says that the paper's own network was not run; empty where it was."""
    there = any(run["model"] in among for run in listed)
    return "" if there else f" {networks.name(model)}, the paper's network, was not run."


# ---- words and numbers
def name(method: str) -> str:
    """A method as one prints it."""
    if method.startswith("shap_cam_"):
        return f"SHAP-CAM with {method.removeprefix('shap_cam_')} orderings"
    return label(method).replace(" (lift)", "")


def run_name(run: Mapping) -> str:
    """``ResNet-18 (ImageNet)``."""
    return f"{networks.name(run['model'])} ({networks.data(run['data'])})"


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
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def amount(low: float, high: float, metric: str) -> str:
    """A difference, or a range of them, in the metric's unit: ``0.011 to 0.045``, ``1.8 points``."""
    percent = metric in _HIGHER or TITLES[metric].endswith("(%)")
    text = span([low, high], 1 if percent else 3)
    if not percent and high < 0.0005:
        text = "less than 0.001"
    return f"{text} points" if percent else text

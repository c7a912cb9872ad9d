"""The answer at the head of every notebook, from the verdicts and the committed results; see :mod:`.answers`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from campanion import paths
from campanion.report import networks
from campanion.report.answers import claim_answer, difference, joined, overall, run_name, span, value
from campanion.report.claims import find_claim
from campanion.report.evidence import full_runs
from campanion.report.layout import difference_rows
from campanion.report.papers import entries, published
from campanion.report.rule import HOLDS
from campanion.report.verdicts import OWN, verdict
from campanion.report.words import interval, method

Results = Mapping[str, Mapping]
Runs = Sequence[Mapping]  # the full ones of a notebook
SIZES = "13_lfi_table3_imagenet_size"
FEWEST = 20  # images that a share is told of


def answer(key: str, results: Results, brief: bool = False) -> str:
    """The answer of the notebook ``key`` in one or a few sentences; KeyError where none is made for it.

    ``brief``: networks answer together, and numbers stand only where no claim is answered.
    """
    questions = entries("questions")
    if key in questions["plain"]:
        return questions["plain"][key]
    claims, words = questions["notebooks"].get(key, {}), overall if brief else claim_answer
    parts = [f"{question} {words(claim, results)}" for claim, question in claims.items()]
    if key in SENTENCES and not (brief and claims):
        parts.append(SENTENCES[key](full_runs(results, key), results))
    if not parts:
        raise KeyError(f"No answer is made for the notebook {key!r}: add its question to data/papers/questions.yml.")
    return _once(" ".join(filter(None, parts)))


def summaries(results: Results) -> dict[str, str]:
    """What was found of each paper, in a few sentences, by the paper's name."""
    texts = {
        paper: " ".join(f"*{question}* {overall(claim, results)}" for claim, question in claims.items())
        for paper, claims in entries("questions")["papers"].items()
    }
    texts["LFI-CAM"] = f"{_sizes(full_runs(results, SIZES), results)} {texts['LFI-CAM']}"
    return {paper: _once(text) for paper, text in texts.items()}


def _sizes(runs: Runs, results: Results) -> str:
    printed = published("lfi", "table3")
    printed = printed[printed.metric == "parameters"]
    counted = {r["model"]: r for r in runs if r["data"] == "imagenet"}
    same = [abs(value(counted[row.model], row.method, "parameters") - row.number) < 0.006
            for row in printed.itertuples() if row.model in counted]  # fmt: skip
    judgement = verdict(find_claim("lfi_one_network"), results).groups[OWN].judgement
    same_network = judgement is None or judgement.word == HOLDS
    mixed = "" if same_network else " LFI-CAM's are not of the network of its equations and supplement."
    return f"{sum(same)} of {len(same)} printed sizes are the counted ones.{mixed} ImageNet was not trained."


def _stability(runs: Runs, _: Results) -> str:
    parts = []
    for run in runs:
        if {"lfi_cam", "abn"} <= {r["method"] for r in run["rows"] if r["metric"] == "iou"}:
            lfi, abn = (value(run, kind, "iou") for kind in ("lfi_cam", "abn"))
            parts.append(f"{lfi:.0f} % (LFI-CAM) and {abn:.0f} % (ABN) on {run_name(run['model'], run['data'])}")
    printed = published("lfi", "fig6").set_index("method")["number"]
    parts.append(f"paper, with its most accurate one, {printed['lfi_cam']:.0f} % or more and {printed['abn']:.0f} %")
    return f"IoU over all pairs: {'; '.join(parts)}."


def _gaps(runs: Runs, _: Results) -> str:
    gaps = [difference_rows(run, "gap", "fd_cam")["grad_cam"] for run in runs]
    parts = [f"{interval(gap['mean'], gap['low'], gap['high'], sign=True)} on {networks.name(run['model'])}"
             for run, gap in zip(runs, gaps, strict=True)]  # fmt: skip
    return f"On images with exactly two classes, FD-CAM's gap minus Grad-CAM's, in points: {joined(parts)}."


def _pointing(runs: Runs, _: Results) -> str:
    parts, centre, metric = [], [], "pointing_accuracy"
    for run in runs:
        centre.append(value(run, "centre point", metric))
        rows = {r["method"]: r for r in run["rows"] if r["metric"] == metric and not r["method"].endswith(" point")}
        order = sorted((m for m in rows if rows[m]["n"] == rows["fd_cam"]["n"]), key=lambda m: -rows[m]["mean"])
        other = order[order[0] == "fd_cam"]  # the best, or the next after FD-CAM
        place = f"number {order.index('fd_cam') + 1} of {len(order)} on {networks.name(run['model'])}"
        parts.append(f"{place} ({difference(run, 'fd_cam', other, metric)} points to {method(other)})")
    return f"By its accuracy on all images FD-CAM is {joined(parts)}. The image's centre scores {span(centre, 1)} %."


def _switching(runs: Runs, _: Results) -> str:
    pairs = (("fd_cam_g_off", "fd_cam_ng_off"), ("fd_cam", "fd_cam_g_off"))  # groups, and switching on as well
    added = [" and ".join(difference(run, *pair, "overall") for pair in pairs) for run in runs]
    parts = [f"{text} on {networks.name(run['model'])}" for text, run in zip(added, runs, strict=True)]
    return f"What each adds to insertion - deletion: {'; '.join(parts)}."


def _groups(runs: Runs, _: Results) -> str:
    row = "fd_cam:percentile=5,percentile_of=channel"
    inside, outside = ([value(r, row, metric) for r in runs] for metric in ("within", "between"))
    return f"Other channels have {span(outside, 2)}: those of a group are alike ({span(inside, 2)}), but not twins."


def _curves(runs: Runs, _: Results) -> str:
    rows = [(run, row) for run in runs for row in run["rows"] if row["metric"] == "best_overall"]
    best = [(run, row) for run, row in rows if row["n"] >= FEWEST]
    parts = [f"{row['mean']:.0f} % with {networks.name(run['model'])} (N = {row['n']})"
             for run, row in best if row["method"] == "fd_cam"]  # fmt: skip
    shares = joined(parts).replace(" %", " % of the images", 1)
    chance = f"chance would give {100 / max(len({row['method'] for _, row in best}), 1):.1f} %"
    return f"FD-CAM has the best insertion - deletion of eight on {shares}; {chance}."


def _idea(_: Runs, results: Results) -> str:
    cosines: dict[str, list[float]] = {}
    for run in full_runs(results, "32_lift_table2_shap_similarity"):
        cosines.setdefault(networks.head(run["model"]), []).append(value(run, "lift_cam", "shap_cosine"))
    spans = [f"{span(v, 3)} ({head}{' layers' * (head == networks.HIDDEN)})" for head, v in cosines.items()]
    adds_up = claim_answer("lift_eq8_local_accuracy", results).replace("was not run", "was not run for this sum")
    return (
        f"Does one backward pass give the Shapley values? Their cosine with LIFT-CAM's weights is {joined(spans)}. "
        f"Do the weights add up to the score? {adds_up}"
    )


def _speed(_: Runs, _results: Results) -> str:
    entries = json.loads((paths.root() / "benchmarks" / "results.json").read_text("utf-8"))["methods"].values()
    ratios: dict[str, list[float]] = {}
    for entry in entries:
        ours = entry["sides"].get("campanion")
        for library, theirs in entry["sides"].items():
            if ours is not None and library != "campanion":
                ratios.setdefault(library, []).append(theirs["cpu"]["median"] / ours["cpu"]["median"])
    names = {"authors": "FD-CAM's algorithm step by step"}
    times = [f"{median(values):.1f} times ({names.get(library, library)})" for library, values in ratios.items()]
    return f"Other code takes, in the median over methods, networks and batches, {joined(times)} our time on a CPU."


def _sanity(runs: Runs, _: Results) -> str:
    correlations: dict[str, list[float]] = {}
    for row in (row for run in runs for row in run["rows"] if row["metric"] == "rank_output"):
        correlations.setdefault(row["method"], []).append(row["mean"])
    insensitive = [f"{method(m)} ({span(v, 2)})" for m, v in correlations.items() if min(v) > 0.7]
    sensitive = [method(m) for m, v in correlations.items() if max(v) < 0.5]
    return (
        "With a re-initialised output layer these maps keep their rank correlation above 0.7: "
        f"{joined(insensitive) or 'none'}; these fall below 0.5: {joined(sensitive) or 'none'}."
    )


SENTENCES: Mapping[str, Callable[[Runs, Results], str]] = {
    SIZES: _sizes,
    "14_lfi_fig1_fig6_stability": _stability,
    "20_fd_fig1_fig6_discriminability": _gaps,
    "22_fd_table2_pointing_game": _pointing,
    "23_fd_table3_grouped_switching": _switching,
    "25_fd_fig3_channel_groups": _groups,
    "27_fd_fig5_curves": _curves,
    "30_lift_fig1_fig2_idea": _idea,
    "41_beyond_speed": _speed,
    "42_beyond_sanity_checks": _sanity,
}  # by notebook: what it says with numbers, besides the answers to its claims


def _once(text: str) -> str:
    """A sentence that several claims add (the network that was not run) stands once, at the end."""
    matches = sorted(_NOT_RUN.finditer(text), key=lambda match: match[2] is not None)
    return _NOT_RUN.sub("", text) + "".join({match[1]: match[0] for match in matches}.values())


_NOT_RUN = re.compile(r" ([A-Z][^.,]* on [^.]+?), the paper's own setting, was not run( in full(?: \([^)]*\))?)?\.")

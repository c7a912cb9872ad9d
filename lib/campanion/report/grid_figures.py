"""Tables and figures of training runs: the error of each, differences between methods, how far two maps overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.cams.methods import label
from campanion.report import colours, networks
from campanion.report.figures import WIDTH, bars, legend_below, name_rows, styled
from campanion.report.layout import Sheet
from campanion.report.networks import of_run
from campanion.report.papers import paper_data, published

_PAIRS = (("abn", "plain"), ("lfi_cam", "plain"), ("lfi_cam", "abn"))
_COLUMNS = {"method": "method", "generation": "generation", "lr": "lr", "seed": "seed", "epochs": "epochs",
            "error": "top-1 error (%)", "low": "95 % from", "high": "to", "parameters": "parameters (M)",
            "minutes": "minutes", "device": "device"}  # fmt: skip


def printed_differences(table: str, data: str) -> pd.DataFrame:
    """Differences of the top-1 errors that LFI-CAM's paper prints for a data set, in points: model, method, reference,
    and mean of every pair that is printed, as ABN - plain, LFI-CAM - plain and LFI-CAM - ABN."""
    printed = published("lfi", table)
    printed = printed[(printed.metric == "top1_error") & (printed.data == paper_data(data))]
    rows = []
    for model, group in printed.groupby("model", sort=False):
        error = group.set_index("method").number
        rows += [(model, a, b, error[a] - error[b]) for a, b in _PAIRS if {a, b} <= set(error.index)]
    return pd.DataFrame(rows, columns=["model", "method", "reference", "mean"])


def trainings_table(run: Mapping) -> Sheet:
    """Every training run with its recipe, its top-1 error in per cent and the error's interval over images."""
    rows = pd.DataFrame(run["extra"]["cells"])[list(_COLUMNS)]
    rows["method"] = rows["method"].map(label)
    cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows.fillna("-").to_numpy()]
    return Sheet(f"{of_run(run)}: training runs, interval over images", [([*_COLUMNS.values()], cells)])


def differences_table(run: Mapping) -> Sheet:
    """Differences of the top-1 errors with both intervals, and how small a difference these runs could detect."""
    extra = run["extra"]
    rows = [
        [_pair(both), _interval(both), _interval(images), "-" if least is None else f"{least:.2f}"]
        for both, images, least in zip(run["differences"], extra["pictures"], extra["detectable"], strict=True)
    ]
    heads = ["points of top-1 error", "over images and training runs", "over images alone", "could detect"]
    caption = f"{of_run(run)}, N = {run['provenance']['n']:,}: differences with 95 % intervals"
    return Sheet(caption, [(heads, rows)])


def _pair(row: Mapping) -> str:
    return f"{label(row['method'])} - {label(row['reference'])}"


def _interval(row: Mapping) -> str:
    ends = "one run, no interval" if row["low"] is None else f"{row['low']:+.2f}, {row['high']:+.2f}"
    return f"{row['mean']:+.2f} [{ends}]"


def _trainings(run: Mapping, ax: Axes) -> None:
    """Every training run's error with its interval over images, and the mean of each method as a line."""
    trained = pd.DataFrame(run["extra"]["cells"])
    means = {row["method"]: row["mean"] for row in run["rows"] if row["metric"] == "top1_error"}
    for y, (method, runs) in enumerate(trained.groupby("method", sort=False)):
        places = y + np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else [y]
        colour, reach = colours.attention(method), bars(runs["error"], runs["low"], runs["high"])
        ax.errorbar(runs["error"], places, xerr=reach, fmt="o", ms=4, capsize=2, color=colour)
        ax.plot([means[method]] * 2, [y - 0.35, y + 0.35], "-", lw=1.5, color=colour)
    name_rows(ax, [label(method) for method in trained["method"].unique()])
    ax.set_xlabel("top-1 error (%)")
    ax.set_title(f"{of_run(run)}: training runs (dots), their mean (line)", fontsize=8)
    ax.grid(axis="x", lw=0.3)


def _differences(run: Mapping, table: str, ax: Axes) -> None:
    """Differences between methods: over all training runs, of runs with the same seed, and those that are printed."""
    printed = printed_differences(table, run["data"])
    seeds = pd.DataFrame(run["extra"]["per_seed"], columns=["method", "reference", "seed", "mean", "low", "high"])
    for y, row in enumerate(run["differences"]):
        runs = seeds[(seeds["method"] == row["method"]) & (seeds["reference"] == row["reference"])]
        look = {"fmt": "x", "ms": 4, "lw": 0.8, "color": "0.5", "label": "one seed, interval over images"}
        reach = bars(runs["mean"], runs["low"], runs["high"])
        ax.errorbar(runs["mean"], y + 0.15 + 0.12 * np.arange(len(runs)), xerr=reach, **look)
        if row["low"] is not None:
            look = {"fmt": "D", "ms": 5, "capsize": 3, "color": "black"}
            look["label"] = "all seeds, interval over images and seeds"
            ax.errorbar(row["mean"], y, xerr=bars([row["mean"]], [row["low"]], [row["high"]]), **look)
        for i, (model, group) in enumerate(printed.groupby("model", sort=False)):
            gaps = {(p.method, p.reference): p.mean for p in group.itertuples()}
            pair = row["method"], row["reference"]
            ring = {"ms": 6, "mfc": "none", "color": colours.PAPER, "label": f"paper, {networks.name(model)}"}
            ax.plot([gaps[pair]] if pair in gaps else [], [y - 0.2] * (pair in gaps), "os^v"[i % 4], **ring)
    ax.axvline(0, lw=0.6, color="black")
    name_rows(ax, [*map(_pair, run["differences"])])
    ax.set_ylim(len(run["differences"]) - 0.4, -0.5)
    ax.set_xlabel("difference of the top-1 errors (points); below 0 the first is better")
    ax.set_title(f"{of_run(run)}: differences", fontsize=8)
    ax.grid(axis="x", lw=0.3)


@styled
def study_figure(run: Mapping, table: str) -> Figure:
    """The error of every training run, and below it the differences of methods where there are several."""
    several = bool(run["differences"])
    methods = len({cell["method"] for cell in run["extra"]["cells"]})
    heights = [0.45 * methods + 0.7] + [0.6 * len(run["differences"]) + 0.7] * several
    fig, axes = plt.subplots(1 + several, 1, figsize=(WIDTH, sum(heights) + 0.5), squeeze=False, height_ratios=heights)
    _trainings(run, axes[0, 0])
    if several:
        _differences(run, table, axes[1, 0])
        legend_below(fig, ncols=2, fontsize=7)
    return fig


@styled
def overlap_figure(runs: Sequence[Mapping]) -> Figure:
    """LFI-CAM's Fig. 6: (a) IoU of the most accurate network's maps with those of each other, (b) means over all pairs.

    Only pairs of different seeds, ``runs`` of notebook 14. The dashed lines are the paper's 60 and 30 %; intervals are
    over images and seeds, and beside each mean stands what it would be by chance.
    """
    printed = published("lfi", "fig6").set_index("method")["number"]
    names = [(m, colours.attention(m)) for m in ("lfi_cam", "abn") if any(m in run["extra"]["methods"] for run in runs)]
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.0), sharey=True, width_ratios=(3, 2))
    for place, run in enumerate(runs):
        for i, (method, colour) in enumerate(names):
            heights = with_base(run, method)
            step = 0.34 / max(len(heights), 5)
            x = place + 0.4 * (i - 0.5) + step * (np.arange(len(heights)) - (len(heights) - 1) / 2)
            axes[0].bar(x, heights, 0.8 * step, color=colour)
            _mean_and_chance(axes[1], run, method, place + 0.3 * (i - 0.5), colour)
    for ax, text in zip(axes, ("(a) most accurate network with those of other seeds", "(b) all pairs"), strict=True):
        for method, colour in names:
            ax.axhline(printed[method], ls="--", lw=0.9, color=colour)
            ax.text(len(runs) - 0.45, printed[method] + 1, f"{printed[method]:g}", fontsize=7, color=colour, ha="right")
        ax.set_xticks(range(len(runs)), [of_run(run).replace(" on ", "\n") for run in runs], fontsize=7)
        ax.set(xlim=(-0.55, len(runs) - 0.4), ylim=(0, 100))
        ax.set_title(text, fontsize=8)
    axes[0].set_ylabel("IoU (%)")
    marks = [{"marker": "o", "ls": "", "color": colour, "label": label(method)} for method, colour in names]
    marks += [
        {"ls": "--", "color": "0.4", "label": "paper"},
        {"marker": "D", "mfc": "none", "ls": "", "color": "0.4", "label": "chance: map of another image"},
        {"marker": "x", "ls": "", "color": "0.4", "label": "chance: independent masks"},
    ]
    handles = [mpl.lines.Line2D([], [], **look) for look in marks]
    fig.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7)
    return fig


def with_base(run: Mapping, method: str) -> list[float]:
    """IoU of the most accurate network's maps with those of networks of other seeds, the largest first."""
    base = run["extra"]["methods"].get(method, {"base": None})["base"]
    pairs = (p for p in run["extra"]["pairs"] if p["method"] == method and p["kind"] == "")
    return sorted((p["iou"] for p in pairs if base in (p["first"], p["second"])), reverse=True)


def _mean_and_chance(ax: Axes, run: Mapping, method: str, x: float, colour: str) -> None:
    rows = {r["metric"]: r for r in run["rows"] if r["method"] == method}
    if "iou" not in rows:
        return
    mean, low, high = ([rows["iou"][key]] for key in ("mean", "low", "high"))
    ax.errorbar(x, mean, yerr=None if low == [None] else bars(mean, low, high), fmt="o", ms=5, capsize=3, color=colour)
    for metric, mark in (("iou_shuffled", "D"), ("iou_independent", "x")):
        ax.plot(x + 0.1, rows[metric]["mean"], mark, ms=5, mfc="none", color=colour)

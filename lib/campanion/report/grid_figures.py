"""Tables and figures of training runs: the error of each, differences between methods."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.cams.methods import label
from campanion.report import colours, networks
from campanion.report.figures import WIDTH, bars, legend_below, name_rows, styled
from campanion.report.layout import Sheet
from campanion.report.networks import of_run, paper_data
from campanion.report.papers import published

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

"""Figures of trainings: each one's error beside the others of its method, and the differences between methods."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from campanion.report.figures import PALETTE, STYLE
from campanion.report.papers import paper_data, published
from campanion.report.tables import label


def printed_differences(table: str, data: str) -> pd.DataFrame:
    """Differences of the top-1 errors that LFI-CAM's paper prints for a data set, in points.

    Returns:
        Columns ``model, method, reference, mean``; every pair that is printed, as ABN - plain, LFI-CAM - plain and
        LFI-CAM - ABN.
    """
    printed = published("lfi", table)
    printed = printed[(printed.metric == "top1_error") & (printed.data == paper_data(data))]
    rows = []
    for model, group in printed.groupby("model", sort=False):
        value = group.set_index("method").number
        pairs = (("abn", "plain"), ("lfi_cam", "plain"), ("lfi_cam", "abn"))
        rows += [(model, a, b, value[a] - value[b]) for a, b in pairs if {a, b} <= set(value.index)]
    return pd.DataFrame(rows, columns=["model", "method", "reference", "mean"])


def trainings_plot(run: Mapping, ax: mpl.axes.Axes) -> None:
    """Every training's error with its interval over pictures, and the mean of each method as a line."""
    trained = pd.DataFrame(run["extra"]["cells"])
    means = {row["method"]: row["mean"] for row in run["rows"] if row["metric"] == "top1_error"}
    for y, (method, own) in enumerate(trained.groupby("method", sort=False)):
        place = y + np.linspace(-0.2, 0.2, len(own)) if len(own) > 1 else np.array([float(y)])
        reach = np.stack([own["error"] - own["low"], own["high"] - own["error"]])
        ax.errorbar(own["error"], place, xerr=reach, fmt="o", ms=4, capsize=2, ls="none", color=PALETTE[y % 8])
        ax.plot([means[method]] * 2, [y - 0.35, y + 0.35], "-", lw=1.5, color=PALETTE[y % 8])
    names = [label(method) for method in trained["method"].unique()]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("top-1 error (%)")
    ax.set_title(f"{run['model']} on {run['data']}: trainings (dots), their mean (line)", fontsize=8)
    ax.grid(axis="x", lw=0.3)


def differences_plot(run: Mapping, table: str, ax: mpl.axes.Axes) -> None:
    """Differences between methods: over all trainings, of trainings with the same seed, and those that are printed."""
    rows = run["differences"]
    names = [f"{label(row['method'])} - {label(row['reference'])}" for row in rows]
    printed = printed_differences(table, run["data"])
    seeds = pd.DataFrame(run["extra"]["per_seed"], columns=["method", "reference", "seed", "mean", "low", "high"])
    for y, row in enumerate(rows):
        same = (seeds["method"] == row["method"]) & (seeds["reference"] == row["reference"])
        own = seeds[same]
        place = y + 0.15 + 0.12 * np.arange(len(own))
        reach = np.stack([own["mean"] - own["low"], own["high"] - own["mean"]])
        ax.errorbar(
            own["mean"], place, xerr=reach, fmt="x", ms=4, lw=0.8, color=PALETTE[6],
            label="one seed, interval over pictures",
        )  # fmt: skip
        if row["low"] is not None:
            reach = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
            ax.errorbar(
                row["mean"], y, xerr=reach, fmt="D", ms=5, capsize=3, color=PALETTE[0],
                label="all seeds, interval over pictures and seeds",
            )  # fmt: skip
        for i, (model, group) in enumerate(printed.groupby("model", sort=False)):
            value = group[(group.method == row["method"]) & (group.reference == row["reference"])]["mean"]
            marker = "os^v"[i % 4]
            ax.plot(
                value, [y - 0.2] * len(value), marker, ms=6, mfc="none", color=PALETTE[1],
                label=f"paper, {model}",
            )  # fmt: skip
    ax.axvline(0, lw=0.6, color="black")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.5)
    ax.set_xlabel("difference of the top-1 errors (points); below 0 the first is better")
    ax.set_title(f"{run['model']} on {run['data']}: differences", fontsize=8)
    ax.grid(axis="x", lw=0.3)


def study_figure(run: Mapping, table: str, width: float = 6.875) -> Figure:
    """:func:`trainings_plot` above :func:`differences_plot`; without the second where there is one method."""
    several = bool(run["differences"])
    with mpl.rc_context(STYLE):
        lines = len({cell["method"] for cell in run["extra"]["cells"]})
        heights = [0.45 * lines + 0.7] + [0.6 * len(run["differences"]) + 0.7] * several
        fig, axes = plt.subplots(
            1 + several, 1, figsize=(width, sum(heights) + 0.5), squeeze=False, height_ratios=heights
        )
        trainings_plot(run, axes[0, 0])
        if several:
            differences_plot(run, table, axes[1, 0])
            handles, labels = axes[1, 0].get_legend_handles_labels()
            marks = dict(zip(labels, handles, strict=True))  # each once
            fig.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=2, fontsize=7)
    return fig

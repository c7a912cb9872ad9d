"""Tables and figures of training runs: the error of each, differences between methods, how far two maps overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from campanion.report import networks
from campanion.report.figures import PALETTE, STYLE
from campanion.report.layout import Sheet
from campanion.report.networks import where
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


_TRAINED = ("method", "generation", "lr", "seed", "epochs", "error", "low", "high", "parameters", "minutes", "device")


def trainings_table(run: Mapping) -> Sheet:
    """Every training run with its recipe, its top-1 error in per cent and the error's interval over images."""
    rows = pd.DataFrame(run["extra"]["cells"])[list(_TRAINED)]
    rows["method"] = rows["method"].map(label)
    told = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows.fillna("-").to_numpy()]
    heads = [*_TRAINED[:5], "top-1 error (%)", "95 % from", "to", "parameters (M)", "minutes", "device"]
    return Sheet(f"{where(run['model'], run['data'])}: training runs, interval over images", [(heads, told)])


def differences_table(run: Mapping) -> Sheet:
    """Differences of the top-1 errors with both intervals, and how small a difference these runs could detect."""
    rows = [
        [
            f"{label(both['method'])} - {label(both['reference'])}",
            *(_told(d) for d in (both, images)),
            "-" if least is None else f"{least:.2f}",
        ]
        for both, images, least in zip(
            run["differences"], run["extra"]["pictures"], run["extra"]["detectable"], strict=True
        )
    ]
    heads = ["points of top-1 error", "over images and training runs", "over images alone", "could detect"]
    name = f"{where(run['model'], run['data'])}, N = {run['provenance']['n']:,}"
    return Sheet(f"{name}: differences with 95 % intervals", [(heads, rows)])


def _told(found: Mapping) -> str:
    ends = "one run, no interval" if found["low"] is None else f"{found['low']:+.2f}, {found['high']:+.2f}"
    return f"{found['mean']:+.2f} [{ends}]"


def trainings_plot(run: Mapping, ax: mpl.axes.Axes) -> None:
    """Every training run's error with its interval over images, and the mean of each method as a line."""
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
    ax.set_title(f"{where(run['model'], run['data'])}: training runs (dots), their mean (line)", fontsize=8)
    ax.grid(axis="x", lw=0.3)


def differences_plot(run: Mapping, table: str, ax: mpl.axes.Axes) -> None:
    """Differences between methods: over all training runs, of runs with the same seed, and those that are printed."""
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
            label="one seed, interval over images",
        )  # fmt: skip
        if row["low"] is not None:
            reach = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
            ax.errorbar(
                row["mean"], y, xerr=reach, fmt="D", ms=5, capsize=3, color=PALETTE[0],
                label="all seeds, interval over images and seeds",
            )  # fmt: skip
        for i, (model, group) in enumerate(printed.groupby("model", sort=False)):
            gaps = {(p.method, p.reference): p.mean for p in group.itertuples()}
            gaps |= {(b, a): -gap for (a, b), gap in gaps.items()}  # a run may keep a difference the other way round
            value = [gaps[pair] for pair in [(row["method"], row["reference"])] if pair in gaps]
            ring = {"ms": 6, "mfc": "none", "color": PALETTE[1], "label": f"paper, {networks.name(model)}"}
            ax.plot(value, [y - 0.2] * len(value), "os^v"[i % 4], **ring)
    ax.axvline(0, lw=0.6, color="black")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.5)
    ax.set_xlabel("difference of the top-1 errors (points); below 0 the first is better")
    ax.set_title(f"{where(run['model'], run['data'])}: differences", fontsize=8)
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


def overlap_figure(runs: Sequence[Mapping], width: float = 6.875) -> Figure:
    """LFI-CAM's Fig. 6: (a) IoU of the most accurate network's maps with each other one's, (b) means over all pairs.

    Only pairs of different seeds. The dashed lines are the paper's 60 and 30 %; intervals are over images and networks,
    and beside each mean stands what it would be by chance.

    Args:
        runs: of the result of notebook 14.
        width: in inches.
    """
    printed = published("lfi", "fig6").set_index("method")["number"]
    names = [(m, PALETTE[i]) for i, m in enumerate(("lfi_cam", "abn")) if any(m in r["extra"]["methods"] for r in runs)]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(width, 3.0), sharey=True, width_ratios=(3, 2))
        for place, run in enumerate(runs):
            for i, (method, colour) in enumerate(names):
                heights = _with_base(run, method)
                step = 0.34 / max(len(heights), 5)
                x = place + 0.4 * (i - 0.5) + step * (np.arange(len(heights)) - (len(heights) - 1) / 2)
                axes[0].bar(x, heights, 0.8 * step, color=colour)
                _mean_and_chance(axes[1], run, method, place + 0.3 * (i - 0.5), colour)
        for ax, text in zip(axes, ("(a) most accurate network with each of the others", "(b) all pairs"), strict=True):
            for method, colour in names:
                ax.axhline(printed[method], ls="--", lw=0.9, color=colour)
                ax.text(
                    len(runs) - 0.45, printed[method] + 1, f"{printed[method]:g}", fontsize=7, color=colour, ha="right"
                )
            ax.set_xticks(
                range(len(runs)), [where(run["model"], run["data"]).replace(" on ", "\n") for run in runs], fontsize=7
            )
            ax.set(xlim=(-0.55, len(runs) - 0.4), ylim=(0, 100))
            ax.set_title(text, fontsize=8)
        axes[0].set_ylabel("IoU (%)")
        marks = [mpl.lines.Line2D([], [], marker="o", ls="", color=colour, label=label(m)) for m, colour in names]
        marks += [
            mpl.lines.Line2D([], [], ls="--", color="0.4", label="paper"),
            mpl.lines.Line2D([], [], marker="D", mfc="none", ls="", color="0.4", label="chance: map of another image"),
            mpl.lines.Line2D([], [], marker="x", ls="", color="0.4", label="chance: independent masks"),
        ]
        fig.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=7)
    return fig


def thresholds_figure(runs: Sequence[Mapping], methods: Sequence[str], width: float = 6.875) -> Figure:
    """The mean IoU by the threshold of the masks, a panel per run; dashed: with the map of another image."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(runs), figsize=(width, 2.9), sharey=True, squeeze=False)
        for ax, run in zip(axes[0], runs, strict=True):
            x = run["extra"]["thresholds"]
            for colour, method in zip(PALETTE[1::-1], methods, strict=True):
                curves = run["extra"]["methods"].get(method, {"curves": {}})["curves"]
                for kind, line, more in (("iou", "-", ""), ("iou_shuffled", "--", ", another image")):
                    if curves:
                        ax.plot(x, curves[kind], line, color=colour, label=label(method) + more)
            ax.axvline(127, color="0.6", lw=0.7, ls="-")
            ax.set(xlabel="threshold (0 to 255)", ylim=(0, 100))
            ax.set_title(where(run["model"], run["data"]), fontsize=8)
        axes[0, 0].set_ylabel("mean IoU (%)")
        named = dict(pair[::-1] for ax in axes[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True))
        fig.legend(named.values(), named, loc="outside lower center", ncols=4)  # a panel may lack a method
    return fig


def pairs_figure(run: Mapping, methods: Sequence[str], width: float = 6.875) -> Figure:
    """The IoU of the maps of every two networks, a matrix per method."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(methods), figsize=(width, 3.4), squeeze=False)
        for ax, method in zip(axes[0], methods, strict=True):
            part = run["extra"]["methods"][method]
            values, names = np.array(part["matrix"]), [one["about"] for one in part["networks"]]
            look = {"vmin": 0, "vmax": 100, "cmap": "viridis", "cbar": False, "square": True}
            sns.heatmap(values, annot=True, fmt=".0f", annot_kws={"size": 6}, **look, ax=ax)
            ax.set_xticks(ax.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=6)
            ax.set_yticks(ax.get_yticks(), names, rotation=0, fontsize=6)
            ax.set_title(f"{label(method)}: IoU (%)", fontsize=8)
        fig.suptitle(where(run["model"], run["data"]), fontsize=8)
    return fig


def _with_base(run: Mapping, method: str) -> list[float]:
    base = run["extra"]["methods"].get(method, {"base": None})["base"]
    pairs = [
        p
        for p in run["extra"]["pairs"]
        if p["method"] == method and p["kind"] == "" and base in (p["first"], p["second"])
    ]
    return sorted((p["iou"] for p in pairs), reverse=True)


def _mean_and_chance(ax: mpl.axes.Axes, run: Mapping, method: str, x: float, colour: str) -> None:
    found = {r["metric"]: r for r in run["rows"] if r["method"] == method}
    if "iou" not in found:
        return
    row = found["iou"]
    reach = None if row["low"] is None else [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
    ax.errorbar(x, row["mean"], yerr=reach, fmt="o", ms=5, capsize=3, color=colour)
    for metric, mark in (("iou_shuffled", "D"), ("iou_independent", "x")):
        ax.plot(x + 0.1, found[metric]["mean"], mark, ms=5, mfc="none", color=colour)

"""Figures of methods compared on the same images: paired differences, means, and curves less those of one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.report import networks
from campanion.report.figures import PALETTE, STYLE
from campanion.report.layout import difference_rows, method_name
from campanion.report.papers import paper_data, published
from campanion.results.measures import DIRECTION, TITLES

_MARKS = "osD^vPX<>" * 9  # more than anybody names networks


def differences_figure(
    runs: Sequence[Mapping],
    metrics: Sequence[str],
    method: str,
    others: Sequence[str],
    printed: tuple[str, str] | None = None,
    width: float = 7.16,
) -> Figure:
    """``method`` minus each of ``others`` on the same images: a panel per metric, a mark with 95 % interval per run.

    Args:
        runs: of a result; the first is drawn in black.
        printed: paper and table whose own differences (of the first run's data set, or the table's first) are rings.

    >>> differences_figure(result["runs"], ["insertion", "deletion"], "fd_cam", FD_METHODS, ("fd", "table1"))
    """
    others = [name for name in others if name != method]
    with mpl.rc_context(STYLE):
        height = 0.9 + max(0.16 * len(runs), 0.2) * len(others)
        fig, axes = plt.subplots(1, len(metrics), figsize=(width, height), sharey=True, squeeze=False)
        for ax, metric in zip(axes[0], metrics, strict=True):
            ax.axvline(0, color="0.5", lw=0.8, zorder=0)
            for i, run in enumerate(runs):
                found = difference_rows(run, metric, method)
                rows = [(j, found[name]) for j, name in enumerate(others) if name in found]
                _marks(ax, rows, i, len(runs))
            if printed:
                for j, gap in _printed(printed, runs[0]["data"], metric, method, others):
                    ax.plot(gap, j, "o", ms=8, mfc="none", mec=PALETTE[1], mew=0.9, zorder=4)
            ax.set_title(f"{TITLES[metric]}\n({DIRECTION[metric]} is better)", fontsize=7)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
            ax.tick_params(labelsize=7)
        _names(axes[0], others)
        axes[0, len(metrics) // 2].set_xlabel(f"{method_name(method)} minus the other method", fontsize=7.5)
        data = [*published(*printed)["data"]] if printed else [""]
        near = networks.data(max(data, key=lambda name: name == paper_data(runs[0]["data"])))
        ring = mpl.lines.Line2D([], [], marker="o", ms=8, mfc="none", mec=PALETTE[1], ls="", label=f"paper, {near}")
        _legend(fig, runs, [ring] * bool(printed))
    return fig


def means_figure(
    runs: Sequence[Mapping],
    metrics: Mapping[str, str],
    methods: Sequence[str] | Mapping[str, str],
    width: float = 7.16,
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Means with 95 % intervals: a panel per metric (its key in the rows: its title), a line per method (and its name).

    ``chance`` is, by metric, the value of a method without any idea, drawn as a line.

    >>> means_figure(result["runs"], {"grid_energy": "energy in the half asked about (%)"}, METHODS)
    """
    with mpl.rc_context(STYLE):
        height = 0.8 + max(0.15 * len(runs), 0.2) * len(methods)
        fig, axes = plt.subplots(1, len(metrics), figsize=(width, height), sharey=True, squeeze=False)
        for ax, (metric, title) in zip(axes[0], metrics.items(), strict=True):
            if chance and metric in chance:
                ax.axvline(chance[metric], color="0.5", lw=0.8, ls=":", zorder=0)
            for i, run in enumerate(runs):
                found = {r["method"]: r for r in run["rows"] if r["metric"] == metric}
                _marks(ax, [(j, found[name]) for j, name in enumerate(methods) if name in found], i, len(runs))
            ax.set_title(title, fontsize=7)
            ax.tick_params(labelsize=7)
        _names(axes[0], methods)
        _legend(fig, runs)
    return fig


def curves_figure(runs: Sequence[Mapping], reference: str, highlight: str, width: float = 7.16) -> Figure:
    """Mean insertion and deletion curves less those of ``reference``: above 0 the class stays likelier.

    Args:
        runs: with ``extra["insertion_curve"]`` and ``extra["deletion_curve"]``; methods with fewer images are left out.
        highlight: the method of the thick black line.
    """
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(len(runs), 2, figsize=(width, 1.9 * len(runs) + 0.6), sharex=True, squeeze=False)
        for line, run in zip(axes, runs, strict=True):
            for ax, curve in zip(line, ("insertion_curve", "deletion_curve"), strict=True):
                means, n = run["extra"][curve], {row["method"]: row["n"] for row in run["rows"]}
                for (name, values), style in zip(means.items(), mpl.rcParams["axes.prop_cycle"], strict=False):
                    if name == reference or n[name] < n[reference]:
                        continue
                    drawn = {"c": "k", "lw": 1.8, "ls": "-", "zorder": 3} if name == highlight else style | {"lw": 0.9}
                    shares = np.linspace(0, 100, len(values))
                    ax.plot(shares, np.subtract(values, means[reference]), label=method_name(name), **drawn)
                ax.axhline(0, color="0.5", lw=0.8, zorder=0)
                where = f"{networks.name(run['model'])}, {networks.data(run['data'])}, N = {run['provenance']['n']}"
                ax.set_title(f"{curve.split('_')[0]}: {where}", fontsize=7)
                ax.tick_params(labelsize=7)
            line[0].set_ylabel(f"probability,\nminus {method_name(reference)}'s", fontsize=7)
        for ax in axes[-1]:
            ax.set_xlabel("per cent of the pixels", fontsize=7)
        fullest = max(axes[:, 0], key=lambda ax: len(ax.lines))
        fig.legend(*fullest.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    return fig


def spread_figure(
    runs: Sequence[Mapping], rows: Sequence[pd.DataFrame], methods: Sequence[str], metric: str, width: float = 7.16
) -> Figure:
    """How a metric spreads over images, by ``rows`` of each run: boxes hold the middle half, whiskers 95 %."""
    with mpl.rc_context(STYLE):
        columns = min(len(runs), 4)
        lines = -(-len(runs) // columns)
        fig, axes = plt.subplots(lines, columns, figsize=(width, 0.22 * lines * len(methods) + 0.6 * lines + 0.3),
                                 sharey=True, squeeze=False)  # fmt: skip
        for ax, run, each in zip(axes.flat, runs, rows, strict=False):
            parts = [each[each["method"] == name][metric].dropna() for name in methods]
            ax.boxplot(parts, orientation="horizontal", whis=(2.5, 97.5), showfliers=False,
                       medianprops={"color": PALETTE[1]})  # fmt: skip
            ax.set_yticks(range(1, len(methods) + 1), [method_name(name) for name in methods])
            ax.set_title(
                f"{networks.name(run['model'])}\n{networks.data(run['data'])}, N = {len(parts[0])}", fontsize=6.5
            )
            ax.tick_params(labelsize=6.5)
        for ax in axes.flat[len(runs) :]:
            ax.remove()
        axes[0, 0].invert_yaxis()  # shared: the first method on top
        fig.supxlabel(TITLES.get(metric, metric), fontsize=7.5)
    return fig


def convergence_figure(rows: Mapping[str, pd.DataFrame], enough: float, width: float = 7.16) -> Figure:
    """1 - cosine with reference Shapley values by the number of orderings: median and middle 90 % of the images.

    Args:
        rows: by a panel's title; columns image, estimator, orderings and cosine. The estimator ``split_half`` compares
            the two halves of the reference and is a star.
        enough: the cosine of the dotted line.
    """
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(rows), figsize=(width, 2.6), sharex=True, sharey=True, squeeze=False)
        for ax, (title, each) in zip(axes[0], rows.items(), strict=True):
            for (name, part), colour in zip(each.groupby("estimator"), PALETTE, strict=False):
                gap = (1 - part["cosine"]).groupby(part["orderings"]).quantile([0.05, 0.5, 0.95]).unstack()
                if name == "split_half":
                    reach = [gap[0.5] - gap[0.05], gap[0.95] - gap[0.5]]
                    star = {"fmt": "*", "ms": 7, "color": "black", "label": "half of the reference with the other"}
                    ax.errorbar(gap.index, gap[0.5], reach, **star)
                    continue
                ax.plot(gap.index, gap[0.5], "o-", ms=2.5, lw=0.9, color=colour, label=name)
                ax.fill_between(gap.index, gap[0.05], gap[0.95], color=colour, alpha=0.2, lw=0)
            ax.axhline(1 - enough, color="0.4", lw=0.8, ls=":", label=f"cosine {enough:g}")
            ax.set(xscale="log", yscale="log")
            ax.set_title(f"{title}\n{each['image'].nunique()} images", fontsize=6.5)
            ax.tick_params(labelsize=6.5)
        axes[0, 0].set_ylabel("1 - cosine with the reference", fontsize=7)
        axes[0, len(rows) // 2].set_xlabel("orderings", fontsize=7)
        handles = dict(pair[::-1] for ax in axes[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True))
        fig.legend(handles.values(), handles, loc="outside lower center", ncols=4, fontsize=7)
    return fig


def bias_figure(runs: Sequence[Mapping], metrics: Mapping[str, str], width: float = 7.16) -> Figure:
    """FD-CAM over its bias b: a panel per metric (its key in the rows: its title), a line per network.

    Beside the fixed b stand the two that follow the image, and Grad-CAM; ``runs`` are those of ``24_fd_bias``.
    """
    names = list(dict.fromkeys(r["method"] for r in runs[0]["rows"]))
    fixed = [n for n in names if n.startswith("b=") and n[2:].replace(".", "").isdigit()]
    ends = [n.replace("b=", "b follows:\n") if n.startswith("b=") else method_name(n) for n in names if n not in fixed]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(metrics), figsize=(width, 3.0), squeeze=False)
        for ax, (metric, title) in zip(axes[0], metrics.items(), strict=True):
            for i, run in enumerate(runs):
                found = {r["method"]: r for r in run["rows"] if r["metric"] == metric}
                x = np.arange(len(names)) + 0.06 * (i - (len(runs) - 1) / 2)
                mean, low, high = (
                    np.array([found[n][k] if n in found else np.nan for n in names], dtype=float)
                    for k in ("mean", "low", "high")
                )
                drawn = {"color": _colour(i), "ms": 3, "lw": 0.9, "capsize": 1.5}
                reach = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
                for part, style in ((slice(0, len(fixed)), "-"), (slice(len(fixed), None), "")):
                    ax.errorbar(x[part], mean[part], reach[:, part], fmt=_MARKS[i] + style, **drawn)
            ax.set_xticks(range(len(names)), [n[2:] for n in fixed] + ends, fontsize=6, rotation=90)
            ax.axvline(len(fixed) - 0.5, color="0.8", lw=0.6)
            ax.set_xlabel("bias b", fontsize=7)
            ax.set_title(title, fontsize=7)
            ax.tick_params(axis="y", labelsize=7)
        _legend(fig, runs)
    return fig


def classes_figure(runs: Sequence[Mapping], width: float = 7.16) -> Figure:
    """The pointing game's accuracy by class and method, a panel per run (``extra["per_class"]``)."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(runs), figsize=(width, 5.2), sharey=True, squeeze=False)
        for ax, run in zip(axes[0], runs, strict=True):
            extra = run["extra"]
            methods, names = list(extra["per_class"]), extra["class_names"]
            values = np.array([extra["per_class"][m] for m in methods], dtype=float).T
            drawn = ax.imshow(values, vmin=0, vmax=100, aspect="auto", cmap="cividis")
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    colour = "white" if value < 55 else "black"
                    ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=5.5, color=colour)
            counts = extra["pairs_per_class"][methods[0]]
            ax.set_yticks(range(len(names)), [f"{name} ({n})" for name, n in zip(names, counts, strict=True)])
            ax.set_xticks(range(len(methods)), [method_name(m) for m in methods], rotation=60, ha="right",
                          rotation_mode="anchor")  # fmt: skip
            ax.set_title(f"{networks.name(run['model'])},\n{networks.data(run['data'])}", fontsize=7)
            ax.tick_params(labelsize=6.5)
            ax.spines[:].set_visible(False)
        fig.colorbar(drawn, ax=axes[0], label="pointing game accuracy of the class (%)", fraction=0.03)
    return fig


def _marks(ax: Axes, rows: Sequence[tuple[int, Mapping]], i: int, count: int) -> None:
    """The marks of run ``i`` of ``count``, each a little below that of the run before it."""
    y = np.array([j + 0.7 * ((i + 0.5) / count - 0.5) for j, _ in rows])
    mean, low, high = (np.array([r[k] for _, r in rows], dtype=float) for k in ("mean", "low", "high"))
    reach = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
    ax.errorbar(mean, y, xerr=reach, fmt=_MARKS[i], ms=3.5, lw=1, capsize=1.5, ls="none", color=_colour(i))


def _colour(i: int) -> str:
    return "black" if i == 0 else (*PALETTE[:1], *PALETTE[2:6])[(i - 1) % 5]


def _names(axes: Sequence[Axes], methods: Sequence[str] | Mapping[str, str]) -> None:
    named = methods.values() if isinstance(methods, Mapping) else [method_name(name) for name in methods]
    axes[0].set_yticks(range(len(methods)), named)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    for ax in axes:
        for j in range(1, len(methods)):
            ax.axhline(j - 0.5, color="0.9", lw=0.6, zorder=0)


def _legend(fig: Figure, runs: Sequence[Mapping], more: Sequence[mpl.lines.Line2D] = ()) -> None:
    marks = [
        mpl.lines.Line2D([], [], marker=_MARKS[i], ms=4, ls="", color=_colour(i),
                         label=f"{networks.name(r['model'])}, {networks.data(r['data'])}, N = {r['provenance']['n']:,}")
        for i, r in enumerate(runs)
    ]  # fmt: skip
    columns = 3 if fig.get_figwidth() > 6.5 else 2
    fig.legend(handles=[*marks, *more], loc="outside lower center", ncols=columns, fontsize=6.5)


def _printed(table: tuple[str, str], data: str, metric: str, method: str, others: Sequence[str]) -> list[tuple]:
    """The paper's own differences, by the place of the other method."""
    rows = published(*table)
    rows = rows[rows["metric"] == metric]
    own = rows[rows["data"] == paper_data(data)]
    rows = own if len(own) else rows[rows["data"] == (rows["data"].iloc[0] if len(rows) else None)]
    value = rows.drop_duplicates("method").set_index("method")["number"]
    return [(j, value[method] - value[n]) for j, n in enumerate(others) if {method, n} <= set(value.index)]

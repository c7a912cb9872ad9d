"""Figures of methods compared on the same images: paired differences, means, and curves less those of one method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.report import colours, networks
from campanion.report.figures import WIDTH, bars, legend_below, name_rows, styled
from campanion.report.layout import difference_rows, method_name
from campanion.report.networks import of_run
from campanion.report.papers import nearest, published
from campanion.results.measures import DIRECTION, TITLES


@styled
def differences_figure(
    runs: Sequence[Mapping],
    metrics: Sequence[str],
    method: str,
    others: Sequence[str],
    printed: tuple[str, str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """``method`` minus each of ``others`` on the same images: a panel per metric, a mark with 95 % interval per run;
    the differences of a ``printed`` table (on the first run's data set, or the table's first) are rings.
    """
    others = [name for name in others if name != method]
    titles = {metric: f"{TITLES[metric]}\n({DIRECTION[metric]} is better)" for metric in metrics}
    fig, axes = _compared(runs, titles, others, partial(difference_rows, method=method), width)
    for ax, metric in zip(axes, metrics, strict=True):
        ax.axvline(0, color="0.5", lw=0.8, zorder=0)
        if printed:
            for j, gap in _printed(printed, runs[0]["data"], metric, method, others):
                ax.plot(gap, j, "o", ms=8, mfc="none", mec=colours.PAPER, mew=0.9, zorder=4)
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes[len(metrics) // 2].set_xlabel(f"{method_name(method)} minus the other method", fontsize=7.5)
    rings = []
    if printed:
        near = nearest(published(*printed), runs[0]["data"])["data"].iloc[0]
        look = {"marker": "o", "ms": 8, "mfc": "none", "mec": colours.PAPER, "ls": ""}
        rings = [mpl.lines.Line2D([], [], **look, label=f"paper, {networks.data(near)}")]
    _legend(fig, runs, metrics, [method, *others], rings)
    return fig


@styled
def means_figure(
    runs: Sequence[Mapping],
    metrics: Mapping[str, str],
    methods: Sequence[str] | Mapping[str, str],
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Means with 95 % intervals: a panel per metric (and its title), a line per method (and its name); ``chance`` is,
    by metric, the value of a method without any idea.
    """
    fig, axes = _compared(runs, metrics, methods, _rows)
    for ax, metric in zip(axes, metrics, strict=True):
        if chance and metric in chance:
            ax.axvline(chance[metric], color="0.5", lw=0.8, ls=":", zorder=0)
    _legend(fig, runs, metrics, methods)
    return fig


@styled
def curves_figure(runs: Sequence[Mapping], reference: str, highlight: str) -> Figure:
    """Mean insertion and deletion curves (``extra["insertion_curve"]``) less those of ``reference``: above 0 the class
    stays likelier. Methods with fewer images are left out."""
    fig, axes = plt.subplots(len(runs), 2, figsize=(WIDTH, 1.9 * len(runs) + 0.6), sharex=True, squeeze=False)
    for line, run in zip(axes, runs, strict=True):
        n = {row["method"]: row["n"] for row in run["rows"]}
        for ax, curve in zip(line, ("insertion_curve", "deletion_curve"), strict=True):
            means = run["extra"][curve]
            for name, look in colours.lines(means).items():
                if name == reference or n[name] < n[reference]:
                    continue
                look |= {"lw": 1.8, "zorder": 3} if name == highlight else {"lw": 0.9}
                values = np.subtract(means[name], means[reference])
                ax.plot(np.linspace(0, 100, len(values)), values, label=method_name(name), **look)
            ax.axhline(0, color="0.5", lw=0.8, zorder=0)
            ax.set_title(f"{curve.split('_')[0]}: {of_run(run, ', ')}, N = {run['provenance']['n']}", fontsize=7)
            ax.tick_params(labelsize=7)
        line[0].set_ylabel(f"probability,\nminus {method_name(reference)}'s", fontsize=7)
    for ax in axes[-1]:
        ax.set_xlabel("per cent of the pixels", fontsize=7)
    legend_below(fig, ncols=4, fontsize=7)
    return fig


@styled
def bias_figure(runs: Sequence[Mapping], metrics: Mapping[str, str]) -> Figure:
    """FD-CAM over its bias b (``24_fd_bias``): a panel per metric (and its title), a line per network; beside the fixed
    b stand the two that follow the image, and Grad-CAM."""
    names = list(dict.fromkeys(r["method"] for r in runs[0]["rows"]))
    fixed = [n for n in names if n.startswith("b=") and n[2:].replace(".", "").isdigit()]
    ends = [n.replace("b=", "b follows:\n") if n.startswith("b=") else method_name(n) for n in names if n not in fixed]
    fig, axes = plt.subplots(1, len(metrics), figsize=(WIDTH, 3.0), squeeze=False)
    for ax, (metric, title) in zip(axes[0], metrics.items(), strict=True):
        for i, run in enumerate(runs):
            rows = pd.DataFrame(_rows(run, metric), index=["mean", "low", "high"]).reindex(columns=names).astype(float)
            mean, reach = rows.loc["mean"].to_numpy(), bars(*rows.to_numpy())
            x = np.arange(len(names)) + 0.06 * (i - (len(runs) - 1) / 2)
            look = colours.network(run["model"], run["data"]) | {"ms": 3, "lw": 0.9, "capsize": 1.5}
            for part, style in ((slice(0, len(fixed)), "-"), (slice(len(fixed), None), "")):
                ax.errorbar(x[part], mean[part], reach[:, part], ls=style, **look)
        ax.set_xticks(range(len(names)), [n[2:] for n in fixed] + ends, fontsize=6, rotation=90)
        ax.axvline(len(fixed) - 0.5, color="0.8", lw=0.6)
        ax.set_xlabel("bias b", fontsize=7)
        ax.set_title(title, fontsize=7)
        ax.tick_params(axis="y", labelsize=7)
    _legend(fig, runs, metrics, names)
    return fig


def _compared(
    runs: Sequence[Mapping], titles: Mapping[str, str], methods: Sequence[str] | Mapping[str, str],
    rows_of: Callable[[Mapping, str], Mapping[str, Mapping]], width: float = WIDTH,
) -> tuple[Figure, Sequence[Axes]]:  # fmt: skip
    """A panel per metric (and its title), a line per method, a mark with 95 % interval per run, from its rows."""
    size = (width, 0.9 + max(0.16 * len(runs), 0.2) * len(methods))
    fig, axes = plt.subplots(1, len(titles), figsize=size, sharey=True, squeeze=False)
    name_rows(axes[0, 0], [*(methods.values() if isinstance(methods, Mapping) else map(method_name, methods))])
    for ax, (metric, title) in zip(axes[0], titles.items(), strict=True):
        for i, run in enumerate(runs):
            rows, place = rows_of(run, metric), 0.7 * ((i + 0.5) / len(runs) - 0.5)
            shown = [(j + place, rows[name]) for j, name in enumerate(methods) if name in rows]
            mean, low, high = ([row[key] for _, row in shown] for key in ("mean", "low", "high"))
            look = colours.network(run["model"], run["data"]) | {"ms": 3.5, "lw": 1, "capsize": 1.5, "ls": "none"}
            ax.errorbar(mean, [y for y, _ in shown], xerr=bars(mean, low, high), **look)
        for j in range(1, len(methods)):
            ax.axhline(j - 0.5, color="0.9", lw=0.6, zorder=0)
        ax.set_title(title, fontsize=7)
        ax.tick_params(labelsize=7)
    return fig, axes[0]


def _rows(run: Mapping, metric: str) -> dict[str, Mapping]:
    """The rows of one metric, by method."""
    return {row["method"]: row for row in run["rows"] if row["metric"] == metric}


def _legend(fig: Figure, runs: Sequence[Mapping], metrics: Collection, of: Collection, rings: Sequence = ()) -> None:
    """A mark for each run, with the fewest and the most images that these metrics ``of`` these methods have."""
    marks = []
    for run in runs:
        shown = {r["n"] for r in run.get("rows", ()) if r["metric"] in metrics and r["method"] in of} - {0}
        n = " to ".join(dict.fromkeys(f"{end(shown):,}" for end in (min, max) if shown))
        look = colours.network(run["model"], run["data"]) | {"ms": 4, "ls": ""}
        marks.append(mpl.lines.Line2D([], [], label=f"{of_run(run, ', ')}, N = {n or run['provenance']['n']}", **look))
    inches = 0.4 + 0.045 * max(len(mark.get_label()) for mark in (*marks, *rings))  # of the widest entry, about
    columns = max(1, min(3, int(fig.get_figwidth() / inches)))
    fig.legend(handles=[*marks, *rings], loc="outside lower center", ncols=columns, fontsize=6.5)


def _printed(table: tuple[str, str], data: str, metric: str, method: str, others: Sequence[str]) -> list[tuple]:
    """The paper's own differences, by the place of the other method."""
    rows = published(*table)
    rows = nearest(rows[rows["metric"] == metric], data)
    value = rows.drop_duplicates("method").set_index("method")["number"]
    return [(j, value[method] - value[n]) for j, n in enumerate(others) if {method, n} <= set(value.index)]

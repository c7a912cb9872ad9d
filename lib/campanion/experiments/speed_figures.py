"""Pictures of what :mod:`campanion.experiments.speed` tabulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from campanion.report.figures import PALETTE, STYLE
from campanion.report.tables import label

_MARKS = {"grad-cam": "o", "torchcam": "s", "captum": "^", "authors": "D"}
_TITLES = {"channels": "channels", "orderings": "orderings", "images": "pictures in a batch", "size": "side in pixels"}


def ratio_figure(ratios: pd.DataFrame, width: float = 7.16) -> Figure:
    """Other libraries' time over ours, one axes per network and batch measured; right of the line ours is less.

    A hollow mark is a call that was made once. Bars run from their fastest over our slowest to the reverse.
    """
    cells = list(ratios.groupby(["network", "batch"], sort=False))
    methods = list(dict.fromkeys(ratios.method))
    across = min(3, len(cells))
    down = -(-len(cells) // across)
    with mpl.rc_context(STYLE):
        size = (width, down * (0.15 * len(methods) + 0.45) + 0.5)
        fig, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharex=True, sharey=True)
        for ax, ((network, batch), part) in zip(axes.flat, cells, strict=False):
            _ratio_axes(ax, part, methods)
            ax.set_title(f"{network}, batch {batch}", fontsize=8)
            ax.xaxis.set_tick_params(labelbottom=True)
        for ax in axes.flat[len(cells) :]:
            ax.set_visible(False)
        handles = [
            plt.Line2D([], [], marker=mark, ls="", color=PALETTE[k], label=name)
            for k, (name, mark) in enumerate(_MARKS.items())
            if name in set(ratios.library)
        ]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        fig.supxlabel("their time / ours", fontsize=8)
    return fig


def machines_figure(table: pd.DataFrame, first: str, width: float = 3.5) -> Figure:
    """Every comparison's ratio on one machine and on the others: on the diagonal it is the same on both.

    Args:
        table: of :func:`campanion.experiments.speed.machines_table`.
        first: name of the machine whose ratios are ``table.ratio``.
        width: in inches.
    """
    machines = list(dict.fromkeys(table.machine))
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(machines), figsize=(width * len(machines), width), squeeze=False)
        for ax, machine in zip(axes[0], machines, strict=True):
            part = table[table.machine == machine]
            ends = [0.7 * part[["ratio", "there"]].min().min(), 1.4 * part[["ratio", "there"]].max().max()]
            ax.plot(ends, ends, color="0.6", lw=0.7, ls="-")
            ax.axhline(1, color="black", lw=0.7, ls=":")
            ax.axvline(1, color="black", lw=0.7, ls=":")
            for colour, (library, mark) in zip(PALETTE, {**_MARKS, "quantus": "v"}.items(), strict=False):
                some = part[part.library == library]
                if len(some):
                    ax.plot(some.ratio, some.there, mark, ms=3.5, color=colour, ls="", label=library)
            ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=first, ylabel=machine)
            ax.set_title("their time / ours", fontsize=8)
            ax.legend(fontsize=7)
    return fig


def _ratio_axes(ax: Axes, part: pd.DataFrame, methods: Sequence[str]) -> None:
    for k, (library, mark) in enumerate(_MARKS.items()):
        rows = part[part.library == library]
        y = np.array([methods.index(m) for m in rows.method]) + 0.18 * (k - 1.5)
        bars = np.stack([rows.ratio - rows.low, rows.high - rows.ratio])
        ax.errorbar(rows.ratio, y, xerr=bars.clip(0), fmt="none", ecolor=PALETTE[k], lw=0.7)
        for once, fill in ((True, "white"), (False, PALETTE[k])):
            some = (rows.once == once).to_numpy()
            ax.plot(rows.ratio[some], y[some], mark, ms=3.5, color=PALETTE[k], mfc=fill)
    ax.axvline(1, color="black", lw=0.7)
    ax.set(xscale="log", yticks=range(len(methods)), ylim=(len(methods) - 0.5, -0.5))
    ax.set_yticklabels([label(m) for m in methods], fontsize=7)
    ax.grid(axis="x", lw=0.3)


def _line(name: str) -> str:
    """``"fd_cam, the authors' loop"`` with the method as it is printed."""
    method, comma, rest = name.partition(",")
    return {"forward": "forward pass"}.get(method, label(method)) + comma + rest


def growth_figure(growth: Mapping[str, Mapping], clock: str = "cpu", width: float = 7.16) -> Figure:
    """Time by channels, orderings, pictures and their size, both axes logarithmic."""
    names = list(dict.fromkeys(line for entry in growth.values() for line in entry["lines"]))
    styles = {n: {"color": PALETTE[i % len(PALETTE)], "marker": "osD^vPX*"[i % 8]} for i, n in enumerate(names)}
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(2, 2, figsize=(width, 4.6))
        for ax, (name, entry) in zip(axes.flat, growth.items(), strict=False):
            axis = name.partition("/")[2]
            for method, line in entry["lines"].items():
                milliseconds = 1e3 * np.array(line[clock])
                ax.plot(line["x"], milliseconds, ms=3, lw=0.9, ls="-", label=_line(method), **styles[method])
            ax.set(xscale="log", yscale="log", xlabel=_TITLES[axis], ylabel="milliseconds")
            ax.set_title(entry["network"], fontsize=7)
            ax.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
            ax.set_xticks(line["x"])
            ax.tick_params(axis="x", which="minor", labelbottom=False)
            ax.grid(lw=0.3)
        for ax in axes.flat[len(growth) :]:
            ax.remove()
        found = {text: handle for ax in axes.flat for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        fig.legend(found.values(), found.keys(), loc="outside lower center", ncols=4)
    return fig


def tradeoff_figure(points: pd.DataFrame, width: float = 7.16) -> Figure:
    """Insertion - deletion against seconds a picture, one axes per network; upper left is better.

    Names stand in a column at the right of each axes, in the order of the points, a line leading to each: they cannot
    overlap. Bars are 95 % intervals over the images.

    Args:
        points: columns network, method, seconds, overall, low, high (:func:`campanion.experiments.speed.tradeoff`).
    """
    groups = list(points.groupby("network", sort=False))
    with mpl.rc_context(STYLE):
        tallest = max(len(rows) for _, rows in groups)
        fig, axes = plt.subplots(1, len(groups), figsize=(width, 0.22 * tallest + 1.3), squeeze=False)
        for ax, (network, rows) in zip(axes[0], groups, strict=True):
            rows = rows.sort_values("overall")
            reach = np.stack([rows.overall - rows.low, rows.high - rows.overall])
            ax.errorbar(rows.seconds, rows.overall, yerr=reach, fmt="o", ms=4, lw=0.7, color=PALETTE[0])
            ax.set_xscale("log")
            ticks = np.geomspace(rows.seconds.min(), rows.seconds.max(), 4)  # a narrow range may hold no power of ten
            ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            ax.set_xticks([], minor=True)
            places = np.linspace(0.03, 0.97, len(rows))
            for place, row in zip(places, rows.itertuples(), strict=True):
                ax.annotate(
                    label(row.method), (row.seconds, row.overall), (1.06, place), textcoords="axes fraction",
                    va="center", fontsize=7, annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6", "relpos": (0, 0.5)},
                )  # fmt: skip
            ax.set(xlabel="seconds a picture, from picture to map", ylabel="insertion - deletion")
            ax.set_title(network, fontsize=8)
            ax.grid(lw=0.3)
    return fig

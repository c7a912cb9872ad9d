"""The papers' figures of one image's maps: channels and their groups, curves beside maps, FD-CAM's pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from campanion.cams.methods import label
from campanion.report.figures import MAP, PALETTE, SIGNED, STYLE, bare, heatmap, rgb
from campanion.report.networks import where

PAPERS = "jet"  # the palette of the papers' own maps
CURVES = ("insertion_curve", "deletion_curve")


def draw_boxes(fig: Figure, line: int, columns: int, boxes: Sequence[Sequence[float]], colour: str = "white") -> None:
    """Boxes (x0, y0, x1, y1 in pixels of the image) on all axes of a line of :func:`campanion.report.figures.panel`."""
    for ax in fig.axes[line * columns : (line + 1) * columns]:
        for x0, y0, x1, y1 in boxes:
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=1.0))


def image_grid(
    rows: Sequence[Sequence[tuple[str, object]]], names: Sequence[str] = (), title: str = "", cmap: str = MAP
) -> Figure:
    """Titled images in rows: FD-CAM's Fig. 3, LIFT-CAM's Fig. 1 and 2, LFI-CAM's equations.

    Args:
        rows: of a title and what stands below it: an image (RGB); a text; a map [h, w], in colours from 0 to its
            largest value (from minus to plus that, where one of the row has negative values); or an image and a map
            over it.
        names: of the rows, at their left.
        cmap: of rows without negative values.

    >>> image_grid([[("image", image), ("channel 7", activations[7]), ("on the image", (image, map))]])
    """
    columns = max(map(len, rows))
    first = next(shown for _, shown in rows[0] if not isinstance(shown, str))
    height, length = rgb(first[0] if isinstance(first, tuple) else first).shape[:2]
    tall = (7.16 - 0.8 * bool(names)) / columns * height / length + 0.25
    with mpl.rc_context(STYLE):
        size = (7.16, len(rows) * tall + 0.3 * bool(title))
        fig, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
        for ax in axes.flat:
            bare(ax)
        for i, (line, row) in enumerate(zip(axes, rows, strict=True)):
            signed = any(getattr(v, "ndim", 3) == 2 and v.min() < 0 for _, v in row)
            for ax, (head, shown) in zip(line, row, strict=False):
                ax.set_title(head, fontsize=7, pad=2)
                if isinstance(shown, str):
                    ax.text(0, 0.5, shown, va="center", fontsize=7)
                elif isinstance(shown, tuple):
                    heatmap(ax, *shown, cmap=cmap, contour=False)
                elif getattr(shown, "ndim", 3) == 2:
                    reach = float(abs(shown).max())
                    ax.imshow(shown, cmap=SIGNED if signed else cmap, vmin=-reach if signed else 0, vmax=reach or 1)
                else:
                    ax.imshow(rgb(shown))
            if names:
                line[0].set_ylabel(names[i], fontsize=7, rotation=0, ha="right", va="center")
        fig.suptitle(title, fontsize=8)
    return fig


def curve_panel(
    rows: pd.DataFrame,
    images: Mapping[str, object],
    maps: Mapping[str, Sequence[object]],
    captions: Sequence[str],
    shown: Sequence[str] = ("grad_cam", "fd_cam"),
    title: str = "",
    width: float = 7.16,
) -> Figure:
    """FD-CAM's Fig. 5: a line for each image: the image, maps of two methods, insertion and deletion of all methods.

    Args:
        rows: image, target, method, insertion, deletion and the two curves; see :mod:`campanion.experiments.gallery`.
        images: RGB, by the names in ``rows``.
        maps: by method, [B, H, W] in the order of the places (image and target) in ``rows``.
        captions: of the places.
    """
    places = list(rows.drop_duplicates(["image", "target"]).itertuples())
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(
            len(places), 3 + len(shown), figsize=(width, 1.45 * len(places) + 0.75),
            width_ratios=(*[1] * (1 + len(shown)), 1.5, 1.5), squeeze=False,
        )  # fmt: skip
        for i, (line, place) in enumerate(zip(axes, places, strict=True)):
            part = rows[(rows["image"] == place.image) & (rows["target"] == place.target)].set_index("method")
            line[0].imshow(rgb(images[place.image]))
            line[0].set_title(captions[i], fontsize=7)
            bare(line[0])
            for ax, method in zip(line[1:], shown, strict=False):
                heatmap(ax, images[place.image], maps[method][i], cmap=PAPERS)
                found = part.loc[method]
                ax.set_title(f"{label(method)}\nin {found.insertion:.2f}, out {found.deletion:.2f}", fontsize=7)
            for ax, curve in zip(line[-2:], CURVES, strict=True):
                for method in part.index:
                    drawn = {"color": "black", "lw": 1.8, "ls": "-"} if method == shown[-1] else {"lw": 0.9}
                    values = part.loc[method, curve]
                    ax.plot(np.linspace(0, 100, len(values)), values, label=label(method), **drawn)
                ax.set_title(curve.split("_")[0], fontsize=7)
                ax.tick_params(labelsize=7)
                ax.set_ylim(bottom=0)
        for ax in axes[-1, -2:]:
            ax.set_xlabel("per cent of the pixels", fontsize=7)
        fig.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
        fig.suptitle(title, fontsize=8)
    return fig


def cosines_figure(runs: Sequence[Mapping], width: float = 7.16) -> Figure:
    """How often two channels have which cosine: of all pairs, and of pairs in a group; ``runs`` of notebook 25."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(runs), figsize=(width, 2.2), sharey=True, squeeze=False)
        for ax, run in zip(axes[0], runs, strict=True):
            kinds = zip(run["extra"]["cosines"].values(), ("all pairs", "pairs in a group"), ("-", "--"), strict=True)
            for shares, text, style in kinds:
                ax.stairs(shares, np.linspace(0, 1, len(shares) + 1), label=text, ls=style, lw=1.2)
            ax.set(yscale="log", xlabel="cosine of two channels")
            ax.set_title(where(run["model"], run["data"]), fontsize=8)
        axes[0, 0].set_ylabel("share of the pairs")
        axes[0, 0].legend()
    return fig


def group_sizes_figure(
    runs: Sequence[Mapping], percentiles: Sequence[float], rules: Mapping[str, str], width: float = 7.16
) -> Figure:
    """The median group by the percentile, and the smallest and largest as a band; ``runs`` of notebook 25.

    Args:
        rules: what the percentile is of, and how it is named: ``{"channel": "each channel's own"}``.
    """
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(runs), figsize=(width, 2.6), sharey=True, squeeze=False)
        for ax, run in zip(axes[0], runs, strict=True):
            rows = {(r["method"], r["metric"]): r["mean"] for r in run["rows"]}
            for i, (rule, text) in enumerate(rules.items()):
                names = [f"fd_cam:percentile={theta:g},percentile_of={rule}" for theta in percentiles]
                low, middle, high = ([rows[n, f"size_{m}"] for n in names] for m in ("min", "median", "max"))
                ax.plot(percentiles, middle, "os"[i] + "-", ms=3, color=PALETTE[i], label=text)
                ax.fill_between(percentiles, low, high, color=PALETTE[i], alpha=0.2, lw=0)
            ax.set(xscale="log", yscale="symlog", xlabel="θ (per cent)")
            ax.set_xticks(percentiles, [f"{theta:g}" for theta in percentiles])
            ax.set_title(where(run["model"], run["data"]), fontsize=8)
            ax.minorticks_off()
        axes[0, 0].set_ylabel("channels in a group")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def pipeline_figure(
    image: object,
    channels: Sequence[tuple[int, object, object, Mapping[str, float]]],
    map: object,
    caption: str,
    width: float = 7.16,
) -> Figure:
    """FD-CAM's Fig. 2, from left to right: image, channels, their groups, the numbers of each, the weighted sum.

    Args:
        image: RGB.
        channels: number, map, sum of the maps of its group, and its numbers by their names (a, off, on, s, w).
        map: [H, W] of the class.
        caption: under the last map, such as the class.
    """
    with mpl.rc_context(STYLE):
        fig = plt.figure(figsize=(width, 0.95 * len(channels) + 0.45))
        grid = fig.add_gridspec(len(channels), 5, width_ratios=(1.5, 1, 1, 1.7, 1.5))
        first, last = (fig.add_subplot(grid[:, j]) for j in (0, 4))
        first.imshow(rgb(image))
        bare(first)
        first.set_title("image", fontsize=8)
        heatmap(last, image, map, cmap=PAPERS)
        last.set_title("ReLU of the sum of\nw times the channels", fontsize=8)
        last.set_xlabel(caption, fontsize=8)
        reach = 1.05 * max(abs(v) for *_, numbers in channels for v in numbers.values())
        for i, (k, own, group, numbers) in enumerate(channels):
            for j, shown in ((1, own), (2, group)):
                ax = fig.add_subplot(grid[i, j])
                ax.imshow(shown, cmap=PAPERS)
                bare(ax)
                if j == 1:
                    ax.set_ylabel(f"$A_{{{k}}}$", fontsize=8)
                if i == 0:
                    ax.set_title("channel" if j == 1 else "its group\n(sum)", fontsize=8)
            _numbers(fig.add_subplot(grid[i, 3]), numbers, reach)
        fig.axes[4].set_title("gradient a, scores off and on,\nswitching s, weight w", fontsize=8)
    return fig


def _numbers(ax: Axes, numbers: Mapping[str, float], reach: float) -> None:
    colours = [PALETTE[0] if name == "a" else "black" if name == "w" else PALETTE[1] for name in numbers]
    ax.barh(list(numbers), list(numbers.values()), color=colours, height=0.7)
    for j, value in enumerate(numbers.values()):
        ax.text(max(value, 0) + 0.02 * reach, j, f"{value:.2f}", fontsize=6, va="center")
    ax.axvline(0, color="black", lw=0.6)
    ax.set(xlim=(-0.6 * reach, 1.25 * reach), xticks=[])
    ax.tick_params(labelsize=6.5, length=0)
    ax.invert_yaxis()

"""The papers' figures of methods: images and maps in rows, curves beside maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from campanion.cams.methods import label
from campanion.report import colours
from campanion.report.figures import MAP, SIGNED, WIDTH, bare, heatmap, legend_below, rgb, styled

PAPERS = "jet"  # the palette of the papers' own maps


def draw_boxes(fig: Figure, line: int, columns: int, boxes: Sequence[Sequence[float]]) -> None:
    """Boxes (x0, y0, x1, y1 in pixels of the image) on all axes of a line of :func:`campanion.report.figures.panel`."""
    for ax in fig.axes[line * columns : (line + 1) * columns]:
        for x0, y0, x1, y1 in boxes:
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="white", lw=1.0))


@styled
def image_grid(
    rows: Sequence[Sequence[tuple[str, object]]], names: Sequence[str] = (), title: str = "", cmap: str = MAP
) -> Figure:
    """Titled images in rows: FD-CAM's Fig. 3, LIFT-CAM's Fig. 1 and 2, LFI-CAM's equations.

    Below a title stands an image (RGB); a text; a map [h, w], in colours from 0 to its largest value (from minus to
    plus that, where one of the row has negative values); or an image and a map over it. ``names`` are the rows'.
    """
    columns = max(map(len, rows))
    first = next(shown for _, shown in rows[0] if not isinstance(shown, str))
    height, length = rgb(first[0] if isinstance(first, tuple) else first).shape[:2]
    line_height = (WIDTH - 0.8 * bool(names)) / columns * height / length + 0.25
    size = (WIDTH, len(rows) * line_height + 0.3 * bool(title))
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


@styled
def curve_panel(
    rows: pd.DataFrame,
    images: Mapping[str, object],
    maps: Mapping[str, Sequence[object]],
    captions: Sequence[str],
    title: str = "",
) -> Figure:
    """FD-CAM's Fig. 5: a line for each image: the image, maps of two methods, insertion and deletion of all methods.

    ``rows`` are those of :mod:`campanion.experiments.gallery`; ``maps`` by method, [B, H, W], and ``captions`` follow
    the order of their images and targets.
    """
    places = list(rows.drop_duplicates(["image", "target"]).itertuples())
    size, ratios = (WIDTH, 1.45 * len(places) + 0.75), (1, 1, 1, 1.5, 1.5)
    fig, axes = plt.subplots(len(places), 5, figsize=size, width_ratios=ratios, squeeze=False)
    for i, (line, place) in enumerate(zip(axes, places, strict=True)):
        part = rows[(rows["image"] == place.image) & (rows["target"] == place.target)].set_index("method")
        line[0].imshow(rgb(images[place.image]))
        line[0].set_title(captions[i], fontsize=7)
        bare(line[0])
        for ax, method in zip(line[1:3], ("grad_cam", "fd_cam"), strict=True):
            heatmap(ax, images[place.image], maps[method][i], cmap=PAPERS)
            row = part.loc[method]
            ax.set_title(f"{label(method)}\nin {row.insertion:.2f}, out {row.deletion:.2f}", fontsize=7)
        for ax, curve in zip(line[3:], ("insertion_curve", "deletion_curve"), strict=True):
            for method, look in colours.lines(part.index).items():
                look["lw"] = 1.8 if method == "fd_cam" else 0.9
                values = part.loc[method, curve]
                ax.plot(np.linspace(0, 100, len(values)), values, label=label(method), **look)
            ax.set_title(curve.split("_")[0], fontsize=7)
            ax.tick_params(labelsize=7)
            ax.set_ylim(bottom=0)
        line[3].set_ylabel("probability", fontsize=7)
    for ax in axes[-1, -2:]:
        ax.set_xlabel("per cent of the pixels", fontsize=7)
    legend_below(fig, ncols=4, fontsize=7)
    fig.suptitle(title, fontsize=8)
    return fig

"""One style for every figure, and files whose bytes do not change from run to run."""

from __future__ import annotations

import logging
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from campanion import paths
from campanion.cams.methods import label

# Files that are the same on every run have no dates, and fontTools would remark on that for every embedded font.
logging.getLogger("fontTools").setLevel(logging.ERROR)

# Wong's palette (Nature Methods 8, 441, 2011), told apart with every colour-vision deficiency; lines: grey for black
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
WIDTH = 7.16  # inches of a page
MAP = "viridis"
SIGNED = "PuOr_r"  # of what may be negative; white is 0
PAPERS = "jet"  # of the papers' own maps

STYLE = {
    "axes.prop_cycle": cycler(color=[*PALETTE[:6], "0.5", PALETTE[7]]) + cycler(linestyle=["-", "--", "-.", ":"] * 2),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "image.cmap": MAP,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.dpi": 220,
    "svg.hashsalt": "campanion",
}
styled = mpl.rc_context(STYLE)  # decorator of a function that draws


def use_style() -> None:
    """Set this module's style for all figures that follow (a notebook's first cell)."""
    from IPython import get_ipython  # for notebooks only, as this function: a command line need not wait for it
    from matplotlib_inline.config import InlineBackend

    mpl.rcParams.update(STYLE)
    # seaborn's grids lay themselves out, and Matplotlib warns that they do.
    warnings.filterwarnings("ignore", message="The figure layout has changed to tight")
    if (kernel := get_ipython()) is not None:
        # Constrained layout fits the figure already; cutting it to what is drawn would draw it once more to find that.
        InlineBackend.instance(parent=kernel).print_figure_kwargs = {"bbox_inches": None}


def save(fig: Figure, name: str, dpi: int = 220) -> tuple[Path, Path]:
    """Write ``figures/<name>.pdf`` and ``.png``, the same bytes for the same figure, fonts embedded; their paths.

    Nothing may be added afterwards: the axes are laid out once, here, for both files and for the notebook.
    Quick runs and tests (``CAMPANION_DRAFT``) write the PNG alone, at the screen's resolution.
    """
    (folder := paths.figures_dir()).mkdir(parents=True, exist_ok=True)
    pdf, png = folder / f"{name}.pdf", folder / f"{name}.png"
    draft = bool(os.environ.get("CAMPANION_DRAFT"))
    if (layout := fig.get_layout_engine()) is not None:
        layout.execute(fig)
    rules = {"figure.autolayout": False, "figure.constrained_layout.use": False, "pdf.fonttype": 42}
    with mpl.rc_context({**rules, "savefig.dpi": min(dpi, 110) if draft else dpi}):
        # None, not "none": with any engine each file, and the notebook's image, would be drawn twice.
        fig.set_layout_engine(None)
        if not draft:
            fig.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None})
        fig.savefig(png, metadata={"Software": None})
    return pdf, png


def rgb(image: object) -> np.ndarray:
    """``[H, W, 3]`` floats in 0..1 from a PIL image, a ``[3, H, W]`` or ``[H, W, 3]`` array or tensor."""
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[-1]):
        raise ValueError(f"An image is [3, H, W], [H, W, 3] or [H, W]; got {list(array.shape)}.")
    array = array if array.shape[-1] == 3 else array.transpose(1, 2, 0)
    return array / 255 if array.dtype == np.uint8 else np.clip(array.astype(float), 0, 1)


def heatmap(
    ax: Axes, image: object | None, map: object, alpha: float = 0.75, cmap: str = MAP, contour: bool = True
) -> mpl.image.AxesImage:
    """Draw a map ``[H, W]`` (values in 0..1) over an image (what :func:`rgb` takes), or alone; returns the drawn map.

    The opacity grows with the map, from a third of ``alpha`` at 0 to ``alpha`` at 1, so that what a map leaves out can
    still be seen. A white line (``contour``) stands where the map is half of its highest possible value.
    """
    values = np.asarray(map.detach().cpu() if hasattr(map, "detach") else map, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"A map is [H, W]; got {list(values.shape)}.")
    height, length = values.shape
    opacity: object = 1
    if image is not None:
        shown = rgb(image)
        height, length = shown.shape[:2]
        ax.imshow(shown)
        opacity = alpha * (1 + 2 * np.clip(values, 0, 1)) / 3
    extent = (-0.5, length - 0.5, height - 0.5, -0.5)  # the map is stretched over the image, whatever its own size
    overlay = ax.imshow(values, cmap=cmap, vmin=0, vmax=1, alpha=opacity, extent=extent, interpolation="bilinear")
    if contour and image is not None and alpha and values.min() < 0.5 < values.max() and min(values.shape) > 1:
        # contour counts rows from the lower edge of its extent, images from the upper one
        ax.contour(values, [0.5], colors="white", linewidths=0.8, extent=extent, origin="upper")
        ax.set(xlim=extent[:2], ylim=extent[2:])
    bare(ax)
    return overlay


@styled
def panel(
    images: Sequence[object],
    maps: Mapping[str, Sequence[object]],
    rows: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
    width: float = WIDTH,
    cmap: str = MAP,
    title: str = "",
) -> Figure:
    """A gallery: one row per image, first the image, then one column per method.

    Args:
        images: B images; each row has its image's proportions.
        maps: by method, ``[B, H, W]`` each; ValueError where one has another number of maps than there are images.
        rows: B names beside the images, such as the class that is explained.
        titles: heads of the columns, by method, where they are not to be the methods' printed names.

    >>> panel(images, e.maps, rows=["dog", "cat"])
    """
    for name, of_method in maps.items():
        if len(of_method) != len(images):
            raise ValueError(f"{name} has {len(of_method)} maps for {len(images)} images.")
    gap, names = 0.04, 0.78 if rows else 0.0
    side = (width - names) / (1 + len(maps)) - gap
    size = min(8.0, 72 * side / 7)  # the longest word of a head must fit its column
    heads = [""] + [_wrapped((titles or {}).get(name, label(name)), 9) for name in maps]
    shown = [rgb(image) for image in images]
    heights = [side * min(1.5, max(0.4, image.shape[0] / image.shape[1])) for image in shown]
    y = 0.2 * bool(title) + (max(head.count("\n") for head in heads) + 1) * size / 60 + 0.05
    height = y + sum(heights) + gap * len(heights)
    # Places are given in inches: finding them would take longer than drawing, and leave gaps between the columns.
    fig = plt.figure(figsize=(width, height), layout=PlaceHolderLayoutEngine(True, True))
    for i, image in enumerate(shown):
        for j, name in enumerate((None, *maps)):
            left = names + j * (side + gap) + gap / 2
            ax = fig.add_axes((left / width, 1 - (y + heights[i]) / height, side / width, heights[i] / height))
            if name is None:
                ax.imshow(image)
                bare(ax)
                if rows:
                    text, look = _wrapped(rows[i], 12), {"rotation": 0, "ha": "right", "va": "center", "labelpad": 3}
                    ax.set_ylabel(text, fontsize=min(7.5, size), **look)
            else:
                heatmap(ax, image, maps[name][i], cmap=cmap)
            ax.set_aspect("auto")
            if i == 0 and heads[j]:
                ax.set_title(heads[j], fontsize=size, pad=3)
        y += heights[i] + gap
    if title:
        fig.suptitle(title, fontsize=8.5, y=1 - 0.06 / height, va="top")
    return fig


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


def bare(ax: Axes) -> None:
    """Axes without ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def bars(mean: object, low: object, high: object) -> np.ndarray:
    """Lengths [2, N] of error bars, downwards and upwards; 0 where an interval is missing."""
    mean, low, high = (np.asarray(values, dtype=float) for values in (mean, low, high))
    return np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)


def name_rows(ax: Axes, names: Sequence[str], **look: object) -> None:
    """Names on the y axis, the first on top."""
    ax.set_yticks(range(len(names)), names, **look)
    ax.set_ylim(len(names) - 0.5, -0.5)


def legend_below(fig: Figure, **look: object) -> None:
    """One legend below all axes, that names each label once."""
    handles = dict(pair[::-1] for ax in fig.axes for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    fig.legend(handles.values(), handles, loc="outside lower center", **look)


def _wrapped(text: str, length: int) -> str:
    return "\n".join(textwrap.wrap(text, length, break_long_words=False)) or text

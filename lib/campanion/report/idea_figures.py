"""Figures of ideas: a network as boxes, two estimates of the same numbers, the interactions of a game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from campanion.report.figures import MAP, PALETTE, SIGNED, WIDTH, styled


@styled
def network_figure(rows: Sequence[Sequence[str | None]], arrows: str) -> Figure:
    """A network as boxes with arrows (LFI-CAM's Fig. 2): ``rows`` of texts, the upper row first, None where no box is;
    ``arrows`` from box to box, each by column and row, the lowest row is 0: ``"01-11 11-10"``."""
    places = {(x, y): text for y, row in enumerate(reversed(rows)) for x, text in enumerate(row) if text}
    fig, ax = plt.subplots(figsize=(WIDTH, 1.08 * len(rows)))
    ax.set(xlim=(-0.48, max(map(len, rows)) - 0.52), ylim=(-0.45, len(rows) - 0.55))
    ax.axis("off")
    look = {"ha": "center", "va": "center", "fontsize": 6.2}
    boxes = {
        (x, y): ax.text(x, y, text, bbox={"boxstyle": "round,pad=0.6", "fc": PALETTE[1 - y], "alpha": 0.15}, **look)
        for (x, y), text in places.items()
    }
    for arrow in arrows.split():
        a, b = (boxes[int(end[0]), int(end[1])] for end in arrow.split("-"))
        ends = {"patchA": a.get_bbox_patch(), "patchB": b.get_bbox_patch()}
        drawn = {"arrowstyle": "-|>", "lw": 0.8, "color": "0.3", **ends}
        ax.annotate("", b.get_position(), a.get_position(), arrowprops=drawn)
    return fig


@styled
def agreement_figure(
    panels: Mapping[str, Mapping[str, Tensor]], xlabel: str, ylabel: str, columns: int = 2, colours: str = ""
) -> Figure:
    """Dots and the line on which both numbers are equal: a panel per title, with ``x`` and ``y``, and ``error`` of x or
    ``colour`` in 0..1; ``colours`` says what the colour is, for its bar."""
    lines = -(-len(panels) // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(WIDTH, lines * (0.9 + 3.6 / columns)), squeeze=False)
    for ax, (title, dots) in zip(axes.flat, panels.items(), strict=True):
        x, y = dots["x"], dots["y"]
        if "error" in dots:
            ax.errorbar(x, y, xerr=dots["error"], fmt="o", ms=2.5, lw=0.6)
        else:
            drawn = ax.scatter(x, y, c=dots["colour"], s=6, cmap=MAP, vmin=0, vmax=1)
        ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
        ax.plot(ends, ends, color="0.5", lw=0.7, ls="-", zorder=0)
        ax.set_title(title, fontsize=7.5)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    if colours:
        fig.colorbar(drawn, ax=axes, label=colours)
    return fig


@styled
def interactions_figure(pairs: Mapping[str, Tensor], missed: Tensor, title: str) -> Figure:
    """Interactions I_kj [K, K] of all pairs of channels by the network's name, and for the first network whether a
    channel that interacts is one that LIFT-CAM misses (``missed`` [K], ``|LIFT - SHAP|``)."""
    whole = next(iter(pairs.values())).abs()
    strength, reach = whole.sum(1), float(whole.max())
    fig, axes = plt.subplots(1, 1 + len(pairs), figsize=(WIDTH, 2.4))
    for ax, (name, each) in zip(axes, pairs.items(), strict=False):
        drawn = ax.imshow(each, cmap=SIGNED, vmin=-reach, vmax=reach)
        ax.set(xlabel="channel j", ylabel="channel k")
        ax.set_title(f"$I_{{kj}}$: {name}", fontsize=7)
    fig.colorbar(drawn, ax=axes[:-1].tolist(), shrink=0.8)
    dots = axes[-1]
    dots.scatter(strength, missed, s=8)
    for k in missed.argsort(descending=True)[:3].tolist():
        place = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
        dots.annotate(f"channel {k}", (float(strength[k]), float(missed[k])), fontsize=6, **place)
    dots.set(xlabel="$\\sum_j |I_{kj}|$", ylabel="|LIFT - SHAP|")
    dots.set_title(title, fontsize=7)
    return fig

"""Figures of how a method works on one image: LFI-CAM's network and steps; LIFT-CAM's game, its model, its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from campanion.report.figures import MAP, PALETTE, STYLE, bare, heatmap, picture

SIGNED = "PuOr_r"  # of what may be negative; white is 0


def network_figure(rows: Sequence[Sequence[str | None]], arrows: str, width: float = 7.16) -> Figure:
    """A network as boxes with arrows: LFI-CAM's Fig. 2.

    Args:
        rows: texts of the boxes from left to right (None: no box), the upper row first.
        arrows: from which box to which, by column and row, the lowest row is 0: ``"01-11 11-10"``.
    """
    places = {(x, y): text for y, row in enumerate(reversed(rows)) for x, text in enumerate(row) if text}
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(width, 1.08 * len(rows)))
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


def steps_figure(image: object, found: Mapping[str, Tensor], channels: Sequence[int], width: float = 7.16) -> Figure:
    """LFI-CAM's equations 5 to 10: the image, some of its channels, their weights, the map.

    Args:
        image: RGB.
        found: the tensors of :func:`campanion.experiments.architecture.steps`.
        channels: which to show.
    """
    weights, lines = found["w"][0], (("F", "$F_k$"), ("M", "eq. 6: $M_k$"), ("F'", "eq. 10: $F'_k$"))
    with mpl.rc_context(STYLE):
        fig = plt.figure(figsize=(width, 3.5))
        grid = fig.add_gridspec(3, 2 + len(channels), width_ratios=[1] * (1 + len(channels)) + [1.1])
        first = (
            ("image $I$", picture(image)),
            (r"eq. 5: $\tilde{I}$", found["I~"][0, 0]),
            ("eq. 9: $L$", found["L"][0]),
        )
        for row, ((head, own), (key, title)) in enumerate(zip(first, lines, strict=True)):
            shown = [(head, own), *((f"{title}, k = {k}", found[key][0, k]) for k in channels)]
            for column, (text, values) in enumerate(shown):
                ax = fig.add_subplot(grid[row, column])
                ax.imshow(values, cmap="gray" if row == 1 else MAP)
                ax.set_title(text, fontsize=6.5)
                bare(ax)
        bars, names = fig.add_subplot(grid[:, -1]), [f"k = {k}" for k in channels]
        bars.barh(names, weights[list(channels)], color=PALETTE[1])
        bars.axvline(1 / len(weights), color="0.4", lw=0.8, ls=":")
        bars.invert_yaxis()
        bars.set_title("eq. 7, 8: $w_k$", fontsize=7)
        bars.xaxis.set_major_locator(plt.MaxNLocator(2))
        bars.tick_params(labelsize=6)
    return fig


def game_figure(
    image: object, activations: Tensor, present: Tensor, values: Tensor, channels: Sequence[int], title: str
) -> Figure:
    """Coalitions of channels: a line each, with some of its channels and what it is worth.

    Args:
        image: RGB.
        activations: [K, h, w].
        present: bool [M, K].
        values: [M], the worth v(S).
        channels: which to show.
    """
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(
            len(present), 2 + len(channels), figsize=(7.16, 1.1 * len(present)), squeeze=False,
            width_ratios=[1] * (1 + len(channels)) + [1.3],
        )  # fmt: skip
        for row, there, value in zip(axes, present, values, strict=True):
            row[0].imshow(picture(image))
            for ax, k in zip(row[1:], channels, strict=False):
                ax.imshow(activations[k] * there[k], vmin=0, vmax=float(activations[k].max()))
                ax.set_title(f"{k}: {'present' if there[k] else 'absent'}", fontsize=7)
            text = f"... and {len(there) - len(channels)} more\n$|S|$ = {int(there.sum())}\n$v(S)$ = {value:.2f}"
            row[-1].text(0, 0.5, text, va="center", fontsize=7)
            for ax in row:
                bare(ax)
        fig.suptitle(title, fontsize=8)
    return fig


def agreement_figure(
    panels: Mapping[str, Mapping[str, Tensor]], xlabel: str, ylabel: str, columns: int = 2, colours: str = ""
) -> Figure:
    """Dots and the line on which both numbers are equal: a panel per title.

    Args:
        panels: by title ``x`` and ``y``, and ``error`` of x, drawn as a bar, or ``colour`` in 0..1.
        colours: what the colour is, for its bar.
    """
    lines = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(
            lines, columns, figsize=(7.16, (4.8 if columns == 2 else 2.2) * lines / 1.8), squeeze=False
        )
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


def contributions_figure(
    image: object, activations: Tensor, contributions: Tensor, weights: Tensor, channels: Sequence[int], map: Tensor
) -> Figure:
    """LIFT-CAM's Fig. 2: channels, DeepLIFT's contribution of each of their pixels, the weighted sum and the map.

    Args:
        image: RGB.
        activations, contributions: [K, h, w].
        weights: [K], the sums of the contributions.
        channels: which to show.
        map: [H, W] in 0..1.
    """
    total = (weights[:, None, None] * activations).sum(0)
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(2, 2 + len(channels), figsize=(7.16, 2.5))
        for column, k in zip(axes.T, channels, strict=False):
            column[0].imshow(activations[k])
            column[0].set_title(f"$A_{{{k}}}$", fontsize=8)
            _signed(column[1], contributions[k], contributions[list(channels)])
            column[1].set_title(f"$\\alpha_{{{k}}}$ = {weights[k]:+.2f}", fontsize=8)
        (upper, first), (lower, last) = axes[0, -2:], axes[1, -2:]
        _signed(upper, total, total)
        lower.imshow(total.relu())
        first.imshow(picture(image))
        heatmap(last, image, map)
        for ax, text in ((upper, "$\\sum_k \\alpha_k A_k$"), (lower, "ReLU"), (first, "image"), (last, "LIFT-CAM")):
            ax.set_title(text, fontsize=8)
        for ax in axes.flat:
            bare(ax)
        for ax, text in zip(axes[:, 0], ("activation", "contribution"), strict=True):
            ax.set_ylabel(text, fontsize=7)
    return fig


def interactions_figure(pairs: Mapping[str, Tensor], missed: Tensor, title: str) -> Figure:
    """Interactions of all pairs of channels, and whether a channel that interacts is one that LIFT-CAM misses.

    Args:
        pairs: I_kj [K, K] by the network's name; the first belongs to ``missed``.
        missed: [K], |LIFT - SHAP|.
        title: over the dots.
    """
    whole, strength = next(iter(pairs.values())), next(iter(pairs.values())).abs().sum(1)
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 1 + len(pairs), figsize=(7.16, 2.4))
        for ax, (name, each) in zip(axes, pairs.items(), strict=False):
            drawn = _signed(ax, each, whole)
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


def _signed(ax: mpl.axes.Axes, values: Tensor, scale: Tensor) -> mpl.image.AxesImage:
    reach = float(scale.abs().max())
    return ax.imshow(values, cmap=SIGNED, vmin=-reach, vmax=reach)

"""Draw and save what a bench answers: maps side by side, the channels that weigh most, insertion and deletion."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from campanion.cams.methods import label
from campanion.explorer.bench import Answer, Bench
from campanion.pictures import percent
from campanion.report import colours
from campanion.report.figures import MAP, heatmap, styled

COLUMNS = 5
CELL, ROW, CURVE, GAP = 1.8, 0.85, 2.4, 0.3  # inches: width of a map, heights of channels and curves, room for a title
WIDTH = COLUMNS * CELL
PALETTES = (MAP, "cividis", "magma", "jet")  # the papers print jet, which is no perceptual map


@dataclass(frozen=True)
class Look:
    """What is drawn, and how; ValueError for a palette or a number that cannot be.

    Args:
        opacity: 0 shows the image alone, 1 the map alone.
        palette: a colour map of matplotlib's, ``"jet"`` for the papers' look.
        channels: how many for each method that weighs channels; 0 draws none.
        curves: insertion and deletion, which take dozens of forward passes for each method.
        overlay: a PNG of each map over the image at its own size, too, where files are written.
    """

    opacity: float = 0.75
    palette: str = MAP
    channels: int = 5
    curves: bool = False
    overlay: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity lies in 0..1, not {self.opacity}.")
        if self.palette not in mpl.colormaps:
            known = ", ".join(PALETTES)
            raise ValueError(f"There is no palette {self.palette!r}: take one of matplotlib's, such as {known}.")
        if self.channels < 0:
            raise ValueError(f"channels (--channels) is 0 or more, not {self.channels}.")


@styled
def draw(bench: Bench, methods: Sequence[str], target: int | str | None = None, **options: object) -> Figure:
    """The image and a map for each method; then their heaviest channels; then their curves.

    Args:
        target: class; None is the predicted one.
        options: of :class:`Look`.

    Returns:
        A figure that pyplot does not know, so that it goes when its last reader goes.

    Raises:
        ValueError: unknown method or class, or an option out of range.

    >>> draw(bench, ["grad_cam", "fd_cam"], curves=True).savefig("maps.png")
    """
    look = Look(**options)
    target = bench.predicted if target is None else target
    answers = [bench.explain(method, target) for method in methods]
    weighing = [a for a in answers if a.weights is not None] if look.channels else []
    lines = -(-(1 + len(answers)) // COLUMNS)
    across, down = bench.shown.size
    line = GAP + CELL * min(1.4, max(0.5, down / across))
    heights = (lines * line, len(weighing) * ROW + bool(weighing) * GAP, CURVE * (look.curves and bool(answers)))
    # Places are given in inches: finding them (constrained layout) would take longer than all the maps. This engine
    # does nothing; with layout="none" matplotlib would go back to the style's constrained layout after a savefig.
    still = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
    fig = Figure(figsize=(WIDTH, sum(heights)), layout=still)
    _maps(fig, bench, answers, target, line, look)
    if weighing:
        _channels(fig, heights[0], bench, weighing, look)
    if heights[2]:
        _curves(fig, heights[0] + heights[1], bench, answers)
    return fig


def _place(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, ``top`` counted from the figure's upper edge."""
    across, down = fig.get_size_inches()
    return fig.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _maps(fig: Figure, bench: Bench, answers: list[Answer], target: int | str, line: float, look: Look) -> None:
    """The image and its maps, in lines of so many inches."""
    index = 0 if isinstance(target, str) else target  # a sign is asked of the one output that there is
    name = textwrap.shorten(str(bench.model.class_names[index]), 22, placeholder=" ...")
    for i, answer in enumerate([None, *answers]):
        left, top = i % COLUMNS * CELL, i // COLUMNS * line + GAP
        ax = _place(fig, left + 0.05, top, CELL - 0.1, line - GAP)
        if answer is None:
            ax.imshow(bench.shown)
            ax.set_axis_off()
            title = f"{name}, {percent(float(bench.probabilities[index]))}"
        else:
            heatmap(ax, bench.shown, answer.map, look.opacity, look.palette)
            title = label(answer.method) + (" (constant)" if answer.degenerate else "")
        ax.set_title(title, fontsize=8)


def _channels(fig: Figure, top: float, bench: Bench, weighing: list[Answer], look: Look) -> None:
    """A row of channels for each method, in one pair of axes."""
    height = GAP + len(weighing) * ROW
    ax = _place(fig, 0, top, WIDTH, height)
    ax.set_axis_off()
    heading = f"channels of {bench.layer} with the largest weights: number and weight; each in colours of its own range"
    ax.text(0.05, GAP / 2 + 0.05, heading, va="center", fontsize=8)
    activations = bench.game.activations[0].cpu().numpy()
    side, step = ROW - 0.1, (WIDTH - 1.3) / look.channels
    for i, answer in enumerate(weighing):
        y = GAP + i * ROW
        ax.text(0.05, y + side / 2, textwrap.fill(label(answer.method), 16), va="center", fontsize=7)
        for j, (k, weight) in enumerate(answer.channels(look.channels)):
            x = 1.3 + j * step
            ax.imshow(activations[k], cmap=look.palette, extent=(x, x + side, y + side, y), aspect="auto")
            ax.text(x + side + 0.05, y + side / 2, f"{k}\n{weight:.3g}", va="center", fontsize=7)
    ax.set(xlim=(0, WIDTH), ylim=(height, 0))  # images set limits of their own


def _curves(fig: Figure, top: float, bench: Bench, answers: list[Answer]) -> None:
    half, looks = WIDTH / 2, colours.lines(answer.method for answer in answers)
    for left, name, better, change in ((0, "insertion", "higher", "shown"), (half, "deletion", "lower", "removed")):
        ax = _place(fig, left + 0.6, top + 0.35, half - 2.1, CURVE - 0.85)
        for answer in answers:
            result = bench.curves(answer.method, answer.target)
            line, area = getattr(result, f"{name}_curve")[0].cpu().numpy(), float(getattr(result, name)[0])
            text = f"{area:.3f} {label(answer.method)}"
            ax.plot(result.fractions.cpu().numpy(), line, label=text, **looks[answer.method])
        ax.set_title(f"{name}: area, {better} is better", fontsize=8)
        ax.set(xlabel=f"fraction of the pixels {change}", ylabel="probability", xlim=(0, 1), ylim=(0, 1.02))
        ax.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5), borderaxespad=0.2)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()

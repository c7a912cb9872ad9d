"""What the knobs of the notebooks turn: a row of an image, maps over it and plots.

A notebook makes the cells of a :func:`row` itself, in the ``draw`` of its :class:`campanion.explorer.Knobs`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from campanion.cams.methods import label
from campanion.explorer.bench import Bench
from campanion.pictures import percent
from campanion.report.figures import STYLE, heatmap

_SIDE = 1.9  # inches of one cell


@plt.rc_context({**STYLE, "axes.titlesize": 6.5, "font.size": 6.5})
def row(bench: Bench | None, *cells: tuple[str, Tensor | Callable[[Axes], object]], image: bool = True) -> Figure:
    """Cells in a row: a title, and below it a map [H, W] over the image of the bench, or what a function draws.

    First stands the image with its likeliest class, unless ``image`` is False.

    >>> row(bench, ("FD-CAM", bench.explain("fd_cam").map), ("weights", lambda ax: ax.hist(weights)))
    """
    if image:
        likeliest, chance = bench.model.class_names[bench.predicted], bench.probabilities[bench.predicted]
        cells = ((f"{likeliest} {percent(float(chance))}", partial(show, image=bench.shown)), *cells)
    side = min(_SIDE, 8.5 / len(cells))
    fig = Figure(figsize=(len(cells) * side, side + 0.5), layout="constrained")
    for ax, (title, content) in zip(fig.subplots(1, len(cells), squeeze=False)[0], cells, strict=True):
        if callable(content):
            content(ax)
        else:
            heatmap(ax, bench.shown, content)
        ax.set_title(title)
    return fig


def show(ax: Axes, image: object, **look: object) -> None:
    """An image without ticks; ``look`` is ``imshow``'s."""
    ax.imshow(image, **look)
    ax.set_axis_off()


def pixels(bench: Bench, share: int = 20, method: str = "grad_cam", remove: bool = True) -> Figure:
    """The image without (or with only) the pixels that a map ranks first, and where that lies on the method's curve."""
    map, curve = bench.explain(method).map, bench.curves(method)
    first = torch.zeros(map.numel(), dtype=torch.bool)
    first[map.flatten().argsort(descending=True, stable=True)[: round(share / 100 * map.numel())].cpu()] = True
    first = first.reshape(map.shape)
    shown = np.asarray(bench.shown.resize(map.shape[::-1])) / 255
    masked = np.where((first if remove else ~first).numpy()[..., None], shown.mean((0, 1)), shown)
    name, done = ("deletion", "removed") if remove else ("insertion", "alone")
    places, line = 100 * curve.fractions.cpu().numpy(), getattr(curve, f"{name}_curve")[0].cpu().numpy()

    def scores(ax: Axes) -> None:
        ax.plot(places, line, color="0.4")
        ax.plot([share], [np.interp(share, places, line)], "o", color="#D55E00")
        ax.set(xlabel="pixels (%)", ylim=(0, 1.02))

    shape = partial(show, image=masked, aspect=bench.shown.height / bench.shown.width)
    cells = ((label(method), map), (f"first {share} % {done}", shape), (f"probability, {name}", scores))
    return row(bench, *cells, image=False)

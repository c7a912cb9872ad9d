"""Shapes of the generated scenes, as signed distances: negative inside, in any resolution, easy to antialias.

Every shape is scaled to area 1 about its own origin (x to the right, y down), so that a size means the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from campanion.errors import unknown

Array = NDArray[np.float64]


def _polygon(points: list[tuple[float, float]]) -> Callable[[Array, Array], Array]:
    """Signed distance to a closed polygon: the nearest edge, with the sign of the even-odd rule."""
    start = np.array(points)
    edge = np.roll(start, -1, axis=0) - start

    def signed(x: Array, y: Array) -> Array:
        squared, inside = np.full(x.shape, np.inf), np.zeros(x.shape, dtype=bool)
        for (ax, ay), (ex, ey) in zip(start, edge, strict=True):
            px, py = x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex**2 + ey**2), 0.0, 1.0)
            squared = np.minimum(squared, (px - ex * along) ** 2 + (py - ey * along) ** 2)
            inside ^= ((py < 0) != (py < ey)) & ((px * ey < py * ex) == (ey > 0))
        return np.where(inside, -1.0, 1.0) * np.sqrt(squared)

    return signed


def _regular(corners: int, inner: float | None = None) -> list[tuple[float, float]]:
    """Corners on the unit circle, the first at the top; with ``inner``, a star whose notches lie at that radius."""
    count = corners if inner is None else 2 * corners
    radii = [1.0 if inner is None or i % 2 == 0 else inner for i in range(count)]
    return [(r * np.sin(2 * np.pi * i / count), -r * np.cos(2 * np.pi * i / count)) for i, r in enumerate(radii)]


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 0.33, y - 1.0), np.maximum(x - 1.0, y - 0.33))


def _heart(x: Array, y: Array) -> Array:
    # A square on its corner, with a half disc on each of the two upper sides.
    lobes = np.hypot(np.abs(x) - 0.5, y + 0.5) - np.sqrt(0.5)
    return np.minimum(lobes, (np.abs(x) + np.abs(y) - 1.0) * np.sqrt(0.5))


def _flower(x: Array, y: Array) -> Array:
    petals = [np.hypot(x - 0.62 * px, y - 0.62 * py) - 0.40 for px, py in _regular(5)]
    return np.minimum(np.min(petals, axis=0), np.hypot(x, y) - 0.46)


_SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: np.hypot(x, y) - 1.0, "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.74) - 0.26,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 1.0, "triangle": _polygon(_regular(3)),
    "star": _polygon(_regular(5, inner=0.44)), "cross": _cross, "heart": _heart,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1.0, 0.80 - np.hypot(x - 0.52, y)),
    "arrow": _polygon([(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 0.9), (-0.3, 0.9), (-0.3, -0.1), (-0.8, -0.1)]),
    "flower": _flower,
}  # fmt: skip
#: Names of the shapes; a shape's place in this tuple is its class.
SHAPES: tuple[str, ...] = tuple(_SHAPES)


@cache
def _frame(shape: str) -> tuple[float, float, float, float]:
    """Centroid, area and reach of the raw shape, measured once on a fine grid."""
    side = np.linspace(-1.5, 1.5, 601)
    x, y = np.meshgrid(side, side)
    inside = _SHAPES[shape](x, y) < 0
    cx, cy = (float(x[inside].mean()), float(y[inside].mean())) if shape != "crescent" else (-0.2, 0.0)
    area = float(inside.sum()) * (side[1] - side[0]) ** 2
    return cx, cy, area, float(np.hypot(x[inside] - cx, y[inside] - cy).max())


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """Signed distance of the points (``x``, ``y``) to the outline of ``shape`` scaled to area 1; negative inside."""
    if shape not in _SHAPES:
        raise ValueError(unknown("shape", shape, SHAPES))
    cx, cy, area, _ = _frame(shape)
    scale = np.sqrt(area)
    return _SHAPES[shape](x * scale + cx, y * scale + cy) / scale


def reach(shape: str) -> float:
    """Radius of the circle about the origin that holds ``shape`` at area 1."""
    _, _, area, radius = _frame(shape)
    return radius / float(np.sqrt(area))

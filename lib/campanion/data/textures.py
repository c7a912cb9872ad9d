"""Textures of the generated scenes: patterns in 0..1 that keep their look at any resolution.

Each pattern is softened over about one pixel, so that a small image shows no moiré.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TURN = 2 * np.pi

#: Textures of an object.
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checked", "wavy")
#: Textures of the ground.
GROUNDS: tuple[str, ...] = ("clouds", "gradient", "stripes", "ripples", "weave")
_OCTAVES = (3, 6, 12, 24, 48, 96)


@lru_cache(maxsize=64)
def _spline(cells: int, size: int) -> Array:
    """Cubic B-spline weights [size, cells + 3] of the pixel centres over a lattice of ``cells`` cells."""
    at = (np.arange(size) + 0.5) / size * cells
    cell, t = np.floor(at).astype(int), at % 1.0
    weights = np.zeros((size, cells + 3))
    terms = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for offset, term in enumerate(terms):
        weights[np.arange(size), cell + offset] = term / 6.0
    return weights


def noise(rng: np.random.Generator, size: int, roughness: float) -> Array:
    """Smooth noise [size, size], mean 0 and variance 1 over many draws: octaves, each ``roughness`` times the last."""
    # Octaves too fine for the size are drawn but left out, so that the image is the same at every size.
    total, power = np.zeros((size, size)), 0.0
    for level, cells in enumerate(_OCTAVES):
        lattice = rng.random((cells + 3, cells + 3)) - 0.5
        weight = roughness**level
        power += weight**2
        if cells <= 0.45 * size:
            weights = _spline(cells, size)
            total += weight * (weights @ lattice @ weights.T)
    # A cubic B-spline keeps 0.479 of the lattice's variance per axis, and a uniform lattice has variance 1/12.
    return total * (np.sqrt(12.0) / 0.479 / np.sqrt(power))


def _soft(wave: Array, period: float) -> Array:
    """Two tones from a wave in -1..1 whose ``period`` is given in pixels: the step is one pixel wide."""
    return np.clip(0.5 + wave * max(period / _TURN, 0.5), 0.0, 1.0)


def object_texture(name: str, u: Array, v: Array, frequency: float, pixel: float) -> Array:
    """Share of the second tone, in 0..1, at the points (``u``, ``v``), along and across, of one of :data:`TEXTURES`.

    Coordinates and the side of a ``pixel`` are in units of the object's size, ``frequency`` in periods per size.
    """
    a, b, period = _TURN * frequency * u, _TURN * frequency * v, 1.0 / (frequency * pixel)
    if name == "plain":
        return np.zeros_like(u)
    if name == "striped":
        return _soft(np.sin(a), period)
    if name == "wavy":
        return _soft(np.sin(a + 1.3 * np.sin(0.7 * b)), period)
    if name == "checked":
        return _soft(np.sin(0.8 * a) * np.sin(0.8 * b), period)
    to_centre = np.hypot((frequency * u) % 1.0 - 0.5, (frequency * v) % 1.0 - 0.5)
    return np.clip(0.5 + (0.29 - to_centre) * period, 0.0, 1.0)


def ground_texture(name: str, rng: np.random.Generator, size: int) -> Array:
    """Share of the second tone, in 0..1, of a ground [size, size] with texture ``name`` (one of :data:`GROUNDS`)."""
    rough = noise(rng, size, rng.uniform(0.45, 0.75))
    angle, phase, frequency, warp = rng.random(4) * (_TURN, _TURN, 5.0, 1.0) + (0.0, 0.0, 5.0, 0.3)
    cx, cy = rng.uniform(-0.2, 1.2, size=2)
    side = (np.arange(size) + 0.5) / size
    x, y = side[None, :], side[:, None]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if name == "gradient":
        share = 0.5 + 0.7 * (u - (np.cos(angle) + np.sin(angle)) / 2) + 0.08 * rough
    elif name == "stripes":
        share = 0.5 + 0.32 * np.sin(_TURN * frequency * u + phase + warp * rough) + 0.08 * rough
    elif name == "ripples":
        share = 0.5 + 0.32 * np.sin(_TURN * frequency * np.hypot(x - cx, y - cy) + phase + warp * rough) + 0.08 * rough
    elif name == "weave":
        crossing = np.sin(_TURN * 1.4 * frequency * u) * np.sin(_TURN * 1.4 * frequency * v)
        share = 0.5 + 0.3 * crossing + 0.12 * rough
    else:
        share = 0.5 + 0.3 * rough
    return np.clip(share, 0.0, 1.0)

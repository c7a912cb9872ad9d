"""The registry of methods: each is a function of a channel game and the target classes.

A weighting returns the paper's coefficients [B, K]; its map is ``ReLU(sum_k w_k A_k)`` (LIFT-CAM eq. 1, FD-CAM eq. 1).
A method that has no coefficient per channel returns its map [B, h, w] itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from campanion.errors import unknown
from campanion.game import ChannelGame

METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """One entry of METHODS. ``gives`` is "weights" or "map"; ``rectified``: is the map ReLU'd? (CAM's is not)."""

    name: str
    title: str
    source: str
    function: Callable[..., Tensor]
    gives: str
    rectified: bool = True

    @property
    def options(self) -> dict[str, object]:
        """The options that :func:`campanion.explain` passes on, with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def method(title: str, source: str, gives: str = "weights", rectified: bool = True) -> Callable:
    """Register ``function(game, target, *, options)`` under its own name."""

    def register(function: Callable[[ChannelGame, Tensor], Tensor]) -> Callable:
        METHODS[function.__name__] = Method(function.__name__, title, source, function, gives, rectified)
        return function

    return register


def get_method(name: str) -> Method:
    """The method called ``name``; ValueError with the nearest names when there is none."""
    if name not in METHODS:
        raise ValueError(unknown("method", name, METHODS))
    return METHODS[name]


def choose(name: str, value: object, allowed: tuple) -> None:
    """ValueError unless the option ``name`` has one of the ``allowed`` values."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")

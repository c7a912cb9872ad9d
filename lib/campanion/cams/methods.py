"""The registry of methods: each is a function of a channel game and the target classes.

A weighting returns the paper's coefficients [B, K]; its map is ``ReLU(sum_k w_k A_k)`` (LIFT-CAM eq. 1, FD-CAM eq. 1).
A method that has no coefficient per channel returns its map [B, h, w] itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor

from campanion.errors import unknown
from campanion.game.game import ChannelGame

METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """One entry of METHODS. ``gives`` is "weights" or "map"; ``rectified``: is the map ReLU'd? (CAM's is not).

    ``gradient``: does it ask for the game's gradient, so that the forward pass had better keep a graph?
    """

    name: str
    title: str
    source: str
    function: Callable[..., Tensor]
    gives: str
    rectified: bool = True
    gradient: bool = False

    @property
    def options(self) -> dict[str, object]:
        """The options that :func:`campanion.explain` passes on, with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check(self, option: str, value: object) -> None:
        """ValueError unless ``option`` is one of :attr:`options` and ``value`` is of its declared kind."""
        if option not in self.options:
            raise ValueError(unknown(f"option of {self.name}", option, self.options))
        declared = inspect.signature(self.function).parameters[option].annotation  # text, such as "int | None"
        kind = str(declared).removesuffix(" | None")
        if kind not in _KINDS or (value is None and kind != declared):
            return
        is_right, words = _KINDS[kind]
        if not is_right(value):
            raise ValueError(f"{self.name}: {option} must be {words}, not {value!r:.80}.")


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= value <= 10**9


# What an option's annotation stands for.
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "int": (_is_count, "a whole number and at least 1"),
    "tuple[int, ...]": (
        lambda value: isinstance(value, tuple | list) and len(value) > 0 and all(map(_is_count, value)),
        "a tuple of whole numbers, each at least 1",
    ),
    "float": (
        lambda value: isinstance(value, Real) and not isinstance(value, bool) and -1e9 <= value <= 1e9,
        "a number between -1e9 and 1e9",
    ),
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "str": (lambda value: isinstance(value, str), "a word"),
    "torch.Generator": (lambda value: isinstance(value, torch.Generator), "a torch.Generator"),
}


def method(title: str, source: str, gives: str = "weights", rectified: bool = True, gradient: bool = False) -> Callable:
    """Register ``function(game, target, *, options)`` under its own name."""

    def register(function: Callable[[ChannelGame, Tensor], Tensor]) -> Callable:
        METHODS[function.__name__] = Method(function.__name__, title, source, function, gives, rectified, gradient)
        return function

    return register


def get_method(name: str) -> Method:
    """The method called ``name``; ValueError with the nearest names when there is none."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(unknown("method", name, METHODS))
    return METHODS[name]


def choose(name: str, value: object, allowed: tuple) -> None:
    """ValueError unless the option ``name`` has one of the ``allowed`` values."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")

"""The registry of methods: each is a function of a channel game and the target classes.

A weighting returns the paper's coefficients [B, K]; its map is ``ReLU(sum_k w_k A_k)`` (LIFT-CAM eq. 1, FD-CAM eq. 1).
A method that has no coefficient per channel returns its map [B, h, w] itself. A method's name may carry options:
``xgrad_cam:lift``, ``fd_cam:bias=0,switch=off``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, get_args, get_type_hints

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from campanion.errors import one_of, unknown
from campanion.game.game import ChannelGame

METHODS: dict[str, Method] = {}

#: Rows of FD-CAM's Tables III and IV, by the names that ``data/papers`` gives them: what they stand for, and a title.
ROWS: dict[str, tuple[str, str]] = {
    "fd_cam_ng_off": ("fd_cam:grouped=False,switch=off", "FD-CAM, no groups, off"),
    "fd_cam_g_off": ("fd_cam:switch=off", "FD-CAM, groups, off"),
    "fd_cam_linear": ("fd_cam:combination=linear,bias=0", "FD-CAM, w = a s"),
    "fd_cam_exp_b0": ("fd_cam:bias=0", "FD-CAM, w = a exp(s)"),
}

# Types of options, to be used as annotations: a whole number of things, several of them, a finite number.
Count = Annotated[int, Field(ge=1, le=10**9, description="a whole number and at least 1")]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, description="a tuple of whole numbers, each at least 1")]
Number = Annotated[float, Field(ge=-1e9, le=1e9, description="a number between -1e9 and 1e9")]


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

    def check(self, option: str, value: object) -> object:
        """``value`` as the type that ``option`` is annotated with.

        Raises:
            ValueError: no such option, or another type or range.
        """
        one_of(f"option of {self.name}", option, self.options)
        declared = _declared(self.function, option)
        value = tuple(value) if isinstance(value, list) else value.item() if isinstance(value, np.generic) else value
        try:
            return _adapter(declared).validate_python(value)
        except ValidationError as error:
            kinds = (declared, *get_args(declared))
            descriptions = [part.description for kind in kinds for part in getattr(kind, "__metadata__", ())]
            wanted = [*descriptions, error.errors()[0]["msg"].removeprefix("Input should be ")][0]
            raise ValueError(f"{self.name}: {option} must be {wanted}, not {value!r:.80}.") from None

    def read(self, option: str, text: str) -> object:
        """The value of ``option`` that ``text`` stands for, as in ``fd_cam:bias=0``; ValueError as :meth:`check`."""
        if option in self.options:
            with suppress(ValidationError):
                return _adapter(_declared(self.function, option)).validate_strings(text)
        value = text
        with suppress(SyntaxError, ValueError):
            value = ast.literal_eval(text)
        return self.check(option, value)


def _declared(function: Callable, option: str) -> object:
    return get_type_hints(function, include_extras=True).get(option, object)


def _adapter(declared: object) -> TypeAdapter:
    return TypeAdapter(declared, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


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


def parse(name: str) -> tuple[str, dict[str, object]]:
    """The method and the options that ``name`` stands for.

    After a colon stand options, ``key=value`` with commas between them; a single word is the option ``variant``. Names
    of :data:`ROWS` stand for what is written there.

    Raises:
        ValueError: unknown method or option, or a value that does not suit it.

    >>> parse("xgrad_cam:lift")
    ('xgrad_cam', {'variant': 'lift'})
    >>> parse("fd_cam_ng_off")
    ('fd_cam', {'grouped': False, 'switch': 'off'})
    """
    method, _, text = ROWS.get(name, (name, ""))[0].partition(":") if isinstance(name, str) else (name, "", "")
    entry = get_method(method)
    options = {}
    for part in re.split(r",(?![^(]*\))", text) if text else ():
        key, equals, value = part.partition("=")
        key, value = (key.strip(), value.strip()) if equals else ("variant", key.strip())
        options[key] = entry.read(key, value)
    return method, options


def label(name: str) -> str:
    """The name as papers print it, with its options; a name that stands for no method stays as it is.

    >>> label("xgrad_cam:lift")
    'XGrad-CAM (lift)'
    >>> label("fd_cam:bias=0.25")
    'FD-CAM (bias=0.25)'
    """
    if name in ROWS:
        return ROWS[name][1]
    method, _, options = name.partition(":")
    if method not in METHODS:
        return name
    return f"{METHODS[method].title} ({options.replace(',', ', ')})" if options else METHODS[method].title


def choose(name: str, value: object, allowed: tuple) -> None:
    """ValueError unless the option ``name`` has one of the ``allowed`` values."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")

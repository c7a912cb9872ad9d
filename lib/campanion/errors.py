"""Errors that say what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class MissingData(FileNotFoundError):
    """A data set or weights file is not there; the message names the command or the place that brings it."""


class MissingResult(FileNotFoundError):
    """A committed result is not there; the message names the command that computes it."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``"Unknown method 'grad_cm'. Did you mean 'grad_cam'? Known: fd_cam, grad_cam."``, of at most forty names."""
    names = sorted(str(n) for n in known)
    plain = {n.lower(): n for n in names}  # 'Grad-CAM' is near 'grad_cam'
    near = [plain[n] for n in difflib.get_close_matches(str(name).lower(), plain, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listed = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + f" ... ({len(names)} in all)"
    return f"Unknown {kind} {str(name)!r}.{hint} Known: {listed}."


def one_of(kind: str, name: object, known: Collection[str]) -> None:
    """ValueError, as :func:`unknown` words it, unless ``name`` is among ``known``."""
    if name not in known:
        raise ValueError(unknown(kind, name, known))


_KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "model": "a mapping",
    "tuple": "a list", "list": "a list", "finite": "a number", "string": "a word", "none": "empty",
}  # fmt: skip


def sentence_of(problem: ValidationError) -> str:
    """The first thing that a pydantic model refuses: ``"epochs must be at least 1, not 0."``"""
    error = problem.errors()[0]
    kind, limits, value = error["type"], error.get("ctx", {}), error.get("input")
    name = ".".join(str(part) for part in error["loc"]) or "It"
    if kind == "value_error":
        return str(limits["error"])
    if kind == "literal_error":
        return unknown(name, value, re.findall(r"'([^']*)'", limits["expected"]))
    if kind == "missing":
        return f"{name} is missing."
    if kind == "extra_forbidden":
        return f"Unknown setting {name!r}."
    words = {
        "greater_than_equal": "at least {ge:g}", "greater_than": "above {gt:g}",
        "less_than_equal": "at most {le:g}", "less_than": "below {lt:g}",
    }  # fmt: skip
    wanted = words[kind].format(**limits) if kind in words else _KINDS.get(kind.split("_")[0], "")
    return f"{name} must be {wanted}, not {value!r}." if wanted else f"{name}: {error['msg']}."

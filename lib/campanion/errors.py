"""Errors that say what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MissingData(FileNotFoundError):
    """A data set or weights file is not there; the message names the command or the place that brings it."""


class MissingResult(FileNotFoundError):
    """A committed result is not there; the message names the command that computes it."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Sentence for an unknown ``name``: the nearest known names first, then how many there are.

    >>> unknown("method", "grad_cm", ["grad_cam", "fd_cam"])
    "Unknown method 'grad_cm'. Did you mean 'grad_cam'? Known: fd_cam, grad_cam."
    """
    names = sorted(str(n) for n in known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listed = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + f" ... ({len(names)} in all)"
    return f"Unknown {kind} {str(name)!r}.{hint} Known: {listed}."

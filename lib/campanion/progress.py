"""Progress of long loops: a bar for a person, lines in a log for a batch run, silence in a stored notebook."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm as terminal_bar
from tqdm.auto import tqdm as notebook_bar

T = TypeVar("T")

EVERY = 10.0  # seconds between two lines of the log; a shorter loop leaves none, inner loops would flood it
_DONE = "{desc}: {percentage:.0f} % ({n_fmt}/{total_fmt}), {rate_fmt}, {elapsed} passed, {remaining} left"
_ENDLESS = "{desc}: {n_fmt} {unit}, {rate_fmt}, {elapsed} passed"


def track(iterable: Iterable[T], desc: str = "", total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield from ``iterable`` and show how far it is.

    In a live notebook or a terminal this is a tqdm bar with the time left. With ``CAMPANION_BATCH=1`` (papermill,
    nbval) and wherever nobody watches (pipes, tests) it prints nothing, but appends a line about every ten seconds
    to the file ``CAMPANION_LOG`` names, if it names one.

    Args:
        iterable: what to loop over.
        desc: a few words for the bar or line.
        total: number of steps where ``iterable`` does not know its length.
        unit: what a step is called.

    >>> for image in track(images, "insertion"):
    ...     ...
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    given = {"desc": desc, "total": total, "unit": unit}
    if (bar := _bar()) is not None:
        return iter(bar(iterable, **given, leave=False, dynamic_ncols=True))
    if not (log := os.environ.get("CAMPANION_LOG")):
        return iter(iterable)
    look = {"mininterval": EVERY, "delay": EVERY, "leave": True, "bar_format": _DONE if total else _ENDLESS}
    return iter(terminal_bar(iterable, **given, **look, file=_Lines(Path(log))))


def is_batch() -> bool:
    """True where outputs are stored and not watched: ``CAMPANION_BATCH`` is set, and not to ``0``."""
    return os.environ.get("CAMPANION_BATCH", "0") not in ("", "0")


def _bar() -> type | None:
    if is_batch():
        return None
    if "ipykernel" in sys.modules:
        from IPython import get_ipython

        if type(get_ipython()).__name__ == "ZMQInteractiveShell":
            return notebook_bar
    return terminal_bar if sys.stderr.isatty() else None


class _Lines:
    """A file for tqdm in which each state of the bar is a line of its own, with its time."""

    def __init__(self, path: Path) -> None:
        self.path, self.last = path, ""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()  # bars inside of others move the cursor
        if line and line != self.last:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")
            self.last = line

    def flush(self) -> None:
        """Every line is written when it comes."""

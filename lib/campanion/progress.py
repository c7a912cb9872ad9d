"""Progress of long loops: a bar for a person, lines in a log for a batch run, silence in a stored notebook."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm as terminal_bar
from tqdm.auto import tqdm as bar  # a notebook's or a terminal's

T = TypeVar("T")

EVERY = 10.0  # seconds between two lines of the log; a shorter loop leaves none, inner loops would flood it
_DONE = "{desc}: {percentage:.0f} % ({n_fmt}/{total_fmt}), {rate_fmt}, {elapsed} passed, {remaining} left"
_ENDLESS = "{desc}: {n_fmt} {unit}, {rate_fmt}, {elapsed} passed"


def track(iterable: Iterable[T], desc: str = "", total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield from ``iterable`` with a bar in a live notebook or a terminal.

    Elsewhere, and with ``CAMPANION_BATCH=1`` (papermill, nbval), it prints nothing, but appends a line about every ten
    seconds to the file that ``CAMPANION_LOG`` names, if it names one.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    options = {"desc": desc, "total": total, "unit": unit}
    if _is_watched():
        return iter(bar(iterable, **options, leave=False, dynamic_ncols=True))
    if not (log := os.environ.get("CAMPANION_LOG")):
        return iter(iterable)
    lines = {"mininterval": EVERY, "delay": EVERY, "leave": True, "bar_format": _DONE if total else _ENDLESS}
    return iter(terminal_bar(iterable, **options, **lines, file=_Lines(Path(log))))


def is_batch() -> bool:
    """True where outputs are stored and not watched: ``CAMPANION_BATCH`` is set, and not to ``0``."""
    return os.environ.get("CAMPANION_BATCH", "0") not in ("", "0")


def _is_watched() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return not is_batch() and (type(shell).__name__ == "ZMQInteractiveShell" or sys.stderr.isatty())


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

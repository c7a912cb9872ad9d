"""Progress of long loops: a bar for a person, lines in a log for a batch run, silence in a stored notebook."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm as terminal_bar
from tqdm.auto import tqdm as notebook_bar

T = TypeVar("T")

EVERY = 10.0  # seconds between two lines of the log
SHORTEST = 1.0  # loops shorter than this many seconds leave no last line: inner loops would flood the log


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
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    bar = _bar()
    if bar is not None:
        return iter(bar(iterable, desc=desc, total=total, unit=unit, leave=False, dynamic_ncols=True))
    log = os.environ.get("CAMPANION_LOG")
    return _logged(iterable, desc, total, unit, Path(log)) if log else iter(iterable)


def is_batch() -> bool:
    """True where outputs are stored and not watched: ``CAMPANION_BATCH`` is set, and not to ``0``."""
    return os.environ.get("CAMPANION_BATCH", "0") not in ("", "0")


def _bar() -> type | None:
    if is_batch():
        return None
    if "ipykernel" in sys.modules and _in_kernel():
        return notebook_bar
    return terminal_bar if sys.stderr.isatty() else None


def _in_kernel() -> bool:
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _logged(iterable: Iterable[T], desc: str, total: int | None, unit: str, log: Path) -> Iterator[T]:
    start = last = time.monotonic()
    done, ended = 0, "stopped"
    try:
        for item in iterable:
            yield item
            done += 1
            now = time.monotonic()
            if now - last >= EVERY:
                last = now
                _append(log, line(desc, done, total, now - start, unit))
        ended = "done"
    finally:  # also when the caller breaks off or an error passes through
        seconds = time.monotonic() - start
        if seconds >= SHORTEST:
            _append(log, f"{line(desc, done, total, seconds, unit)}, {ended}")


def line(desc: str, done: int, total: int | None, seconds: float, unit: str = "it") -> str:
    """One line of the log.

    >>> line("insertion", 50, 200, 25.0)
    'insertion: 25 % (50/200), 2.00 it/s, 00:25 passed, 01:15 left'
    """
    rate = done / seconds if seconds > 0 else 0.0
    passed = f"{rate:.2f} {unit}/s, {terminal_bar.format_interval(seconds)} passed"
    if not total:
        return f"{desc}: {done} {unit}, {passed}"
    left = f", {terminal_bar.format_interval((total - done) / rate)} left" if rate > 0 else ""
    return f"{desc}: {100 * done / total:.0f} % ({done}/{total}), {passed}{left}"


def _append(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

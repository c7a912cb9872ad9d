"""What bad input must lead to: a result, or a sentence of this project's own."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import campanion

LIBRARY = Path(campanion.__file__).resolve().parent
T = TypeVar("T")


def refused(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """The result of ``call`` and None, or None and the sentence that refused it.

    Fails where an exception is of another kind than ValueError, TypeError and FileNotFoundError (MissingData,
    MissingResult), was raised outside this library (a bare traceback of torch, NumPy ...), or is no sentence.
    """
    try:
        return call(), None
    except Exception as raised:
        problem = raised
    last = traceback.extract_tb(problem.__traceback__)[-1]
    said = f"{type(problem).__name__}: {problem} ({last.filename}:{last.lineno})"
    assert isinstance(problem, ValueError | TypeError | FileNotFoundError), said
    assert LIBRARY in Path(last.filename).resolve().parents, said
    assert last.line.startswith("raise "), said
    assert len(str(problem).split()) > 2, said
    return None, str(problem)

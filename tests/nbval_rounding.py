"""nbval's comparison, but for the last digit that a number is printed with: processors round sums differently.

Loaded by ``./reproduce.sh test`` (``pytest -p tests.nbval_rounding --nbval ...``). Texts must be the same up to numbers
of two or more decimals, which may differ by one in their last place. Everything else is compared as nbval does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell

_NUMBER = re.compile(r"[-+]?\d+\.\d{2,}(?:e[-+]?\d+)?")


def alike(one: str, other: str) -> bool:
    """Whether two texts are the same up to one in the last place of their decimal numbers.

    >>> alike("deletion 0.023", "deletion 0.022"), alike("deletion 0.024", "deletion 0.022"), alike("N = 8", "N = 9")
    (True, False, False)
    """
    if _NUMBER.split(one) != _NUMBER.split(other):
        return False
    pairs = zip(map(Decimal, _NUMBER.findall(one)), map(Decimal, _NUMBER.findall(other)), strict=True)
    return all(
        a.as_tuple().exponent == b.as_tuple().exponent and abs(a - b) <= Decimal((0, (1,), a.as_tuple().exponent))
        for a, b in pairs
    )


def settled(stored: Sequence[NotebookNode], new: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The stored outputs, with the new texts where they are :func:`alike`."""
    outputs = [NotebookNode(output) for output in stored]
    for output, fresh in zip(outputs, new, strict=False):
        if output.output_type == fresh.output_type == "stream":
            output.text = _settled(output.text, fresh.text)
        elif "data" in output and "data" in fresh:
            output.data = NotebookNode({kind: _settled(v, fresh.data.get(kind)) for kind, v in output.data.items()})
    return outputs


def _settled(stored: object, new: object) -> object:
    return new if isinstance(stored, str) and isinstance(new, str) and alike(stored, new) else stored


def _compare(original: Callable, test: list, ref: list, skip_compare: object = None) -> bool:
    return original(test, settled(ref, test), skip_compare)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every notebook cell this comparison."""
    for item in items:
        if isinstance(item, IPyNbCell):
            item.compare_outputs = partial(_compare, item.compare_outputs)

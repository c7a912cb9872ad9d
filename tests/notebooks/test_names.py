"""A name of a notebook has one meaning: no cell reads what another one has overwritten, nor does a control later."""

import re

import pytest
from cells import NOTEBOOKS, code_cells, names_of


def overwritten(sources):
    """A sentence for each name that a cell reads after it has got another meaning, or whose meaning a function loses.

    A cell may make a new value of the old one (``runs = [run for run in runs if ...]``), and overwrite what a loop has
    left behind.
    """
    cells, faults = [names_of(source) for source in sources], []
    for number, (*_, taken, called) in enumerate(cells):
        for name in sorted(taken):
            fault, meaning = None, None  # the cell that gave it a value, and the module it was imported from
            for other, (kept, left, own, _) in enumerate(cells[:number]):
                if meaning and (name in left or (name in kept and name not in own and kept[name] != meaning[1])):
                    fault = f"{name!r} of cell {meaning[0]} is overwritten in cell {other} and read in {number}"
                if name in kept:
                    meaning = other, kept[name] or other
            faults += [fault] * bool(fault)
        faults += [
            f"{name!r}, which a function of cell {number} reads when it is called, is overwritten in cell {other}"
            for other, (kept, left, *_) in enumerate(cells[number + 1 :], number + 1)
            for name in sorted(called & (left | {n for n, module in kept.items() if module is None}))
        ]
    return faults


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_no_cell_reads_what_another_has_overwritten(path):
    assert overwritten(code_cells(path)) == []


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["runs = [1]", "print(runs)", "runs = {}", "print(runs)"], "runs"),  # a table took the results' name
        (["size = 1", "for size in (2, 3):\n    pass", "print(size)"], "size"),
        (["def draw(k):\n    return side + k", "for side in (1, 2):\n    pass"], "side"),
        (["import math as m", "m = 2", "print([m for _ in ()])"], "m"),
    ],
)
def test_an_overwritten_name_is_found(sources, name):
    assert [fault.split("'")[1] for fault in overwritten(sources)] == [name]


@pytest.mark.parametrize(
    "sources",
    [
        ["runs = [1, 2]", "runs = [run for run in runs if run]", "print(runs)"],
        ["for row in (1, 2):\n    size = row", "size = 3", "print(size)"],
        ["size = 1", "size = 2\nprint(size)"],
        ["import pandas as pd", "import pandas as pd", "print(pd)"],
        ["def draw(size):\n    return size", "size = 2"],
    ],
)
def test_a_name_may_be_renewed_or_left_behind(sources):
    assert overwritten(sources) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_runs_are_told_apart_by_network_and_data(path):
    """One network on two data sets, or two networks on one, are two runs: of tables, and of files of figures."""
    source = "\n".join(code_cells(path))
    by_network = re.findall(r"""\{run\["model"\]: .*""", source)
    files = re.findall(r"""figures\.save\(.*run\['(?:data|model)'\].*""", source)
    assert [line for line in files if not ("run['data']" in line and "run['model']" in line)] + by_network == []

"""A name of a notebook has one meaning: no cell reads what another one has overwritten, nor does a control later."""

import dis
import json
import re
from types import CodeType

import pytest
from campanion import paths

NOTEBOOKS = sorted((paths.root() / "notebooks").glob("*.ipynb"))
AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # code that runs where it stands, other than functions


def names_of(source):
    """What a cell assigns (with an import's module, else None), what its loops leave behind, what it takes from cells
    above, and what its functions look up when they are called."""
    kept, left, taken, called = {}, set(), set(), set()
    end, before = 0, None
    for step in dis.get_instructions(compile(source, "cell", "exec")):
        if step.opname == "FOR_ITER":
            end = max(end, step.argval)
        elif step.opname == "STORE_NAME" and step.offset < end:
            left.add(step.argval)
        elif step.opname == "STORE_NAME":
            kept[step.argval] = before.argval if before.opname.startswith("IMPORT") else None
        else:
            found = {step.argval} if step.opname == "LOAD_NAME" else looked_up(step.argval)
            late = isinstance(step.argval, CodeType) and step.argval.co_name not in AT_ONCE
            called.update(found) if late else taken.update(found - kept.keys() - left)
        before = step
    return kept, left - kept.keys(), taken, called


def looked_up(code):
    """The globals that a function, or a comprehension, reads."""
    if not isinstance(code, CodeType):
        return set()
    steps = list(dis.get_instructions(code))
    inner = [looked_up(step.argval) for step in steps]
    return {step.argval for step in steps if step.opname == "LOAD_GLOBAL"}.union(*inner)


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
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert overwritten(["".join(c["source"]) if c["cell_type"] == "code" else "" for c in cells]) == []


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
    source = "\n".join("".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"])
    by_network = re.findall(r"""\{run\["model"\]: .*""", source)
    files = re.findall(r"""figures\.save\(.*run\['(?:data|model)'\].*""", source)
    assert [line for line in files if not ("run['data']" in line and "run['model']" in line)] + by_network == []

"""Code cells of notebooks: what each assigns and reads, which cells another one needs, and the studies in them."""

import ast
import dis
import json
from functools import cache
from types import CodeType, ModuleType

from campanion import paths

NOTEBOOKS = sorted((paths.root() / "notebooks").glob("*.ipynb"))
AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # code that runs where it stands, other than functions


def code_cells(path):
    """The sources of a notebook's cells, "" for Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in cells]


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


def with_needed(sources, number):
    """The numbers of the cells that cell ``number`` needs, itself the last."""
    cells, chosen, wanted = [names_of(source) for source in sources], [number], set()
    for other in range(number, -1, -1):
        kept, left, taken, called = cells[other]
        if other == number or wanted & (kept.keys() | left):
            chosen.append(other)
            wanted = (wanted - kept.keys()) | taken | called
    return sorted(set(chosen))


@cache
def study(number, name="measure"):
    """The study of a notebook: the functions and constants of the cell that defines ``name``, with all imports before
    it."""
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(f"{number}_"))
    sources = code_cells(path)
    (place,) = (i for i, source in enumerate(sources) if f"\ndef {name}(" in source)
    trees = [ast.parse(source).body for source in sources[: place + 1]]
    imports = [step for tree in trees for step in tree if isinstance(step, ast.Import | ast.ImportFrom)]
    own = [step for step in trees[-1] if isinstance(step, ast.FunctionDef) or _is_constant(step)]
    module = ModuleType(f"{path.stem}.{name}")
    exec(compile(ast.Module([*imports, *own], []), path.name, "exec"), vars(module))
    return module


def _is_constant(step):
    return isinstance(step, ast.Assign) and isinstance(step.targets[0], ast.Name) and step.targets[0].id.isupper()

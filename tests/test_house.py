"""The house: a package imports only what stands below it, files and functions are short, every module has a page."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "lib" / "campanion"
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
LINES = 19_300  # of all of lib: it only goes down, towards 12,500
LONGEST_FILE, LONGEST_FUNCTION, ROOT_MODULES = 300, 60, 10

MODULES = sorted(path.relative_to(LIB).as_posix() for path in LIB.rglob("*.py"))


def lines(module: str) -> int:
    return len((LIB / module).read_text("utf-8").splitlines())


def test_no_package_imports_upwards() -> None:
    run = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert "floors KEPT" in run.stdout


def test_the_root_has_few_modules() -> None:
    assert len([module for module in MODULES if "/" not in module]) <= ROOT_MODULES


def test_the_library_does_not_grow() -> None:
    assert sum(map(lines, MODULES)) <= LINES


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module: str) -> None:
    assert lines(module) <= LONGEST_FILE
    for node in ast.walk(ast.parse((LIB / module).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(text.splitlines()) if text else 0)
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines without its docstring"


def test_every_module_is_on_one_page_of_the_reference() -> None:
    pages = [
        re.findall(r"automodule:: ([\w.]+)", page.read_text("utf-8")) for page in (ROOT / "docs" / "api").glob("*.md")
    ]
    listed = sorted(name for page in pages for name in page)
    modules = (module.removesuffix(".py").replace("/", ".") for module in MODULES)
    wanted = {f"campanion.{name}" for name in modules if name.rpartition(".")[2] not in ("__init__", "__main__")}
    assert len(listed) == len(set(listed))
    assert wanted - set(listed) == set()

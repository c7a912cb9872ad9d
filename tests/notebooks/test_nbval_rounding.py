"""Stored numbers may differ from new ones by one in the last printed place, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from campanion import paths
from nbformat import v4
from nbval_rounding import alike, settled


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("deletion 0.023", "deletion 0.022", True),
        ("deletion 0.023", "deletion 0.021", False),
        ("deletion 0.023", "insertion 0.023", False),
        ("-0.0004 to +0.0000", "-0.0003 to -0.0001", True),
        ("41.3 %", "41.4 %", False),  # one decimal is not the last digit of a computation
        ("N = 8", "N = 9", False),
        ("-9.262e-07", "-9.263e-07", True),
        ("-9.262e-07", "-9.262e-06", False),
        ("0.0230", "0.023", False),
        ("0.99", "1.00", True),
        ("1.25 and 2", "1.25 and 3", False),
    ],
)
def test_numbers_may_differ_in_their_last_place_alone(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is alike(other, one) is same


def test_a_text_that_differs_more_stays_as_it_is_stored() -> None:
    def outputs(stream: str, html: str) -> list[nbformat.NotebookNode]:
        shown = {"image/png": "abc", "text/html": html}
        return [v4.new_output("stream", text=stream), v4.new_output("display_data", data=shown)]

    stored = outputs("a 0.123\n", "<td>0.500</td>")
    both = settled(stored, outputs("a 0.124\n", "<td>0.502</td>"))
    assert both == outputs("a 0.124\n", "<td>0.500</td>")
    assert stored == outputs("a 0.123\n", "<td>0.500</td>")
    assert settled(stored, [v4.new_output("error", ename="E", evalue="", traceback=[])]) == stored


@pytest.mark.parametrize(("stored", "passes"), [("0.023", True), ("0.022", True), ("0.021", False), ("0.0230", False)])
def test_nbval_takes_it(tmp_path, stored: str, passes: bool) -> None:
    cell = v4.new_code_cell("print(f'deletion {0.023:.3f}')", execution_count=1)
    cell.outputs = [v4.new_output("stream", text=f"deletion {stored}\n")]
    nbformat.write(v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.nbval_rounding", "--nbval", "--nbval-current-env"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path / "one.ipynb")],
        cwd=paths.root(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == (0 if passes else 1), done.stdout
    assert ("1 passed" if passes else "1 failed") in done.stdout

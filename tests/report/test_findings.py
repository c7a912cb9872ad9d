"""The findings: their numbers are those of the committed results, their figures can be drawn."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from campanion import paths
from campanion.report import findings
from campanion.results import load_results


@pytest.fixture(scope="module")
def results():
    return load_results(paths.root() / "data" / "results")


@pytest.mark.parametrize("make", findings.FINDINGS, ids=lambda f: f.__name__)
def test_every_finding_has_a_paragraph_with_numbers_and_a_figure(results, make):
    found = make(results)
    assert any(c.isdigit() for c in found.text)
    assert "nan" not in found.text
    assert "None" not in found.text
    assert found.figure.axes
    mpl.pyplot.close(found.figure)


def test_the_centre_point_is_that_of_the_result(results):
    rows = [
        r for run in results["22_fd_table2_pointing_game"]["runs"] for r in run["rows"] if r["method"] == "centre point"
    ]
    centre = {f"{r['mean']:.1f} %" for r in rows if r["metric"] == "pointing_accuracy"}
    assert any(c in findings.centre_point(results).text for c in centre)


def test_a_missing_result_is_told():
    with pytest.raises(ValueError, match="compute it with"):
        findings.two_networks({})

"""The findings: their numbers are those of the committed results, their figures can be drawn."""

from __future__ import annotations

import re

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


def test_the_fin_is_told_of_every_network_with_its_epochs(results):
    """One was trained with a frozen FIN too, the other was not."""
    key = "16_lfi_fig5_fin_effect"
    (first,) = (run for run in results[key]["runs"] if run["data"] == "cifar10")
    rows = [r for r in first["rows"] if "frozen" not in r["method"]]
    differences = [d for d in first["differences"] if "frozen" not in d["method"] + d["reference"]]
    record = {**first["provenance"], "settings": {"epochs": 5}}
    second = {"model": "resnet18", "data": "cats-dogs", "mode": "full", "provenance": record}
    second |= {"rows": rows, "differences": differences}
    found = findings.fin({**results, key: {"runs": [first, second]}})
    assert "ResNet-20 (CIFAR-10" in found.text
    assert "ResNet-18 (Cat&Dog, 5 epochs)" in found.text
    assert found.text.count("with a frozen FIN") == 1
    (spread,) = {r["mean"] for r in rows if (r["method"], r["metric"]) == ("lfi-paper", "unevenness")}
    assert found.text.count(f"{100 * spread:.0f} % from 1/N") == 2
    assert len(found.figure.axes[0].get_yticklabels()) == 3
    mpl.pyplot.close(found.figure)


def test_the_classes_of_one_image_need_no_other_notebook(results):
    found = findings.discriminability({k: v for k, v in results.items() if not k.startswith("20_")})
    assert found.text.endswith("the claim needs all three.")
    assert "exactly two classes" in findings.discriminability(results).text
    mpl.pyplot.close("all")


def test_the_bold_numbers_that_could_be_missed_have_less_than_the_usual_power(results):
    said, _, rest = findings.bold_cells(results).text.partition(": a paper that is right")
    chances = re.findall(r"(?:to|of) (\d+) %", said)
    assert rest
    assert len(chances) == 2
    assert max(map(int, chances)) < 80
    mpl.pyplot.close("all")


def test_a_missing_result_is_told():
    with pytest.raises(ValueError, match="compute it with"):
        findings.two_networks({})

"""The findings of page 98: their numbers are those of the committed results, their figures can be drawn."""

from __future__ import annotations

import re

import matplotlib as mpl
import pytest
from campanion import paths
from campanion.report.papers import entries
from campanion.results import load_results
from cells import NOTEBOOKS, code_cells

(PAGE,) = (path for path in NOTEBOOKS if path.stem == "98_findings")


@pytest.fixture(scope="module")
def results():
    return load_results(paths.root() / "data" / "results")


@pytest.fixture
def tell(results, tmp_path, monkeypatch):
    """Runs the cell that tells a finding, from the committed or from other results: its paragraph and figure."""
    monkeypatch.setenv("CAMPANION_FIGURES", str(tmp_path))
    monkeypatch.setenv("CAMPANION_DRAFT", "1")
    first, *others = (source for source in code_cells(PAGE)[2:] if source)

    def run(name, results=results):
        (cell,) = (source for source in others if f'show("{name}"' in source)
        names, shown = {}, []
        exec(first, names)
        names |= {"results": results, "display": shown.append}
        exec(cell, names)
        return shown[0].data, mpl.pyplot.gcf()

    with mpl.rc_context():
        yield run
    mpl.pyplot.close("all")


@pytest.mark.parametrize("name", entries("findings"))
def test_every_finding_has_a_paragraph_with_numbers_and_a_figure(tell, name):
    text, figure = tell(name)
    assert any(c.isdigit() for c in text)
    assert "nan" not in text
    assert "None" not in text
    assert figure.axes


def test_the_centre_point_is_that_of_the_result(tell, results):
    rows = [
        r for run in results["22_fd_table2_pointing_game"]["runs"] for r in run["rows"] if r["method"] == "centre point"
    ]
    centre = {f"{r['mean']:.1f} %" for r in rows if r["metric"] == "pointing_accuracy"}
    assert any(c in tell("centre_point")[0] for c in centre)


def test_the_fin_is_told_of_every_network_with_its_epochs(tell, results):
    """One was trained with a frozen FIN too, the other was not."""
    key = "16_lfi_fig5_fin_effect"
    (first,) = (run for run in results[key]["runs"] if run["data"] == "cifar10")
    rows = [r for r in first["rows"] if "frozen" not in r["method"]]
    differences = [d for d in first["differences"] if "frozen" not in d["method"] + d["reference"]]
    record = {**first["provenance"], "settings": {"epochs": 5}}
    second = {"model": "resnet18", "data": "cats-dogs", "mode": "full", "provenance": record}
    second |= {"rows": rows, "differences": differences}
    text, figure = tell("fin", {**results, key: {"runs": [first, second]}})
    assert "ResNet-20 (CIFAR-10" in text
    assert "ResNet-18 (Cat&Dog, 5 epochs)" in text
    assert text.count("with a frozen FIN") == 1
    (spread,) = {r["mean"] for r in rows if (r["method"], r["metric"]) == ("lfi-paper", "unevenness")}
    assert text.count(f"{100 * spread:.0f} % from 1/N") == 2
    assert len(figure.axes[0].get_yticklabels()) == 3


def test_the_classes_of_one_image_need_no_other_notebook(tell, results):
    text, _ = tell("discriminability", {k: v for k, v in results.items() if not k.startswith("20_")})
    assert text.endswith("our test needs all three.")
    assert "exactly two classes" in tell("discriminability")[0]


def test_the_bold_numbers_that_could_be_missed_have_less_than_the_usual_power(tell):
    said, _, rest = tell("bold_cells")[0].partition(": a paper that is right")
    chances = re.findall(r"(?:to|of) (\d+) %", said)
    assert rest
    assert len(chances) == 2
    assert max(map(int, chances)) < 80


def test_a_missing_result_is_told(tell):
    with pytest.raises(ValueError, match="compute it with"):
        tell("two_networks", {})

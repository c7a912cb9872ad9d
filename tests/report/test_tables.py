"""The paper beside ours: words, numbers, notes, and the same HTML every time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from campanion.report.tables import compare, paper_vs_ours, run_name, table_per_run
from campanion.results.store import Provenance

RECORD = dict.fromkeys(Provenance.model_fields, "x") | {
    "mode": "full", "data": "imagenet-val", "n": 500, "weights": {"name": "resnet18", "accuracy": "top-1 71.8 %"},
    "minutes": 62.0, "versions": {"torch": "2.15.0"},
}  # fmt: skip


def run(rows, model="resnet18", data="imagenet-val", mode="full") -> dict:
    listed = [{"method": m, "metric": k, "mean": v, "low": lo, "high": hi, "n": 500} for m, k, v, lo, hi in rows]
    record = {**RECORD, "mode": mode, "data": data}
    return {"model": model, "data": data, "mode": mode, "rows": listed, "differences": [], "provenance": record}


@pytest.fixture
def result() -> dict:
    rows = [
        ("fd_cam", "insertion", 0.55, 0.54, 0.56),
        ("grad_cam", "insertion", 0.61, 0.60, 0.62),
        ("grad_cam", "deletion", 0.05, 0.04, 0.06),
        ("lrp_cam", "insertion", 0.5, 0.49, 0.51),
        ("lrp_cam", "iic", 20.0, 19.0, 21.0),
    ]
    return {"notebook": "21", "schema": 1, "runs": [run(rows)]}


def cell(table, **where):
    frame = table.frame
    for k, v in where.items():
        frame = frame[frame[k] == v]
    assert len(frame) == 1
    return frame.iloc[0]


def test_words_and_numbers(result):
    table = paper_vs_ours("fd", "table1", result, model="resnet18")
    within = cell(table, method="fd_cam", metric="insertion")
    assert (within.paper, within.ours, within.n, within.word) == ("0.5534", 0.55, 500, "within interval")
    assert within.difference == pytest.approx(0.55 - 0.5534)
    assert cell(table, method="grad_cam", metric="insertion").word == "higher"
    assert cell(table, method="grad_cam", metric="deletion").word == "lower"
    assert cell(table, method="score_cam", metric="insertion").word == "not run"
    extra = cell(table, method="lrp_cam")  # and only for a metric that the paper prints
    assert (extra.metric, extra.word) == ("insertion", "not in paper")
    assert len(table.frame) == 24 + 1
    assert len(paper_vs_ours("fd", "table1", result, model="resnet18", extra_rows=False).frame) == 24


@pytest.mark.parametrize(
    ("printed", "ours", "word"),
    [
        ("0.5534", (0.55, 0.5534, 0.56), "within interval"),
        ("42.51", (42.513, 42.513, 42.513), "as printed"),
        ("23.25", (23.521, 23.521, 23.521), "higher"),
        ("6.3", (5.78, 5.78, 5.78), "lower"),
        ("81.20", (80.0, None, None), "lower"),
    ],
)
def test_compare(printed, ours, word):
    assert compare(printed, *ours) == word


def test_html_is_wellformed_the_same_each_time_and_without_ids(result):
    note = "ResNet18 instead of VGG16 & <500> images"
    html = paper_vs_ours("fd", "table1", result, model="resnet18", notes=[note])._repr_html_()
    assert html == paper_vs_ours("fd", "table1", result, model="resnet18", notes=[note])._repr_html_()
    tree = ET.fromstring(f"<div>{html}</div>")
    assert " id=" not in html
    assert "color" not in html  # the comparison is a word
    assert len(tree.findall(".//th[@scope='col']")) == 7
    assert len(tree.findall(".//tbody")) == 3
    assert "within interval" in html
    assert "Unlike the paper: ResNet18 instead of VGG16 &amp; &lt;500&gt; images" in html
    assert "62 min" in html


def test_text_shows_the_same(result):
    text = str(paper_vs_ours("fd", "table1", result, model="resnet18", notes=["other weights"]))
    assert text.startswith("FD-CAM Table I: the paper and ours (resnet18)\n")
    assert re.search(r"FD-CAM +0\.5534 +0\.5500 +0\.5400 to 0\.5600 +500 +-0\.0034 +within interval", text)
    assert re.search(r"Score-CAM +0\.5422 +- +- +- +- +not run", text)
    assert "Insertion AUC on imagenet-val (higher is better)" in text
    assert "Unlike the paper: other weights" in text
    assert text.splitlines()[-1].startswith("full run on imagenet-val, N = 500; weights resnet18")


def test_several_data_sets_fill_their_columns():
    runs = [
        run([("lift_cam", "shap_cosine", v, v - 0.01, v + 0.01)], data=d)
        for v, d in ((0.98, "imagenet-val"), (0.9, "coco-val2017"))
    ]
    table = paper_vs_ours("lift", "table2", {"runs": runs}, model="resnet18")
    assert cell(table, method="lift_cam", data="imagenet-val").word == "within interval"
    assert cell(table, method="lift_cam", data="coco-val2017").word == "lower"
    assert cell(table, method="lift_cam", data="voc2007").word == "not run"
    assert len(table.provenance) == 2


def test_models_of_the_printed_rows_and_stand_ins():
    sizes = [("plain", "parameters", 42.513, 42.513, 42.513), ("lfi_cam", "parameters", 62.039, 62.039, 62.039)]
    table = paper_vs_ours("lfi", "table3", {"runs": [run(sizes, model="resnet101")]})
    row = cell(table, method="lfi_cam", model="resnet101", metric="parameters")
    assert (row.label, row.word) == ("ResNet101+LFI-CAM", "as printed")
    assert cell(table, method="lfi_cam", model="resnet50", metric="parameters").word == "not run"
    assert any("23.52" in line for line in table.provenance)  # the misprint is told
    errors = {"runs": [run([("lfi_cam", "top1_error", 9.0, 8.0, 10.0)], model="resnet20", data="cifar10")]}
    with pytest.raises(ValueError, match=r"resnet110, resnext29.*'resnet20'"):
        paper_vs_ours("lfi", "table1", errors, model="resnet20")
    table = paper_vs_ours("lfi", "table1", errors, model={"resnet110": "resnet20"})
    assert cell(table, method="lfi_cam", model="resnet20", data="cifar10").word == "higher"
    stand_in = {"runs": [run([("lfi_cam", "top1_error", 9.0, 8.0, 10.0)], data="imagenette96")]}
    table = paper_vs_ours("lfi", "table2", stand_in, data={"stl10": "imagenette96"})
    assert cell(table, method="lfi_cam", data="imagenette96").word == "lower"
    with pytest.raises(ValueError, match="resnet18 on imagenette96: name one"):
        paper_vs_ours("lfi", "table2", stand_in)


def test_quick_runs_are_shown_once_and_named():
    quick = {"runs": [run([("lift_cam", "shap_cosine", 0.9, 0.8, 0.95)], data="scenes", mode="quick")]}
    table = paper_vs_ours("lift", "table2", quick, model="resnet18")
    assert len(table.frame) == 6
    assert "says nothing about the paper" in table.provenance[0]


def test_a_table_for_each_run_and_a_stand_in_that_says_so(result):
    on_voc = {**result["runs"][0], "data": "voc2007", "model": "voc_mlp"}
    shown = table_per_run("fd", "table1", {**result, "runs": [result["runs"][0], on_voc]}, notes=["other weights."])
    assert list(shown) == [run_name(result["runs"][0]), "voc_mlp on voc2007"]
    other = shown["voc_mlp on voc2007"]
    assert set(other.frame.data) == {"voc2007"}
    assert "the paper's table does not have" in " ".join(other.notes)
    assert shown[run_name(result["runs"][0])].notes == ("other weights.",)

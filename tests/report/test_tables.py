"""A printed table's numbers beside those of a run, as a frame."""

from __future__ import annotations

import pandas as pd
import pytest
from campanion.report.tables import beside


def run(rows, model="resnet18", data="imagenet-val", mode="full") -> dict:
    listed = [{"method": m, "metric": k, "mean": v, "low": lo, "high": hi, "n": 500} for m, k, v, lo, hi in rows]
    return {"model": model, "data": data, "mode": mode, "rows": listed, "differences": []}


@pytest.fixture
def measured() -> dict:
    rows = [
        ("fd_cam", "insertion", 0.55, 0.54, 0.56),
        ("grad_cam", "deletion", 0.05, 0.04, 0.06),
        ("lrp_cam", "insertion", 0.5, 0.49, 0.51),
        ("lrp_cam", "iic", 20.0, 19.0, 21.0),
    ]
    return run(rows)


def cell(frame, **where):
    for k, v in where.items():
        frame = frame[frame[k] == v]
    (found,) = frame.itertuples()
    return found


def test_every_printed_number_has_a_row_and_ours_where_there_is_one(measured):
    frame, notes = beside("fd", "table1", measured)
    row = cell(frame, method="fd_cam", metric="insertion")
    assert (row.paper, row.ours, row.low, row.high, row.n) == ("0.5534", 0.55, 0.54, 0.56, 500)
    assert pd.isna(cell(frame, method="score_cam", metric="insertion").ours)
    assert len(frame) == 24 + 1
    assert notes == []


def test_ours_that_the_paper_does_not_print_follow_for_its_metrics_alone(measured):
    frame, _ = beside("fd", "table1", measured)
    (extra,) = frame[frame["method"] == "lrp_cam"].itertuples()
    assert (extra.metric, extra.ours) == ("insertion", 0.5)
    assert pd.isna(extra.paper)


def test_another_form_of_a_printed_method_is_told_apart():
    frame, _ = beside("lift", "table2", run([("xgrad_cam", "shap_cosine", 0.6, 0.5, 0.7)]))
    assert cell(frame, method="xgrad_cam").label == "XGrad-CAM (xgrad_cam)"


def test_a_run_stands_beside_its_own_data_set_or_says_that_it_does_not(measured):
    on_coco = run([("lift_cam", "shap_cosine", 0.9, 0.89, 0.91)], data="coco-val2017")
    frame, notes = beside("lift", "table2", on_coco)
    assert cell(frame, method="lift_cam").paper == "0.924"
    assert notes == []
    _, notes = beside("fd", "table1", {**measured, "data": "voc2007"})
    assert "Measured on VOC2007, which the paper's table lacks; beside it stands ImageNet." in notes
    frame, notes = beside("lfi", "fig6", run([("abn", "iou", 30.6, 20.2, 41.0)], "resnet20", "cifar10"))
    assert cell(frame, method="abn").paper == "30"
    assert not any("does not have" in note for note in notes), "the figure is a mean over data sets"


def test_the_printed_network_is_the_runs_own_or_the_one_it_stands_for():
    sizes = [("plain", "parameters", 42.513, 42.513, 42.513), ("lfi_cam", "parameters", 62.039, 62.039, 62.039)]
    frame, notes = beside("lfi", "table3", run(sizes, model="resnet101"))
    assert cell(frame, method="lfi_cam", metric="parameters").label == "ResNet101+LFI-CAM"
    assert not any("23.52" in note for note in notes)
    _, notes = beside("lfi", "table3", run(sizes, model="resnet50"))
    assert any("23.52" in note for note in notes), "the misprint is told"
    errors = run([("lfi_cam", "top1_error", 9.0, 8.0, 10.0)], model="resnet20", data="cifar10")
    with pytest.raises(ValueError, match=r"resnet110, resnext29.*'resnet20'"):
        beside("lfi", "table1", errors)
    frame, _ = beside("lfi", "table1", errors, {"resnet110": "resnet20"})
    assert cell(frame, method="lfi_cam").paper == "5.73"


def test_a_quick_run_says_what_it_is():
    quick = run([("lift_cam", "shap_cosine", 0.9, 0.8, 0.95)], data="scenes", mode="quick")
    frame, notes = beside("lift", "table2", quick)
    assert cell(frame, method="lift_cam").ours == 0.9
    assert "says nothing about the paper" in notes[0]

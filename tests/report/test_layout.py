"""Tables in the paper's layout: printed beside ours, ranked only among equal images; differences between methods."""

from __future__ import annotations

import pytest
from campanion.report import layout
from campanion.results import load_result

MODELS = ("voc_vgg16@voc2007", "voc_mlp@voc2007", "voc_linear@voc2007")


def row(method, metric, mean, half, n=100):
    return {"method": method, "metric": metric, "mean": mean, "low": mean - half, "high": mean + half, "n": n}


def difference(method, reference, metric, mean, half=0.5, n=100):
    ends = {"low": mean - half, "high": mean + half}
    return {"method": method, "reference": reference, "metric": metric, "mean": mean, "n": n, **ends}


@pytest.fixture
def run():
    (run,) = (r for r in load_result("22_fd_table2_pointing_game")["runs"] if r["model"] == "voc_mlp")
    few = difference("score_cam", "fd_cam", "pointing_accuracy", -2.0, n=10)
    rows = [
        row("grad_cam", "pointing_accuracy", 70.0, 2.0), row("fd_cam", "pointing_accuracy", 71.5, 2.0),
        row("score_cam", "pointing_accuracy", 90.0, 9.0, n=10),
    ]  # fmt: skip
    differences = [few, difference("grad_cam", "fd_cam", "pointing_accuracy", -1.5)]
    return {**run, "rows": rows, "differences": differences}


def cells(sheet):
    (heads, rows), *_ = sheet.blocks
    return heads, {row[0]: row[1] for row in rows}


def test_a_cell_has_the_printed_number_ours_and_half_of_the_interval(run):
    heads, found = cells(layout.as_printed("fd", "table2", [run], reference="fd_cam"))
    assert heads[0] == "ResNet-18 + hidden layers"
    assert "N = 100" in heads[1]
    assert found["FD-CAM"] == ("83.70 / 71.50 ± 2.00", "b")
    assert found["Grad-CAM"] == ("81.20 / 70.00 ± 2.00", "i")
    assert found["Ablation-CAM"] == "58.19 / -"


def test_fewer_images_are_said_and_not_ranked(run):
    _, found = cells(layout.as_printed("fd", "table2", [run], reference="fd_cam"))
    assert found["Score-CAM"] == ("78.46 / 90.00 ± 9.00 (N = 10; FD-CAM there 92.00)", "")


def test_a_mean_over_fewer_images_than_its_row_says_so():
    rows = [row("fd_cam", "gap", 39.5, 3.0, n=264), row("fd_cam", "follows", 83.3, 9.0, n=36)]
    run = {"model": "voc_mlp", "data": "voc2007", "rows": rows}
    (_, cells), *_ = layout.means([run], {"gap": ("gap", 1), "follows": ("follows", 1)}, "means").blocks
    assert cells == [["FD-CAM", "264", "39.5 [36.5, 42.5]", "83.3 [74.3, 92.3] (N = 36)"]]


def test_lower_is_better_where_it_is(run):
    run = {
        **run,
        "data": "imagenet-val",
        "rows": [row("grad_cam", "deletion", 0.2, 0.1), row("fd_cam", "deletion", 0.1, 0.1)],
    }
    _, found = cells(layout.as_printed("fd", "table1", [run]))
    assert found["FD-CAM"][1] == "b"


def test_notes_and_provenance_stand_once(run):
    sheet = layout.as_printed("fd", "table2", [run, {**run, "model": "voc_linear"}], ["other weights."])
    assert len(sheet.blocks) == 2
    assert sum("other weights." in line for line in sheet.foot) == 1
    assert str(sheet).count("other weights.") == sheet._repr_html_().count("other weights.") == 1


def test_rows_can_be_chosen_and_named(run):
    sheet = layout.as_printed("fd", "table2", [run], methods=("fd_cam",), titles={"fd_cam": "its own form"})
    assert list(cells(sheet)[1]) == ["its own form"]


def test_differences_are_of_the_method_whatever_way_they_are_stored(run):
    reverse = [difference("fd_cam", "grad_cam", "pointing_accuracy", 1.5)]
    for stored in (run["differences"], reverse):
        found = layout.difference_rows({**run, "differences": stored}, "pointing_accuracy", "fd_cam")
        assert found["grad_cam"] == {"mean": 1.5, "low": 1.0, "high": 2.0, "n": 100}


def test_differences_whose_interval_excludes_0_are_bold(run):
    sheet = layout.differences([run], "pointing_accuracy", "fd_cam", ("grad_cam", "xgrad_cam"))
    assert cells(sheet)[1] == {"Grad-CAM": ("+1.5 [1.0, 2.0], 100", "b")}


def test_runs_follow_the_models_and_missing_ones_are_named():
    runs = load_result("22_fd_table2_pointing_game")["runs"]
    assert [r["model"] for r in layout.in_order(runs, MODELS)] == ["voc_vgg16", "voc_mlp", "voc_linear"]
    assert layout.not_run(runs, MODELS) == ""
    assert layout.not_run(runs, [*MODELS, "vgg16"]) == "Not run here: VGG16 on ImageNet."
    assert layout.not_run([{**runs[0], "mode": "quick"}], MODELS) == "", "a quick run has other networks"


def test_html_escapes_what_it_shows():
    sheet = layout.Sheet("a < b", [(("<head>", "x"), [["<i>", ("1 < 2", "b")]])], ["c & d"])
    html = sheet._repr_html_()
    for part in ("a &lt; b", "&lt;head&gt;", "<b>1 &lt; 2</b>", "c &amp; d"):
        assert part in html
    assert "**1 < 2**" in str(sheet)


def test_the_sign_of_the_best_is_on_our_number_alone():
    """The paper's best may be another than ours."""
    sheet = layout.Sheet("", [(("", "x"), [["a", ("4.91 / 5.73 \u00b1 0.2", "b")], ["b", ("1 / 2", "i")]])])
    assert "4.91 / **5.73 \u00b1 0.2**" in str(sheet)
    assert "4.91 / <b>5.73 \u00b1 0.2</b>" in sheet._repr_html_()
    assert "1 / <i>2</i>" in sheet._repr_html_()


def test_a_network_of_ours_stands_for_one_printed_network_alone():
    (run,) = load_result("11_lfi_table1_cifar")["runs"]
    sheet = layout.as_printed("lfi", "table1", [run], stands={"resnet110": run["model"]})
    heads, found = cells(sheet)
    assert heads[1].startswith("Top-1 error (%)")
    own = {r["method"]: r["mean"] for r in run["rows"] if r["metric"] == "top1_error"}
    first = {"ResNet110": own["plain"], "ResNet110+ABN": own["abn"], "ResNet110+LFI-CAM": own["lfi_cam"]}
    for name, mean in first.items():
        said = found[name] if isinstance(found[name], str) else found[name][0]
        assert f"/ {mean:.2f}" in said
    assert not any("ResNeXt" in name for name in found)


def test_a_counted_size_has_neither_width_nor_n():
    listed = [r for r in load_result("13_lfi_table3_imagenet_size")["runs"] if r["model"] == "resnet50"]
    heads, found = cells(layout.as_printed("lfi", "table3", listed, methods=("plain", "abn", "lfi_cam")))
    assert "N =" not in heads[1]
    assert found["ResNet50"][0] == "23.25 / 23.52"


def test_a_number_without_an_interval_stands_alone(run):
    """Two networks are a mean without an interval: results keep None for it."""
    run["rows"][0] |= {"low": None, "high": None}
    _, found = cells(layout.as_printed("fd", "table2", [run], reference="fd_cam"))
    assert found["Grad-CAM"] == ("81.20 / 70.00", "i")
    assert found["FD-CAM"] == ("83.70 / 71.50 ± 2.00", "b")


def test_an_interval_of_few_images_stays_where_a_mean_can_be():
    """Student's t of a few shares reaches below 0; a stored result may hold such an end."""
    row = {"metric": "empty", "mean": 0.002, "low": -0.002, "high": 0.006, "n": 60}
    assert layout.mean(row, 1, 100) == "0.2 [0.0, 0.6]"
    assert layout.mean(row | {"metric": "early_deletion", "mean": 0.6, "low": -0.1, "high": 1.3}, 1) == "0.6 [0.0, 1.0]"
    assert layout.mean(row | {"metric": "size_min", "mean": 1.0, "low": -1.0, "high": 3.0}, 0) == "1 [-1, 3]"

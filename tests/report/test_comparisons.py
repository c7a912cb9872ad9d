"""Figures of compared methods and of one image's maps hold what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from campanion.report import colours, comparisons, figures, networks
from campanion.report.papers import published
from campanion.results import load_result

METHODS = ("grad_cam", "layer_cam", "fd_cam")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def runs():
    return load_result("22_fd_table2_pointing_game")["runs"]


def marks(ax):
    """Mean values drawn with an interval."""
    return [float(x) for c in ax.containers for x in np.atleast_1d(c.lines[0].get_xdata())]


def test_differences_and_the_printed_ones_are_drawn(runs):
    fig = comparisons.differences_figure(runs, ["pointing_accuracy"], "fd_cam", METHODS, ("fd", "table2"))
    (ax,) = fig.axes
    expected = [
        comparisons.difference_rows(run, "pointing_accuracy", "fd_cam")[m]["mean"] for run in runs for m in METHODS[:2]
    ]
    assert sorted(marks(ax)) == pytest.approx(sorted(expected))
    value = published("fd", "table2").set_index("method").number
    rings = [float(x) for line in ax.lines if line.get_markersize() == 8 for x in line.get_xdata()]
    assert rings == pytest.approx([value["fd_cam"] - value[m] for m in METHODS[:2]])


def test_means_are_drawn_beside_chance(runs):
    titles, chance = {"pointing_accuracy": "hits (%)"}, {"pointing_accuracy": 31.7}
    fig = comparisons.means_figure(runs, titles, METHODS, chance=chance)
    rows = {(r["method"], r["metric"]): r["mean"] for run in runs for r in run["rows"]}
    drawn = marks(fig.axes[0])
    assert len(drawn) == len(runs) * len(METHODS)
    assert rows["fd_cam", "pointing_accuracy"] in drawn
    assert any(list(line.get_xdata()) == [31.7, 31.7] for line in fig.axes[0].lines)


def test_curves_are_less_the_reference():
    (run, *_) = load_result("21_fd_table1_faithfulness")["runs"]
    fig = comparisons.curves_figure([run], "grad_cam", "fd_cam")
    means = run["extra"]["insertion_curve"]
    lines = {line.get_label(): line.get_ydata() for line in fig.axes[0].lines}
    assert "Grad-CAM" not in lines
    assert np.allclose(lines["FD-CAM"], np.subtract(means["fd_cam"], means["grad_cam"]))
    fewer = {**run, "rows": [{**row, "n": 3} if row["method"] == "xgrad_cam" else row for row in run["rows"]]}
    (ax, _) = comparisons.curves_figure([fewer], "grad_cam", "fd_cam").axes
    drawn = {line.get_label() for line in ax.lines if line.get_label()[0] != "_"}
    assert drawn == {name for name in lines if name[0] != "_"} - {"XGrad-CAM"}  # its mean is of other images


def test_the_bias_is_drawn_for_every_network_and_rule():
    runs = load_result("24_fd_bias")["runs"]
    fig = comparisons.bias_figure(runs, {"negative": "negative (%)"})
    ticks = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    assert ticks[:2] == ["0", "0.1"]
    assert ticks[-1] == "Grad-CAM"
    assert len(fig.axes[0].containers) == 2 * len(runs)


def test_a_network_has_one_colour_and_mark_in_every_figure():
    runs = load_result("24_fd_bias")["runs"]
    figures = [comparisons.bias_figure(order, {"ad": "drop"}) for order in (runs, runs[::-1])]
    figures += [comparisons.means_figure(order, {"ad": "drop"}, ["b=0.5"]) for order in (runs, runs[1:])]
    looks = {}
    for fig in figures:
        for mark in fig.legends[0].legend_handles:
            name = mark.get_label().split(",")[0]
            looks.setdefault(name, set()).add((mark.get_color(), mark.get_marker()))
    assert len(looks) == len(runs)
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == len(runs), "two networks look alike"


def test_forms_of_a_method_share_its_colour_and_not_its_line():
    looks = colours.lines(["xgrad_cam", "xgrad_cam:lift", "shap_cam_10", "fd_cam"])
    plain, form = looks["xgrad_cam"], looks["xgrad_cam:lift"]
    assert plain["color"] == form["color"]
    assert plain["ls"] != form["ls"]
    assert looks["shap_cam_10"]["color"] == colours.METHODS["shap_cam"]
    drawn = [(n.colour, n.mark) for n in networks.NETWORKS.values() if n.mark != colours.OTHER.mark]
    for palette in (list(colours.METHODS.values()), list(colours.ATTENTION.values()), drawn):
        assert len(set(palette)) == len(palette)


def test_the_legend_counts_the_images_of_the_metric(runs):
    (run,) = (r for r in runs if r["model"] == "voc_mlp")
    rows = {r["method"]: r["n"] for r in run["rows"] if r["metric"] == "own_energy"}
    fig = comparisons.means_figure([run], {"own_energy": "energy"}, ["fd_cam", "score_cam"])
    (text,) = fig.legends[0].get_texts()
    assert rows["score_cam"] < rows["fd_cam"] < run["provenance"]["n"]
    assert text.get_text().endswith(f"N = {rows['score_cam']} to {rows['fd_cam']}")


def test_a_grid_shows_images_texts_maps_and_maps_over_images():
    image, map, signed = np.zeros((8, 12, 3)), np.eye(4), np.eye(4) - 2
    rows = [
        [("image", image), ("a map", map), ("over", (image, map))],
        [("more", "59 more"), ("both", signed), ("m", -map)],
    ]
    fig = figures.image_grid(rows, ["one", "two"], "a network", cmap="jet")
    assert [ax.get_title() for ax in fig.axes] == ["image", "a map", "over", "more", "both", "m"]
    assert fig.axes[1].images[0].get_cmap().name == "jet"
    assert len(fig.axes[2].images) == 2
    assert fig.axes[3].texts[0].get_text() == "59 more"
    assert [ax.images[0].get_clim() for ax in fig.axes[4:]] == [(-2, 2), (-1, 1)], "one negative map: all signed"
    assert fig.axes[3].get_ylabel() == "two"

"""Knobs turn a photograph where the network's weights are here, and a scene where they are not."""

from __future__ import annotations

import pytest
from campanion.explorer import Knobs, photograph_bench, views


def test_without_weights_a_scene_in_a_network_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    bench = photograph_bench("chicken", "voc_vgg16")
    assert (bench.name, bench.model.weights["name"]) == ("scene 28", "scenes_vgg")
    assert photograph_bench("chicken", "resnet50", stand_in=("scenes_resnet", 12)).name == "scene 12"


def test_a_quick_run_needs_no_weights_even_where_they_are():
    assert photograph_bench("chicken", "voc_vgg16", "quick").model.weights["name"] == "scenes_vgg"


@pytest.mark.real_data
def test_with_weights_the_photograph_in_the_network_itself(real_weights):
    bench = photograph_bench("chicken", "voc_vgg16")
    assert (bench.name, bench.model.class_names[bench.predicted]) == ("chicken", "bird")


def a_method(bench, method):
    weights = bench.explain(method).weights
    return views.row(bench, (method, bench.explain(method).map), ("weights", lambda ax: ax.hist(weights)))


@pytest.mark.parametrize(
    ("draw", "first", "second"),
    [(views.pixels, {"share": 5}, {"share": 60}), (a_method, {"method": "grad_cam"}, {"method": "fd_cam"})],
    ids=["pixels", "a row of a page's own"],
)
def test_what_a_notebook_turns_changes_what_it_shows(draw, first, second):
    bench = photograph_bench("chicken", "voc_vgg16", "quick")
    ((name, low),), ((_, high),) = first.items(), second.items()
    knobs = Knobs(lambda **values: draw(bench, **values), [first, second], **{name: [low, high]})
    knobs.refresh()
    before = knobs.image.value
    knobs.controls[name].value = high
    knobs.refresh()
    assert knobs.status.value == ""
    assert bytes(before[:4]) == b"\x89PNG"
    assert knobs.image.value != before


def test_a_row_has_its_image_first_and_a_title_over_each_cell():
    bench = photograph_bench("chicken", "voc_vgg16", "quick")
    map = bench.explain("grad_cam").map
    drawn = []
    first, second, third = views.row(bench, ("a map", map), ("a plot", drawn.append)).axes
    assert first.get_title().startswith(bench.model.class_names[bench.predicted])
    assert (second.get_title(), third.get_title()) == ("a map", "a plot")
    assert drawn == [third]
    assert len(views.row(bench, ("a map", map), image=False).axes) == 1

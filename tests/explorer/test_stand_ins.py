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


@pytest.mark.parametrize(
    ("draw", "first", "second"),
    [
        (views.bias, {"b": 0.0}, {"b": 1.0}),
        (views.group, {"channel": 0}, {"channel": 5}),
        (views.orderings, {"count": 1}, {"count": 50}),
        (views.switched, {"kept": 10}, {"kept": 90}),
        (views.pixels, {"share": 5}, {"share": 60}),
    ],
    ids=["bias", "group", "orderings", "switched", "pixels"],
)
def test_what_a_notebook_turns_changes_what_it_shows(draw, first, second):
    bench = photograph_bench("chicken", "voc_vgg16", "quick")
    ((name, low),), ((_, high),) = first.items(), second.items()
    knobs = Knobs(lambda **values: draw(bench, **values), [first, second], **{name: (low, high)})
    knobs.refresh()
    before = knobs.image.value
    knobs.controls[name].value = high
    knobs.refresh()
    assert knobs.status.value == ""
    assert bytes(before[:4]) == b"\x89PNG"
    assert knobs.image.value != before

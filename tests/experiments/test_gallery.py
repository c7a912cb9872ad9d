"""Images explained and kept: photographs, maps packed and read again, rows measured once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, load_model, metrics
from campanion.data.scenes import scene
from campanion.errors import MissingResult
from campanion.experiments import gallery
from campanion.experiments.gallery import result_of_photographs
from campanion.results.rows import read_rows, rows_path, write_rows

METHODS = ("grad_cam", "fd_cam:bias=0")


@pytest.fixture(scope="module")
def network():
    return load_model("scenes_resnet")


@pytest.fixture(scope="module")
def drawn():
    return scene(28, size=96, n_objects=2)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Rows of the small network, which stands in for an ImageNet one: a photograph shown as a disc or a ring."""
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path))
    return {"camera": ("disc", "ring")}


@pytest.mark.parametrize("name", gallery.PHOTOGRAPHS)
def test_photographs_come_with_the_package(name):
    image = gallery.photograph(name)
    assert image.mode == "RGB"
    assert min(image.size) >= 300


def test_the_classes_of_the_photographs_are_imagenets():
    names = load_model("squeezenet1_1", weights="random").class_names
    assert {c for classes in gallery.PHOTOGRAPHS.values() for c in classes} <= set(names)


def test_rows_say_what_explain_and_the_metrics_say(network, drawn):
    names = [network.class_names[c] for c in drawn.labels]
    rows = gallery.measure(network, {"a": drawn.image}, {"a": names}, METHODS)
    assert len(rows) == len(names) * len(METHODS)
    image = network.preprocess(drawn.image).unsqueeze(0)
    for target, name in zip(drawn.labels, names, strict=True):
        expected = explain(network, image, target, methods=("grad_cam", "fd_cam"), fd_cam={"bias": 0})
        part = rows[rows["class_name"] == name]
        assert part["probability"].iloc[0] == pytest.approx(network(image).softmax(1)[0, target].item(), abs=1e-6)
        for row, wanted in zip(part.itertuples(), expected.maps.values(), strict=True):
            kept = gallery.unpacked(row, tuple(wanted.shape[1:]))
            assert torch.allclose(kept, wanted, atol=2e-3)  # float16
            curves = metrics.insertion_deletion(network, image, wanted, torch.tensor([target]), step=gallery.STEP)
            assert row.overall == pytest.approx(curves.overall.item(), abs=1e-5)
            assert np.allclose(row.deletion_curve, curves.deletion_curve[0], atol=1e-4)
            steps = [np.abs(np.diff(wanted[0].numpy(), axis=axis)) for axis in (0, 1)]
            assert row.variation == pytest.approx(np.concatenate([s.ravel() for s in steps]).mean(), abs=1e-6)


def test_rank_counts_the_classes_that_are_likelier(network, drawn):
    rows = gallery.measure(network, {"a": drawn.image}, {"a": network.class_names}, ["grad_cam"])
    assert sorted(rows["rank"]) == list(range(1, len(network.class_names) + 1))
    assert rows.sort_values("rank")["probability"].is_monotonic_decreasing


def test_large_maps_are_kept_smaller_and_dead_ones_stay_zero():
    raw = torch.rand(224, 224)
    row = gallery.packed(raw)
    assert (row["height"], row["width"], len(row["pixels"])) == (112, 112, 2 * 112 * 112)
    wanted = raw.reshape(112, 2, 112, 2).mean((1, 3)) / raw.reshape(112, 2, 112, 2).mean((1, 3)).max()
    assert np.allclose(np.frombuffer(row["pixels"], "<f2").reshape(112, 112), wanted, atol=1e-3)
    zeros = gallery.packed(torch.zeros(7, 7))
    assert not gallery.unpacked(pd.Series(zeros)).any()


def test_stacked_follows_the_rows(network, drawn):
    names = [network.class_names[c] for c in drawn.labels]
    rows = gallery.measure(network, {"a": drawn.image}, {"a": names}, METHODS)
    maps = gallery.stacked(rows, (64, 64))
    assert list(maps) == list(METHODS)
    second = rows[(rows["class_name"] == names[1]) & (rows["method"] == METHODS[1])]
    assert torch.equal(maps[METHODS[1]][1], gallery.unpacked(second.iloc[0], (64, 64))[0])
    assert len(gallery.captions(rows)) == len(names)
    assert gallery.captions(rows)[0].startswith(names[0])


def test_rows_make_a_result(network, drawn, kept):
    rows = gallery.measure(network, {"a": drawn.image}, {"a": [network.class_names[c] for c in drawn.labels]}, METHODS)
    answer = gallery.summary(rows, ["overall", "variation"], "grad_cam")
    about = {"device": "cpu", "settings": {"step": gallery.STEP}}
    (run,) = result_of_photographs("26_test", "quick", {"scenes_resnet": answer}, **about)["runs"]
    assert (run["model"], run["data"], run["mode"], run["provenance"]["n"]) == ("scenes_resnet", "scenes", "quick", 1)
    means = {(row["method"], row["metric"]): row["mean"] for row in run["rows"]}
    for (method, metric), mean in means.items():
        assert mean == pytest.approx(rows[rows["method"] == method][metric].mean(), rel=1e-5)
    assert {d["reference"] for d in run["differences"]} == {"grad_cam"}
    assert result_of_photographs("26_test", "cached", {})["runs"] == [run]


@pytest.mark.parametrize(
    ("classes", "methods", "sentence"),
    [({}, METHODS, "Say which classes"), ({"a": ["cat"]}, METHODS, "'cat'"), ({"a": ["disc"]}, ["fd_cm"], "fd_cam")],
)
def test_bad_requests_are_named(network, drawn, classes, methods, sentence):
    with pytest.raises(ValueError, match=sentence):
        gallery.measure(network, {"a": drawn.image}, classes, methods)


def test_what_was_measured_is_not_measured_again(kept, monkeypatch):
    first = gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept)
    real, asked = gallery.measure, []

    def counted(model, images, classes, methods, *settings):
        asked.append((classes, methods))
        return real(model, images, classes, methods, *settings)

    monkeypatch.setattr(gallery, "measure", counted)
    both = gallery.photographs("scenes_resnet", "full", ["layer_cam", "grad_cam"], kept)
    assert asked == [({"camera": ["disc"]}, ["layer_cam"]), ({"camera": ["ring"]}, ["layer_cam"])]
    assert list(both["method"]) == ["layer_cam", "grad_cam"] * 2
    assert list(first["overall"]) == list(both[both["method"] == "grad_cam"]["overall"])
    again = gallery.photographs("scenes_resnet", "cached", ["grad_cam"], kept)
    assert list(again["class_name"]) == ["disc", "ring"]
    assert len(asked) == 2


def test_rows_go_on_in_the_precision_that_they_were_begun_in(kept):
    gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept, curves=False)
    path = rows_path("photographs", "scenes_resnet", "gallery")
    rows, settings = read_rows(path)
    assert settings["precision"] == "bfloat16"
    del settings["precision"]  # as rows of before say it: float32
    write_rows(rows, path, settings)
    both = gallery.photographs("scenes_resnet", "full", ["grad_cam", "layer_cam"], kept, curves=False)
    assert read_rows(path)[1] == settings
    assert len(both) == 2 * len(rows)


def test_maps_without_curves_are_enough_where_none_are_wanted(kept):
    plain = gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept, curves=False)
    assert "insertion" not in plain
    with pytest.raises(MissingResult, match="grad_cam"):
        gallery.photographs("scenes_resnet", "cached", ["grad_cam"], kept)
    both = gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept)
    assert both["insertion"].notna().all()
    assert list(both["pixels"]) == list(plain["pixels"])
    assert len(read_rows(rows_path("photographs", "scenes_resnet", "gallery"))[0]) == len(both)


def test_other_weights_are_measured_anew(kept):
    gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept)
    path = rows_path("photographs", "scenes_resnet", "gallery")
    rows, settings = read_rows(path)
    write_rows(rows.assign(overall=9.0), path, settings | {"weights_sha256": "other"})
    assert (gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept)["overall"] < 1.1).all()


def test_cached_never_measures(kept):
    with pytest.raises(MissingResult, match=r"Mode 'full' measures"):
        gallery.photographs("scenes_resnet", "cached", ["grad_cam"], kept)
    gallery.photographs("scenes_resnet", "full", ["grad_cam"], kept)
    with pytest.raises(MissingResult, match="layer_cam"):
        gallery.photographs("scenes_resnet", "cached", ["layer_cam"], kept)
    with pytest.raises(ValueError, match="'quick'"):
        gallery.photographs("scenes_resnet", "quick", ["grad_cam"], kept)

"""SHAP-CAM with few orderings, its convergence, and that rows, results and library say the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, metrics
from campanion.data import open_dataset
from campanion.errors import MissingData, MissingResult
from campanion.experiments import costs
from campanion.experiments.convergence import (
    Convergence,
    as_black_box,
    committed,
    evaluate_convergence,
    figure,
    growing,
    needed,
)
from campanion.experiments.convergence import measure as measure_convergence
from campanion.experiments.evaluation import image_generator, settings_of
from campanion.experiments.orderings import (
    METRICS,
    Orderings,
    by_simulation,
    evaluate_orderings,
    measure,
    study_orderings,
)
from campanion.game.game import ChannelGame
from campanion.inference import fast
from campanion.models import load_model
from campanion.results.rows import read_rows, rows_path
from campanion.results.store import load_results

FEW = Orderings(counts=(1, 4), simulations=3)
SHORT = Convergence(reference=40, checkpoints=(1, 2, 7, 20), by_forwards=(1, 2))


@pytest.fixture(scope="module")
def scenes():
    return open_dataset("scenes", n=4)


@pytest.fixture(scope="module")
def model():
    return load_model("scenes_vgg")


@pytest.fixture(scope="module")
def linear():
    return load_model("scenes_resnet")


def test_rows_say_what_the_library_says_one_by_one(model, scenes):
    rows = measure(model, fast(model), scenes[0], Orderings(counts=(4,), simulations=1))
    image = model.preprocess(scenes[0].image)[None]
    e = explain(model, image, methods="shap_cam", orderings=4, generator=image_generator(0, scenes[0].id))
    expected = metrics.confidence(model, image, e.maps["shap_cam"], e.targets)
    assert len(rows) == 1
    assert rows[0]["method"] == "shap_cam_4"
    assert rows[0]["drop"] == pytest.approx(float(expected.average_drop), abs=1e-5)
    assert rows[0]["drop_in_deletion"] == pytest.approx(float(expected.add), abs=1e-5)
    assert rows[0]["probability"] == pytest.approx(float(expected.original), abs=1e-5)


def test_simulations_are_independent_and_repeat(model, scenes):
    rows = pd.DataFrame(measure(model, fast(model), scenes[0], FEW))
    assert list(rows.method.value_counts()) == [3, 3]
    assert rows[rows.method == "shap_cam_1"].drop_in_deletion.nunique() == 3
    again = pd.DataFrame(measure(model, fast(model), scenes[0], FEW))
    pd.testing.assert_frame_equal(rows, again)


def test_a_linear_head_owes_nothing_to_luck(linear, scenes):
    rows = pd.DataFrame(measure(linear, fast(linear), scenes[0], FEW))
    image = linear.preprocess(scenes[0].image)[None]
    e = explain(linear, image, methods="lift_cam")
    expected = metrics.confidence(linear, image, e.maps["lift_cam"], e.targets)
    assert rows["drop_in_deletion"].tolist() == pytest.approx([float(expected.add)] * 6, abs=1e-5)


def test_a_multi_label_network_is_scored_by_its_sigmoid(scenes):
    several = load_model("scenes_vgg")
    several.activation = "sigmoid"
    row = measure(several, fast(several), scenes[0], FEW)[0]
    logits = several(several.preprocess(scenes[0].image)[None]).detach()
    assert row["probability"] == pytest.approx(float(logits.sigmoid().max()), abs=1e-6)


def test_runs_are_resumed_and_protocols_not_mixed(model, scenes, out, monkeypatch):
    whole = evaluate_orderings(model, scenes, FEW, 3, name="whole").drop(columns="seconds")
    evaluate_orderings(model, scenes, FEW, 1)
    grown = evaluate_orderings(model, scenes, FEW, 3).drop(columns="seconds")
    pd.testing.assert_frame_equal(grown, whole)
    monkeypatch.setattr("campanion.experiments.orderings.measure", lambda *_: pytest.fail("measured a finished image"))
    evaluate_orderings(model, scenes, FEW, 2)
    with pytest.raises(ValueError, match="simulations"):
        evaluate_orderings(model, scenes, replace(FEW, simulations=2), 3)


def test_quick_study_has_every_method_of_the_claims(out, monkeypatch):
    monkeypatch.setattr("campanion.experiments.orderings.QUICK_IMAGES", 2)
    result = study_orderings("31_test", "quick", ["ignored"], protocol=Orderings(simulations=2))
    assert study_orderings("31_test", "cached", []) == result
    for run in result["runs"]:
        named = {r["method"] for r in run["rows"]}
        assert {"shap_cam_1", "shap_cam_10", "shap_cam_100", "lift_cam", "xgrad_cam:lift", "score_cam"} <= named
        rows, _ = read_rows(rows_path("scenes", run["model"], "orderings"))
        means = by_simulation(rows).set_index(["method", "simulation"])
        for row in run["rows"]:
            if row["method"].startswith("shap_cam"):
                each = run["extra"]["simulations"][row["method"]][row["metric"]]
                assert each == pytest.approx(means.loc[row["method"]][row["metric"]].tolist(), rel=1e-5, abs=1e-9)
                assert row["mean"] == pytest.approx(np.mean(each), rel=1e-4, abs=1e-9)
                assert row["sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-3, abs=1e-6)
        assert len(run["differences"]) == 3 * 9 * 8 / 2
    alike = {r["method"]: r["mean"] for r in result["runs"][0]["rows"] if r["metric"] == "add"}  # scenes_resnet
    assert alike["shap_cam_1"] == pytest.approx(alike["lift_cam"], abs=1e-3)


def test_bad_requests_are_told_before_any_work(out):
    with pytest.raises(ValueError, match="quick"):
        study_orderings("31_test", "qick", [])
    with pytest.raises(MissingResult, match="full"):
        study_orderings("31_test", "cached", [])
    with pytest.raises(ValueError, match="at least 1"):
        Orderings(counts=(0,))
    with pytest.raises(ValueError, match="divisible by 4"):
        Convergence(reference=10)
    with pytest.raises(ValueError, match="rising"):
        Convergence(checkpoints=(10, 5))


@pytest.mark.parametrize("antithetic", [False, True])
def test_growing_sums_are_one_call(model, scenes, antithetic):
    """One stream drawn in parts gives the mean and the standard error of one call with all of it."""
    game = ChannelGame.of(model, model.preprocess(scenes[0].image)[None])
    target = game.target(None)
    parts = dict(growing(game, target, [2, 4, 10, 24], torch.Generator().manual_seed(5), antithetic))
    whole = game.shapley(target, 24, torch.Generator().manual_seed(5), antithetic)
    assert list(parts) == [2, 4, 10, 24]
    assert torch.allclose(parts[24].values, whole.values, atol=1e-5)
    assert torch.allclose(parts[24].standard_error, whole.standard_error, rtol=1e-3, atol=1e-5)
    first = game.shapley(target, 2, torch.Generator().manual_seed(5), antithetic)
    assert torch.allclose(parts[2].values, first.values, atol=1e-6)


def test_black_box_values_are_the_matrix_products(model, linear, scenes):
    for network in (model, linear):
        game = ChannelGame.of(network, network.preprocess(scenes[0].image)[None])
        box = as_black_box(game)
        assert box.head.kind == "generic"
        rows = torch.rand(5, game.channels, generator=torch.Generator().manual_seed(0)) < 0.5
        assert torch.allclose(box.value(rows), game.value(rows), atol=1e-4)


def test_linear_head_needs_one_ordering(linear, scenes):
    rows = pd.DataFrame(measure_convergence(linear, scenes[0], SHORT))
    assert set(rows.estimator) == {"plain", "antithetic"}
    assert rows.distance.max() < 1e-5
    assert needed(rows)["largest"].tolist() == [1, 2]


def test_distances_are_what_the_standard_errors_say(model, scenes, out):
    """Over images, estimate - reference has the size that the two reported standard errors predict."""
    rows = evaluate_convergence(model, scenes, Convergence(reference=400, checkpoints=(20, 100)), 4)
    half = rows[rows.estimator == "split_half"].set_index("image")
    for n in (20, 100):
        part = rows[(rows.estimator == "plain") & (rows.orderings == n)].set_index("image")
        # The reference is the mean of two halves: its error is a half's over the root of two.
        predicted = (part.error**2 + half.error**2 / 2) ** 0.5
        assert 0.6 < (part.distance / predicted).mean() < 1.5
    assert (half.cosine > 0.99).all()


def test_needed_is_where_the_cosine_stays():
    one = {"image": "a", "estimator": "plain"}
    cosines = {1: 0.9, 10: 0.9995, 100: 0.99, 1000: 0.9999}  # a lucky ten does not count
    rows = pd.DataFrame([{**one, "orderings": n, "cosine": c} for n, c in cosines.items()])
    rows = pd.concat([rows, rows.assign(image="b", cosine=0.5)])
    both = pd.concat([rows, rows.assign(estimator="antithetic", cosine=1.0)])
    table = needed(both).set_index("estimator")
    assert table.loc["plain", "reached"] == 1
    assert table.loc["plain", "largest"] == np.inf
    assert needed(both[both.image == "a"]).set_index("estimator").loc["plain", "median"] == 1000
    assert table.loc["antithetic", "p95"] == 1


def test_figure_shows_the_medians(model, scenes, out):
    rows = evaluate_convergence(model, scenes, SHORT, 3)
    fig = figure({"scenes_vgg": rows})
    line = next(line for line in fig.axes[0].lines if line.get_label() == "plain")
    plain = rows[rows.estimator == "plain"]
    assert line.get_xdata().tolist() == [1, 2, 7, 20]
    assert line.get_ydata()[-1] == pytest.approx(1 - plain[plain.orderings == 20].cosine.median())


def test_costs_are_those_of_the_passes(model, scenes):
    """Coarse facts that no busy machine turns around: 64 forwards cost more than one, 100 orderings more than one."""
    seconds = {row["method"]: row["seconds_per_image"] for row in costs.measure(model, scenes[0])}
    assert set(seconds) == set(costs.TITLES)
    assert min(seconds.values()) > 0
    assert seconds["ablation_cam_network"] > 5 * seconds["forward"]
    assert seconds["ablation_cam_network"] > 5 * seconds["lift_cam"]
    assert seconds["shap_cam_100"] > seconds["shap_cam_1"]


def test_costs_have_a_result(out, monkeypatch):
    monkeypatch.setattr(costs, "median_seconds", lambda function: 1.0)
    result = costs.study_costs("30_test", "quick", ["scenes_resnet"], limit=2)
    assert costs.study_costs("30_test", "cached", []) == result
    assert {r["method"] for r in result["runs"][0]["rows"]} == set(costs.TITLES)
    with pytest.raises(ValueError, match="cached"):
        costs.study_costs("30_test", "cachd", [])


def test_the_committed_convergence_can_be_drawn():
    rows = committed()
    assert rows
    axes = figure(rows).axes
    assert [ax.get_title() for ax in axes] == [
        f"{name.replace(' on ', chr(10))}, {one.image.nunique()} images" for name, one in rows.items()
    ]


COMMITTED = sorted(rows_path("a", "b").parent.glob("orderings_*.parquet"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_rows_and_result_agree(path):
    frame, settings = read_rows(path)
    assert not frame.duplicated(["image", "method", "simulation"]).any()
    key = "31_lift_table1_shap_orderings"
    runs = {(r["model"], r["data"]): r for r in load_results()[key]["runs"]}
    run = runs[settings["model"], settings["data"]]
    assert run["provenance"]["n"] == frame["image"].nunique()
    columns = {"iic": "increase", "ad": "drop", "add": "drop_in_deletion"}
    for row in run["rows"]:
        own = frame[frame.method == row["method"]]
        if len(own):
            assert row["n"] == own.image.nunique()
            assert row["mean"] == pytest.approx(100 * own[columns[row["metric"]]].mean(), rel=1e-4, abs=1e-6)
            # The bootstrap's interval against the normal one of the images' means.
            means = 100 * own.groupby("image")[columns[row["metric"]]].mean()
            assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * means.std() / len(means) ** 0.5, rel=0.1)
    assert {r["metric"] for r in run["rows"]} == set(METRICS)


@pytest.mark.real_data
@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_rows_come_out_again(path):
    """One image again in float32, with fewer simulations: within what bfloat16 and luck may move."""
    frame, settings = read_rows(path)
    try:
        network, data = load_model(settings["model"]), open_dataset(settings["data"])
    except MissingData as problem:
        pytest.skip(f"real data: {problem}")
    protocol = Orderings(counts=(100,), simulations=1)
    if settings_of(network, data, protocol)["weights"] != settings["weights"]:
        pytest.skip("other weights than the committed rows were made with")
    index = data.order(settings["seed"])[0]
    new = measure(network, fast(network), data[index], protocol)[0]
    old = frame[(frame.image == data.ids[index]) & (frame.method == "shap_cam_100")]
    assert new["target"] == old.target.iloc[0]
    assert new["drop"] == pytest.approx(old["drop"].mean(), abs=0.1)
    assert new["drop_in_deletion"] == pytest.approx(old.drop_in_deletion.mean(), abs=0.1)

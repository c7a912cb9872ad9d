"""SHAP-CAM with few orderings, its convergence, and that rows, results and library say the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, metrics
from campanion.data import open_dataset
from campanion.errors import MissingData
from campanion.experiments import convergence
from campanion.experiments.convergence import as_black_box, growing, needed
from campanion.experiments.runner import ask, per_image
from campanion.experiments.subject import image_generator
from campanion.game.game import ChannelGame
from campanion.models import load_model
from campanion.results.rows import kept_rows, read_rows, rows_path
from campanion.results.store import load_results
from cells import study
from scipy import stats

costs, orderings = study(30), study(31)

FEW = orderings.question(counts=(1, 4), simulations=3)
SHORT = convergence.question(reference=40, checkpoints=(1, 2, 7, 20), by_forwards=(1, 2))


def measure(model, sample, question=FEW) -> list[dict]:
    """The rows of one image."""
    return question.measure(question.subject(model, [sample]), sample)


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
    rows = measure(model, scenes[0], orderings.question(counts=(4,), simulations=1))
    image = model.preprocess(scenes[0].image)[None]
    e = explain(model, image, methods="shap_cam", orderings=4, generator=image_generator(0, scenes[0].id))
    expected = metrics.confidence(model, image, e.maps["shap_cam"], e.targets)
    assert len(rows) == 1
    assert rows[0]["method"] == "shap_cam_4"
    assert rows[0]["ad"] == pytest.approx(100 * float(expected.average_drop), abs=1e-3)
    assert rows[0]["add"] == pytest.approx(100 * float(expected.add), abs=1e-3)
    assert rows[0]["probability"] == pytest.approx(float(expected.original), abs=1e-5)


def test_simulations_are_independent_and_repeat(model, scenes):
    rows = pd.DataFrame(measure(model, scenes[0]))
    assert list(rows.method.value_counts()) == [3, 3]
    assert rows[rows.method == "shap_cam_1"]["add"].nunique() == 3
    again = pd.DataFrame(measure(model, scenes[0]))
    pd.testing.assert_frame_equal(rows, again)


def test_a_linear_head_owes_nothing_to_luck(linear, scenes):
    rows = pd.DataFrame(measure(linear, scenes[0]))
    image = linear.preprocess(scenes[0].image)[None]
    e = explain(linear, image, methods="lift_cam")
    expected = metrics.confidence(linear, image, e.maps["lift_cam"], e.targets)
    assert rows["add"].tolist() == pytest.approx([100 * float(expected.add)] * 6, abs=1e-3)


def test_a_multi_label_network_is_scored_by_its_sigmoid(scenes):
    several = load_model("scenes_vgg")
    several.activation = "sigmoid"
    row = measure(several, scenes[0])[0]
    logits = several(several.preprocess(scenes[0].image)[None]).detach()
    assert row["probability"] == pytest.approx(float(logits.sigmoid().max()), abs=1e-6)


def test_a_quick_run_has_every_method_of_the_claims(out):
    result = ask("31_test", "quick", orderings.question(simulations=2), [], 2)
    for run in result["runs"]:
        named = {r["method"] for r in run["rows"]}
        assert {"shap_cam_1", "shap_cam_10", "shap_cam_100", "lift_cam", "xgrad_cam:lift", "score_cam"} <= named
        rows, _ = read_rows(rows_path("scenes", run["model"], "quick_31_test"))
        means = rows.groupby(["method", "simulation"])[orderings.METRICS].mean()
        for row in run["rows"]:
            if row["method"].startswith("shap_cam"):
                each = run["extra"]["simulations"][row["method"]][row["metric"]]
                assert each == pytest.approx(means.loc[row["method"]][row["metric"]].tolist(), rel=1e-5, abs=1e-9)
                assert row["mean"] == pytest.approx(np.mean(each), rel=1e-4, abs=1e-9)
                assert row["sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-3, abs=1e-6)
        assert len(run["differences"]) == 3 * 9 * 8 / 2
    alike = {r["method"]: r["mean"] for r in result["runs"][0]["rows"] if r["metric"] == "add"}  # scenes_resnet
    assert alike["shap_cam_1"] == pytest.approx(alike["lift_cam"], abs=1e-3)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="divisible by 4"):
        convergence.question(reference=10)
    with pytest.raises(ValueError, match="rising"):
        convergence.question(checkpoints=(10, 5))


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
    rows = pd.DataFrame(measure(linear, scenes[0], SHORT))
    assert set(rows.estimator) == {"plain", "antithetic"}
    assert rows.distance.max() < 1e-5
    assert needed(rows)["largest"].tolist() == [1, 2]


def test_distances_are_what_the_standard_errors_say(model, scenes, out):
    """Over images, estimate - reference has the size that the two reported standard errors predict."""
    asked = convergence.question(reference=400, checkpoints=(20, 100))
    rows, _ = per_image(asked, asked.subject(model, scenes), 4)
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


def test_costs_are_those_of_the_passes(model, scenes):
    """Coarse facts that no busy machine turns around: 64 forwards cost more than one, 100 orderings more than one."""
    seconds = {row["method"]: row["seconds_per_image"] for row in measure(model, scenes[0], costs.QUESTION)}
    assert set(seconds) == set(costs.COSTS)
    assert min(seconds.values()) > 0
    assert seconds["ablation_cam_network"] > 5 * seconds["forward"]
    assert seconds["ablation_cam_network"] > 5 * seconds["lift_cam"]
    assert seconds["shap_cam_100"] > seconds["shap_cam_1"]


def test_costs_have_a_result(out, monkeypatch):
    monkeypatch.setattr(costs, "median_seconds", lambda function: 1.0)
    result = ask("30_test", "quick", costs.QUESTION, [], 2, quick=["scenes_resnet@scenes"])
    assert {r["method"] for r in result["runs"][0]["rows"]} == set(costs.COSTS)


def test_the_committed_convergence_is_found():
    found = kept_rows("convergence")
    assert found
    assert all(set(rows.estimator) <= {"plain", "antithetic", "split_half"} for rows in found.values())


COMMITTED = sorted(rows_path("a", "b").parent.glob("orderings_*.parquet"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_rows_and_result_agree(path):
    frame, settings = read_rows(path)
    assert not frame.duplicated(["image", "method", "simulation"]).any()
    key = "31_lift_table1_shap_orderings"
    runs = {(r["model"], r["data"]): r for r in load_results()[key]["runs"]}
    run = runs[settings["model"], settings["data"]]
    assert run["provenance"]["n"] == frame["image"].nunique()
    for row in run["rows"]:
        own = frame[frame.method == row["method"]]
        if len(own):
            assert row["n"] == own.image.nunique()
            assert row["mean"] == pytest.approx(own[row["metric"]].mean(), rel=1e-4, abs=1e-6)
            # Our interval against Student's of the images' means; shares stay within 0 and 100 %.
            means = own.groupby("image")[row["metric"]].mean()
            half = stats.t.ppf(0.975, len(means) - 1) * means.sem()
            low, high = (np.clip(means.mean() + side * half, 0, 100) for side in (-1, 1))
            assert row["high"] - row["low"] == pytest.approx(high - low, rel=0.1)
    assert {r["metric"] for r in run["rows"]} == set(orderings.METRICS)


@pytest.mark.real_data
@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_rows_come_out_again(path):
    """One image again in float32, with fewer simulations: within what bfloat16 and luck may move."""
    frame, settings = read_rows(path)
    try:
        network, data = load_model(settings["model"]), open_dataset(settings["data"])
    except MissingData as problem:
        pytest.skip(f"real data: {problem}")
    if network.weights["sha256"] != settings["weights"]:
        pytest.skip("other weights than the committed rows were made with")
    index = data.order(settings["seed"])[0]
    new = measure(network, data[index], orderings.question(counts=(100,), simulations=1))[0]
    old = frame[(frame.image == data.ids[index]) & (frame.method == "shap_cam_100")]
    assert new["target"] == old.target.iloc[0]
    assert new["ad"] == pytest.approx(old.ad.mean(), abs=10)
    assert new["add"] == pytest.approx(old["add"].mean(), abs=10)

"""What section 3 of LIFT-CAM says of coefficients, on the generated scenes' networks."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from campanion import explain, load_model
from campanion.data import open_dataset
from campanion.experiments import coefficients
from campanion.experiments.runner import ask
from campanion.experiments.subject import Subject
from campanion.game import ChannelGame

KEY = "32_lift_coefficients"


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet"])
def test_rows_say_what_plain_loops_say(name):
    model, data = load_model(name), open_dataset("scenes")
    subject, sample = Subject(model, data), data[0]
    rows = {r["method"]: r for r in coefficients.measure(subject, sample)}
    image = model.preprocess(sample.image)[None]
    game = ChannelGame.of(model, image)
    target = int(explain(model, image, methods=("lift_cam",)).targets[0])
    full, empty = (
        float(game.value(torch.full((1, game.channels), v, dtype=torch.bool), target)) for v in (True, False)
    )
    without = [
        float(game.value(~torch.eye(game.channels, dtype=torch.bool)[[k]], target)) for k in range(game.channels)
    ]
    change = 100 * sum(abs(full - v) for v in without) / game.channels / abs(full)
    assert rows["fd_cam_ng_off"]["score_change"] == pytest.approx(change, rel=1e-3)
    gap = 100 * abs(sum(full - v for v in without) - (full - empty)) / abs(full - empty)
    assert rows["ablation_cam"]["local_accuracy_gap"] == pytest.approx(gap, rel=1e-2, abs=1e-3)
    assert rows["lift_cam"]["local_accuracy_gap"] < 0.001
    assert rows["xgrad_cam:lift"]["lrp_gap"] < 0.001
    if name == "scenes_vgg":  # a head with hidden layers
        assert gap > 0.1
    # Which of them is the faster is the benchmarks' matter: on a busy machine a single time says nothing.
    assert min(rows[name]["seconds_per_image"] for name in (coefficients.FORWARD, "lift_cam")) > 0


def test_a_quick_run_has_every_metric_and_more_orderings_come_closer(out):
    result = ask(KEY, "quick", coefficients.question(), [], 2)
    run = next(r for r in result["runs"] if r["model"] == "scenes_vgg")
    means = pd.DataFrame(run["rows"]).set_index(["metric", "method"])["mean"]
    assert set(means.index.levels[0]) == set(coefficients.METRICS)
    near = [means["shap_cosine", f"shap_cam_{n}"] for n in coefficients.ORDERINGS]
    assert near == sorted(near)
    pairs = {(d["method"], d["reference"]) for d in run["differences"] if d["metric"] == "local_accuracy_gap"}
    assert len(pairs) == 3

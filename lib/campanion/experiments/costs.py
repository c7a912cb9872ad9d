"""What channel weights cost: seconds for one image, by matrix product and by the forward passes that the papers make.

LIFT-CAM asks for one backward pass of the head, Ablation-CAM for K coalitions, SHAP-CAM_n for n K of them (K channels).
A coalition is a row of a matrix product here (``game/heads.py``); published code runs the head, or the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from torch import nn

from campanion.cams.methods import get_method
from campanion.data import Sample, open_dataset
from campanion.experiments.convergence import as_black_box
from campanion.experiments.modes import committed, pick_device
from campanion.experiments.timing import median_seconds
from campanion.game.game import ChannelGame
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

#: What is timed, by the name of its rows.
TITLES = {
    "forward": "one forward pass of the network",
    "lift_cam": "LIFT-CAM",
    "ablation_cam": "Ablation-CAM, matrix product",
    "ablation_cam_head": "Ablation-CAM, K forwards of the head",
    "ablation_cam_network": "Ablation-CAM, K forwards of the network",
    "shap_cam_1": "SHAP-CAM_1, matrix product",
    "shap_cam_100": "SHAP-CAM_100, matrix product",
    "shap_cam_1_head": "SHAP-CAM_1, forwards of the head",
}


def measure(model: nn.Module, sample: Sample) -> list[dict[str, object]]:
    """Rows image, method (keys of :data:`TITLES`) and seconds_per_image, a median; the trunk's pass is not counted."""
    device = next(model.parameters()).device
    image = model.preprocess(sample.image).unsqueeze(0).to(device)
    played = ChannelGame.of(model, image)
    network, target = played.network, played.target(None)
    lift, ablation = (get_method(name).function for name in ("lift_cam", "ablation_cam"))
    batch = image.expand(32, -1, -1, -1)

    def forwards() -> None:
        for start in range(0, played.channels, len(batch)):
            network(batch[: played.channels - start])

    def fresh(black_box: bool = False) -> ChannelGame:
        """A game that remembers nothing, so that no method finds what another has computed."""
        game = played.fresh()
        return as_black_box(game) if black_box else game

    timed: dict[str, Callable[[], object]] = {
        "forward": partial(network, image),
        "lift_cam": lambda: lift(fresh(), target),
        "ablation_cam": lambda: ablation(fresh(), target),
        "ablation_cam_head": lambda: ablation(fresh(True), target),
        "ablation_cam_network": forwards,
        "shap_cam_1": lambda: fresh().shapley(target, 1),
        "shap_cam_100": lambda: fresh().shapley(target, 100),
        "shap_cam_1_head": lambda: fresh(True).shapley(target, 1),
    }
    return [
        {"image": sample.id, "method": name, "seconds_per_image": median_seconds(function)}
        for name, function in timed.items()
    ]


def study_costs(notebook: str, mode: str, models: Sequence[str], limit: int = 10, device: str = "auto") -> dict:
    """The result of ``notebook``: :func:`measure` of ``models`` on generated scenes.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` and ``"full"`` measure.
        models: names.
        limit: scenes.

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    runs, scenes, device = [], open_dataset("scenes", n=limit), pick_device(device)
    for name in models:
        model = load_model(name, device=device)
        measure(model, scenes[0])  # the first call pays for what later ones find ready
        start = time.perf_counter()
        frame = pd.DataFrame([row for i in range(limit) for row in measure(model, scenes[i])])
        minutes = (time.perf_counter() - start) / 60
        settings = {"model": name, "layer": model.target_layer, "protocol": "costs"}
        record = provenance.collect(mode, "scenes", limit, model.weights, device, minutes, 0, settings)
        metric = ["seconds_per_image"]
        runs.append(make_run(summarise(frame, metric), paired(frame, metric), record, name))
    save_result(notebook, runs)
    return load_result(notebook)

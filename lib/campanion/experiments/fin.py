"""Notebook 16: what LFI-CAM's Feature Importance Network is worth, to the accuracy and to the map.

The paper's Fig. 5 shows images of the mean feature map of a network without FIN, of one with FIN, and the map that
FIN weighs. Here networks that differ in nothing but FIN are measured: trained, frozen as it was initialised, absent
(the map is then the mean feature map), and generation ``table3``, in which no gradient reaches it.

Of each network, on the same images: the error; the insertion and deletion of three maps (:data:`MAPS`) for its
predicted class; ``iou_with_mean``, the IoU of its map and its mean feature map at half height (per cent), which is 100
where the weights change nothing; and ``unevenness``, the standard deviation of the weights w over their mean.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from campanion import metrics
from campanion.cams.explain import explain
from campanion.cams.maps import min_max_map, upsample
from campanion.data import Sample, open_dataset
from campanion.experiments.accuracy import correctness, errors_of
from campanion.experiments.accuracy import summary as accuracy_summary
from campanion.experiments.learned import SEED, images_to_show, range_of
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import AREAS, Subject
from campanion.experiments.training_runs import TrainedQuestion, TrainingRuns
from campanion.models.lfi import LFICAM
from campanion.models.load import build_network, load_trained, read_card
from campanion.results.statistics import paired, summarise
from campanion.training.grid import Cell
from campanion.training.parts import SCENES

#: L of eq. 9, the mean feature map (L with equal weights), and Grad-CAM of the same network.
MAPS = ("lfi_cam", "mean_features", "grad_cam")
STEP = 1 / 28


def raw_maps(network: LFICAM, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """L of eq. 9 and the mean feature map, [B, h, w] as the network makes them, and FIN's weights w [B, K]."""
    with torch.no_grad():
        steps = network.steps(images)
    return {"lfi_cam": steps["L"], "mean_features": steps["F"].mean(1)}, steps["w"]


def three_maps(network: LFICAM, images: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Maps [B, H, W] in 0..1 by the names of :data:`MAPS`, FIN's weights w [B, K], and the predicted classes [B]."""
    raw, weights = raw_maps(network, images)
    explanation = explain(network, images, methods="grad_cam")
    maps = {name: min_max_map(upsample(values, images.shape[-2:]))[0] for name, values in raw.items()}
    return maps | explanation.maps, weights, explanation.targets


def measure(subject: Subject, sample: Sample) -> list[dict[str, object]]:
    """The rows of one image, one for each map: insertion, deletion, overall; of the LFI-CAM map also what weighs it."""
    image, network = subject.image(sample), subject.model
    maps, weights, targets = three_maps(network, image)
    curves = metrics.insertion_deletion(network, image, torch.stack(list(maps.values()), 1), targets, step=STEP)
    rows: list[dict[str, object]] = [
        {"image": sample.id, "map": name, **{area: float(getattr(curves, area)[0, j]) for area in AREAS}}
        for j, name in enumerate(maps)
    ]
    rows[0]["iou_with_mean"] = 100 * float(metrics.stability_iou(maps["lfi_cam"], maps["mean_features"])[0])
    rows[0]["unevenness"] = float(weights.std() / weights.mean())
    return rows


QUESTION = Question(
    "fin", measure, settings={"step": STEP, "baseline": "blur", "seed": SEED}, key=("image", "map"), load=load_trained
)


@torch.no_grad()
def moved(cell: Cell) -> float | None:
    """||theta - theta_0|| / ||theta_0|| of FIN's convolutions, None without FIN. Weights are stored in half precision,
    so that a FIN that was not trained shows about 2e-4.
    """
    network, facts = load_trained(cell.checkpoint), read_card(cell.checkpoint)
    if network.fin is None:
        return None
    start = build_network(facts["network"], facts["classes"], network.preprocess, facts["seed"])
    kernels = [[p.flatten() for p in fin.parameters() if p.ndim == 4] for fin in (network.fin, start.fin)]
    theta, theta_0 = map(torch.cat, kernels)
    return float((theta - theta_0).norm() / theta_0.norm())


def shown(network: LFICAM, data: str) -> dict[str, dict[str, list]]:
    """:func:`raw_maps` [h, w] of each of :func:`images_to_show`, by image and map: for figures without the weights."""
    maps, device = {}, next(network.parameters()).device
    for name, photo in images_to_show(data).items():
        raw = raw_maps(network, network.preprocess(photo)[None].to(device))[0]
        maps[name] = {kind: [[round(v, 4) for v in row] for row in drawn[0].tolist()] for kind, drawn in raw.items()}
    return maps


def answer(runs: TrainingRuns) -> Answer | None:
    """Errors of the networks of all seeds, and what is measured of the maps of those of the first one's seed.

    Rows of a network are called as its training run's method (``lfi-paper-finfrozen``), with the map's name behind a
    blank where they are of a map (``lfi-paper-finfrozen grad_cam``). ``extra["missing"]`` names the training runs that
    are not finished.
    """
    done = runs.done
    explained, config = [cell for cell in done if cell.config.seed == done[0].config.seed], done[0].config
    scenes = {"n": SCENES["test"], "size": config.pixels} if config.data == "scenes" else {}
    data, of_cell = open_dataset(config.data, split="test", **scenes), errors_of(correctness(runs))
    wrong: dict[str, dict[int, np.ndarray]] = {}
    for cell in done:
        wrong.setdefault(cell.method, {})[cell.config.seed] = of_cell[cell.name]
    networks = {cell.method: load_trained(cell.checkpoint, runs.device) for cell in explained}
    rows = pd.concat((runs.images(QUESTION, n, data).assign(method=m) for m, n in networks.items()), ignore_index=True)
    settings = {"step": STEP, "baseline": "blur", "limit": runs.limit, "epochs": config.numbers.epochs}
    settings["checkpoints"] = {cell.name: read_card(cell.checkpoint)["sha256"] for cell in done}
    tested = f"{len(of_cell[done[0].name]):,} test images"
    means, differences, of_errors = accuracy_summary(wrong)
    extra = {
        "networks": {cell.method: cell.name for cell in explained},
        "seeds": {method: sorted(seeds) for method, seeds in wrong.items()},
        "moved": {cell.method: moved(cell) for cell in explained},
        "missing": [cell.name for cell in runs.cells if not cell.done],
        "errors": of_errors,
        "shown": {method: shown(network, config.data) for method, network in networks.items()},
    }
    map_means, map_differences = (table.to_dict("records") for table in summary(rows))
    weights = range_of([100 - errors.mean() for errors in of_cell.values()], config.network, tested)
    return Answer([*means, *map_means], [*differences, *map_differences], extra, None, rows, weights, settings)


TRAINED = TrainedQuestion(
    "fin", "fig5", answer, "None of these networks is trained",
    lambda cell: cell.config.attention == "lfi" and (cell.weights_here or not cell.done),  # a card alone draws no map
)  # fmt: skip


def summary(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and paired differences of each map's areas, and means of what weighs the LFI-CAM map."""
    named = rows.assign(method=rows["method"] + " " + rows["map"])
    means = [summarise(named, AREAS), summarise(rows[rows["map"] == "lfi_cam"], ["iou_with_mean", "unevenness"])]
    pairs = paired(named, AREAS)
    same = pairs["method"].str.partition(" ")[0] == pairs["reference"].str.partition(" ")[0]  # else of one run each
    return pd.concat(means, ignore_index=True), pairs.assign(**pairs[["low", "high"]].where(same))

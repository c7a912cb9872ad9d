"""Notebook 42, sanity checks by randomisation: does a map change when the network's weights are re-initialised?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from campanion.cams.explain import explain_game
from campanion.cams.methods import parse
from campanion.data import Sample
from campanion.experiments.runner import Answer, Question
from campanion.experiments.subject import Subject
from campanion.game.game import ChannelGame
from campanion.metrics.randomisation import ORDERS, randomised, rank_correlation, structure
from campanion.results.statistics import summarise

MIRROR = "mirror"
METHODS = ("grad_cam", "grad_cam_pp", "layer_cam", "xgrad_cam", "ablation_cam", "lift_cam", "fd_cam")
METRICS = ["rank_output", "rank_all", "rank_mirror", "ssim_output", "ssim_all", "ssim_mirror"]


def measure(
    subject: Subject, sample: Sample, methods: Sequence[str], orders: Sequence[str], seed: int
) -> list[dict[str, object]]:
    """The rows of one image: the trained network's map against a re-initialised network's, for the predicted class.

    Maps are compared by ``rank`` (Spearman's, at the target layer's size) and ``ssim`` (at the image's). ``depth``
    counts the layers re-initialised or passed, from the output. Rows of ``order`` ``"mirror"`` compare a map with
    its mirror image: what two maps have in common that only share their blobs' sizes and a liking for the middle.
    """
    networks = subject.once(  # of the layers above the target layer; each is made once, and used for all images
        "re-initialised", lambda: {order: list(randomised(subject.model, order, seed)) for order in orders}
    )
    image = subject.image(sample)
    game = ChannelGame.of(subject.parts, image)
    target, size = game.target(None), game.activations.shape[2:]
    trained = explain_game(game, target, methods).maps

    def row(method: str, order: str, depth: int, layer: str, compared: Tensor) -> dict[str, object]:
        small = [F.adaptive_avg_pool2d(m[:, None], tuple(size))[:, 0] for m in (trained[method], compared)]
        similarity = {"rank": float(rank_correlation(*small)), "ssim": float(structure(trained[method], compared))}
        return {"image": sample.id, "method": method, "order": order, "depth": depth, "layer": layer, **similarity}

    rows = [row(method, MIRROR, 0, "", drawn.flip(2)) for method, drawn in trained.items()]
    for order, cascade in networks.items():
        for depth, (layer, network) in enumerate(cascade, start=1):
            drawn = explain_game(ChannelGame.of(network, image, subject.layer), target, methods).maps
            rows += [row(method, order, depth, layer, drawn[method]) for method in methods]
    return rows


def at_ends(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each (image, method): similarity after re-initialising only the ``_output`` layer, after ``_all``
    layers, and to the ``_mirror`` image.
    """
    cascade = rows[rows["order"] == "cascading"]
    parts = {
        "output": cascade[cascade["depth"] == 1],
        "all": cascade[cascade["depth"] == cascade["depth"].max()],
        "mirror": rows[rows["order"] == MIRROR],
    }
    similarities = [
        part.set_index(["image", "method"])[["rank", "ssim"]].add_suffix(f"_{name}") for name, part in parts.items()
    ]
    return pd.concat(similarities, axis=1).reset_index()


def curves(rows: pd.DataFrame) -> dict[str, object]:
    """``layers`` from the output down, and by order, similarity and method its mean over the images at every depth."""
    drawn = rows[rows["order"] != MIRROR]
    result: dict[str, object] = {"layers": drawn.drop_duplicates("depth").sort_values("depth")["layer"].tolist()}
    for order, part in drawn.groupby("order", sort=False):
        means = part.groupby(["depth", "method"])[["rank", "ssim"]].mean().round(4).unstack("method")
        result[str(order)] = {s: means[s][part["method"].unique()].to_dict("list") for s in ("rank", "ssim")}
    return result


def summary(rows: pd.DataFrame, subject: Subject) -> Answer:
    """Similarities at both ends of the cascade; ``extra["curves"]`` holds the mean similarity at every depth."""
    return Answer(summarise(at_ends(rows), METRICS), extra={"curves": curves(rows)})


def question(methods: Sequence[str] = METHODS) -> Question:
    """Notebook 42's question; the seed is that of the new weights and of the order of the images."""
    for name in methods:
        parse(name)
    settings = {"methods": tuple(methods), "orders": ORDERS, "seed": 0}
    key = ("image", "method", "order", "depth")
    return Question("sanity", partial(measure, **settings), summary, settings, key, quick_images=4)

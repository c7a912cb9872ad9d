"""The groups of FD-CAM over many pictures: the result behind Fig. 3's notebook."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd

from campanion.data import open_dataset
from campanion.data.photographs import photograph
from campanion.experiments.groups import PERCENTILES, RULES, examples, measure
from campanion.experiments.modes import QUICK_IMAGES, QUICK_MODELS, committed
from campanion.game.game import ChannelGame
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.rows import read_rows, rows_path, write_rows
from campanion.results.statistics import summarise
from campanion.results.store import load_result, make_run, save_result

#: The pooling after the target layer, where there is one: the layer that the authors' code takes.
POOLING = {"vgg16": "features.30", "scenes_vgg": "features.15"}
METRICS = (
    "dead", "size_mean", "size_min", "size_median", "size_max", "small", "empty", "distinct", "within", "between",
    "dead_is_lowest", "layer_overlap",
)  # fmt: skip


def study(
    notebook: str, mode: str, models: Sequence[str], limit: int | None = None, device: str = "cpu", seed: int = 0
) -> dict:
    """The result of ``notebook``: means of :func:`~campanion.experiments.groups.measure`, with intervals over images.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures generated scenes with this project's
            networks; ``"full"`` measures ``models`` on ``imagenet-val``. Rows are kept as ``groups_<data>_<model>``.
        limit: images; a quick run takes 24 at most.

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    name = "scenes" if mode == "quick" else "imagenet-val"
    data, runs = open_dataset(name), []
    if mode == "quick":
        limit = min(limit or QUICK_IMAGES, QUICK_IMAGES)
    for model in QUICK_MODELS if mode == "quick" else models:
        network, start = load_model(model, device=device), time.perf_counter()
        settings = {"model": model, "weights_sha256": network.weights["sha256"], "layer": network.target_layer}
        settings |= {
            "percentiles": list(PERCENTILES),
            "rules": list(RULES),
            "pooling": POOLING.get(model),
            "seed": seed,
        }
        rows, histogram = measure(network, data, limit, other_layer=POOLING.get(model), seed=seed)
        write_rows(rows, rows_path(name, model, "groups"), settings)
        minutes = (time.perf_counter() - start) / 60
        n = rows["image"].nunique()
        record = provenance.collect(mode, name, n, network.weights, device, minutes, seed, settings)
        summary = summarise(rows, [m for m in METRICS if m in rows])
        runs.append(make_run(summary[summary["n"] > 0], [], record, model, {"cosines": histogram}))
    save_result(notebook, runs)
    return load_result(notebook)


def photograph_examples(model: str, mode: str, picture: str = "chelsea", device: str = "cpu") -> pd.DataFrame:
    """:func:`campanion.experiments.groups.examples` of a photograph, kept as rows ``groups_photographs_<model>``.

    Args:
        mode: ``"full"`` makes them, ``"cached"`` reads them.

    Raises:
        MissingResult: cached, and they are not there.
        ValueError: unknown photograph.
    """
    image, path = photograph(picture), rows_path("photographs", model, "groups")
    if mode == "full":
        network = load_model(model, device=device)
        game = ChannelGame.of(network, network.preprocess(image).unsqueeze(0).to(device))
        rows = examples(game).assign(predicted=network.class_names[int(game.logits.argmax())])
        write_rows(rows, path, {"picture": picture, "weights_sha256": network.weights["sha256"]})
    return read_rows(path)[0]

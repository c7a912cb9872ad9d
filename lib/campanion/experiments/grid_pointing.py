"""A pointing game on two photographs side by side, whose places are known: does a map go to the half it is asked about?

The grid pointing game of Böhle et al. (CVPR 2021, "Convolutional Dynamic Alignment Networks for Interpretable
Classifications", section 4) with a grid of 1 x 2. Each photograph fills a cell at the network's own input size, so a
network of 224 pixels sees 224 x 448. An even map has half of its energy in either cell.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch
from torch import nn

from campanion.cams.explain import explain_game
from campanion.data.photographs import ANIMALS, classes_of, halves, photograph
from campanion.experiments.runner import result_of
from campanion.game.game import ChannelGame, class_indices
from campanion.metrics import energy_pointing_game, pointing_game
from campanion.models import load_model
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import rows_path, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import make_run

KEY = "20_grid_pointing"
METRICS = ("grid_energy", "grid_hit")  # per cent


def pairs(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of photographs of two classes that a network with these class names has.

    >>> len(pairs(load_model("resnet50").class_names)), len(pairs(load_model("voc_mlp").class_names))
    (36, 25)
    """
    known = {name: classes_of(name, class_names) for name in ANIMALS}
    return [(a, b) for a, b in combinations(ANIMALS, 2) if known[a] and known[b] and known[a] != known[b]]


def measure(model: nn.Module, methods: Sequence[str], names: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
    """One row per pair, class and method.

    Args:
        model: from :func:`campanion.load_model`, one that takes images twice as wide as its own.
        methods: as :func:`campanion.cams.methods.parse` reads them.
        names: pairs of photographs; None takes :func:`pairs`.

    Returns:
        Columns image (``"cat + dog"``), class_name, side, rank (of the class among all, 1 the highest), method,
        grid_energy (per cent of the map's energy in the half of the class; 0 for a map of zeros) and grid_hit (100
        where the map's highest pixel lies there, else 0).

    >>> measure(load_model("voc_mlp"), ["grad_cam"], [("cat", "dog")])[["class_name", "grid_energy"]]
    """
    rows = []
    for pair in track(names or pairs(model.class_names), "pairs of photographs", unit="pair"):
        image = torch.cat([model.preprocess(photograph(name)) for name in pair], -1)[None]
        game = ChannelGame.of(model, image.to(next(model.parameters()).device))
        for side, box in enumerate(halves(image.shape[-1], image.shape[-2])):
            name = classes_of(pair[side], model.class_names)[0]
            index = class_indices(list(model.class_names).index(name), 1, len(model.class_names), game.logits.device)
            rank = int((game.logits[0] > game.logits[0, index]).sum()) + 1
            head = {"image": " + ".join(pair), "class_name": name, "side": ("left", "right")[side], "rank": rank}
            for method, found in explain_game(game, index, methods).maps.items():
                energy = 100 * float(energy_pointing_game(found, [box]))
                hit = 100 * float(pointing_game(found, [box])) if found.any() else 0.0
                rows.append({**head, "method": method, "grid_energy": energy, "grid_hit": hit})
    return pd.DataFrame(rows)


def study(mode: str, models: Sequence[str], methods: Sequence[str], device: str = "cpu") -> dict:
    """The result ``20_grid_pointing``; rows are kept as ``grid_photographs_<model>``.

    The unit of the intervals is the pair, both of its classes together. Pairs share photographs, so the intervals are
    somewhat too narrow.

    Args:
        mode: ``"cached"`` reads the committed result, ``"full"`` measures.
        models: networks of ImageNet's or VOC's classes.

    Raises:
        MissingResult: cached, and there is no result.
        ValueError: a quick run, whose networks know no animals.
    """
    if mode == "quick":
        raise ValueError("The networks of a quick run know no animals: play this game in mode 'cached' or 'full'.")
    return result_of(KEY, mode, lambda: _runs(mode, models, methods, device))


def _runs(mode: str, models: Sequence[str], methods: Sequence[str], device: str) -> list[dict]:
    runs = []
    for name in models:
        model, start = load_model(name, device=device), time.perf_counter()
        rows = measure(model, methods)
        settings = {"model": name, "weights_sha256": model.weights["sha256"], "layer": model.target_layer}
        write_rows(rows, rows_path("photographs", name, "grid"), settings)
        minutes = (time.perf_counter() - start) / 60
        n = rows["image"].nunique()
        record = provenance.collect(mode, "photographs", n, model.weights, device, minutes, 0, settings)
        differences = paired(rows, METRICS, reference="fd_cam")
        runs.append(make_run(summarise(rows, METRICS), differences, record, name))
    return runs

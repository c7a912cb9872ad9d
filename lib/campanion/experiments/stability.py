"""What notebook 14 measures: do networks of one kind, trained a little differently, look at the same place?

LFI-CAM's section 4.4 trains one network six times, with learning rates from 0.07 to 0.12, takes the most accurate as
the base and averages the IoU of the other five's maps with the base's over all test pictures. Here the same is done for
networks that differ in their seed alone, and beside each IoU stands what it would be by chance:

===================  =================================================================================================
``iou``              one IoU per picture at the picture's size, mask: 127 or more of 255; mean over the other networks
``iou_official``     what the authors' code computes of the same maps (:func:`campanion.metrics.stability_iou`)
``iou_map_size``     the same at the maps' own size, before they are enlarged
``iou_independent``  of two masks of these areas that have nothing to do with each other (:func:`independent_iou`)
``iou_shuffled``     of the base's map and the other network's map of *another* picture: what both have in common
                     for every picture, such as looking at the centre
``above_shuffled``   ``iou - iou_shuffled``: what is left for the picture itself
``area``             share of the picture in the base's mask
``constant``         share of the pictures of which one of the two maps is constant, so that its mask is empty
===================  =================================================================================================

all in per cent; those with ``seed_`` before them are of networks that differ in the seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations, product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from campanion.cams.maps import min_max_map
from campanion.errors import MissingData
from campanion.experiments.modes import committed, pick_device
from campanion.experiments.trained_series import VARIED, Trained, enlarged, finished, learned_maps, maps_to_show, series
from campanion.metrics import stability_iou
from campanion.progress import track
from campanion.results import provenance
from campanion.results.rows import rows_path, write_rows
from campanion.results.store import load_result, make_run, save_result
from campanion.results.trainings import combine
from campanion.training.grid import Cell, by_network

PAPER = 127  # of 255: "reasonably high temperature", section 4.4
THRESHOLDS = tuple(range(15, 256, 16))  # 127 is among them
METRICS = (
    "iou", "iou_official", "iou_map_size", "iou_independent", "iou_shuffled", "above_shuffled", "area", "constant",
)  # fmt: skip
CHUNK = 500  # pictures at a time
QUICK_PICTURES = 200
SEED = 0  # of which other picture a picture is compared with


def independent_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of two masks of areas a and b (shares of the picture) that are independent: they meet in a b of it.

    ``a b / (a + b - a b)``: the expected intersection over the union that goes with it.

    >>> independent_iou(torch.tensor(0.5), torch.tensor(0.5))
    tensor(0.3333)
    """
    return torch.where(a + b > 0, a * b / (a + b - a * b).clamp_min(1e-12), 1.0)


def others(count: int, seed: int = 0) -> Tensor:
    """For each of ``count`` pictures another one: a random ring through all of them.

    Raises:
        ValueError: there is no other picture.
    """
    if count < 2:
        raise ValueError("One picture has no other to be compared with: take at least two.")
    ring = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(ring)
    other[ring] = ring.roll(1)
    return other


def compare_maps(a: Tensor, b: Tensor, b_of_others: Tensor, side: int, threshold: float = PAPER / 255) -> dict:
    """Every metric of the module's head for maps [N, h, w] of two networks, N values each, in per cent."""
    large_a, large_b, large_other = (enlarged(maps, side) for maps in (a, b, b_of_others))
    area_a, area_b = ((maps >= threshold).double().mean((1, 2)) for maps in (large_a, large_b))
    small_a, small_b = (min_max_map(maps)[0] for maps in (a, b))
    found = {
        "iou": stability_iou(large_a, large_b, threshold=threshold),
        "iou_official": stability_iou(large_a, large_b, threshold=threshold, variant="official"),
        "iou_map_size": stability_iou(small_a, small_b, threshold=threshold),
        "iou_independent": independent_iou(area_a, area_b),
        "iou_shuffled": stability_iou(large_a, large_other, threshold=threshold),
        "area": area_a,
        "constant": ((large_a.amax((1, 2)) == 0) | (large_b.amax((1, 2)) == 0)).double(),
    }
    found["above_shuffled"] = found["iou"] - found["iou_shuffled"]
    return {metric: 100 * values for metric, values in found.items()}


def method_rows(
    networks: Sequence[Trained], limit: int | None = None, device: str = "cpu"
) -> tuple[pd.DataFrame, dict]:
    """Rows (picture x pair with the base) of networks of one method, and what the figures need beside.

    Returns:
        Columns image, method, varied, base, other and :data:`METRICS`; and a dictionary: ``networks``, ``series``
        (names with the base first, by what varies), ``matrix`` (mean IoU of every two networks), ``curves`` (mean
        ``iou`` and ``iou_shuffled`` at each of :data:`THRESHOLDS`, by what varies) and ``shown``
        (:func:`~campanion.experiments.trained_series.maps_to_show`).

    Raises:
        ValueError: the networks were tested on other pictures.
    """
    chosen = {varied: series(networks, varied) for varied in VARIED}
    maps, ids, side = {}, None, 0
    for network in networks:
        maps[network.name], own, side = learned_maps(network, limit, device)
        if ids is not None and own != ids:
            raise ValueError(f"{network.name} was tested on other pictures than {networks[0].name}.")
        ids = own
    other = others(len(ids), SEED)
    names = [n.name for n in networks]
    matrix = np.eye(len(names)) * 100 * len(ids)
    curves = {v: {kind: torch.zeros(len(THRESHOLDS)) for kind in ("iou", "iou_shuffled")} for v in VARIED if chosen[v]}
    parts = []
    for indices in track(torch.arange(len(ids)).split(CHUNK), f"IoU of {networks[0].method}", unit="chunk"):
        large = {name: enlarged(maps[name][indices], side) for name in names}
        for i, j in combinations(range(len(names)), 2):
            matrix[i, j] += 100 * float(stability_iou(large[names[i]], large[names[j]], threshold=PAPER / 255).sum())
            matrix[j, i] = matrix[i, j]
        for varied, (base, *rest) in ((v, s) for v, s in chosen.items() if s):
            for one in rest:
                shuffled = maps[one.name][other[indices]]
                metrics = compare_maps(maps[base.name][indices], maps[one.name][indices], shuffled, side)
                about = {"method": base.method, "varied": varied, "base": base.name, "other": one.name}
                numbers = {metric: values.float().numpy().round(2) for metric, values in metrics.items()}
                parts.append(pd.DataFrame({"image": [ids[i] for i in indices], **about, **numbers}))
                share = 100 / len(ids) / len(rest)
                far = enlarged(shuffled, side)
                for kind, compared in (("iou", large[one.name]), ("iou_shuffled", far)):
                    curves[varied][kind] += share * torch.stack(
                        [stability_iou(large[base.name], compared, threshold=t / 255).sum().float() for t in THRESHOLDS]
                    )
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    extra = {
        "networks": [{**asdict(n), "path": n.path.name, "about": n.about} for n in networks],
        "series": {varied: [n.name for n in chosen[varied]] for varied in VARIED},
        "matrix": (matrix / len(ids)).tolist(),
        "curves": {varied: {kind: c.tolist() for kind, c in each.items()} for varied, each in curves.items()},
        "shown": maps_to_show(networks, device),
    }
    return rows, extra


def summary(rows: pd.DataFrame) -> tuple[list[dict], list[dict], list[dict]]:
    """Means, differences between the methods on the same pictures, and the latter with intervals over pictures alone.

    The intervals of the first two count pictures and pairs of networks (``results/trainings.py``): other pictures would
    give another mean, and so would other networks. With one pair there is none.
    """
    means, differences, pictures = [], [], []
    for (varied, prefix), metric in product(zip(VARIED, ("", "seed_"), strict=True), METRICS):
        own = rows[rows["varied"] == varied]
        values = {
            method: part.pivot(index="other", columns="image", values=metric).to_numpy()  # [pairs, pictures]
            for method, part in own.groupby("method", sort=False)
        }
        about = {"metric": prefix + metric, "n": own["image"].nunique()}
        for method, one in values.items():
            found = combine([(1, one)])
            least = -100 if metric == "above_shuffled" else 0
            ends = {key: min(100.0, max(least, found[key])) for key in ("low", "high") if len(one) > 1}
            row = {"method": method, **about, "mean": found["mean"], "low": np.nan, "high": np.nan} | ends
            if len(one) == 1:
                row["note"] = f"one pair: over pictures {found['low_pictures']:.1f} to {found['high_pictures']:.1f}"
            means.append(row)
        for method, reference in combinations(values, 2):
            found = combine([(1, values[method]), (-1, values[reference])])
            row = {"method": method, "reference": reference, **about, "mean": found["mean"]}
            differences.append({**row, "low": found["low"], "high": found["high"]})
            pictures.append({**row, "low": found["low_pictures"], "high": found["high_pictures"]})
    return means, differences, pictures


def stability_study(
    notebook: str, mode: str, cells: Sequence[Cell] = (), limit: int | None = None, device: str = "auto"
) -> dict:
    """The result of ``notebook``: see :mod:`campanion.results` for its form and the module's head for its metrics.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` and ``"full"`` measure the networks of ``cells``.
        cells: trainings, from :func:`campanion.training.grid.cells`: one run for each data set and network of which two
            can be compared; those that are not done yet are named in the run's ``extra["missing"]``.
        limit: test pictures in the set's fixed order (None: all; quick: 200).

    Raises:
        MissingResult: cached, and there is no result.
        MissingData: no two of the cells that are done can be compared.
        ValueError: unknown mode, or see :func:`campanion.experiments.trained_series.finished`.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    limit = (limit or QUICK_PICTURES) if mode == "quick" else limit
    groups = by_network(cell for cell in cells if cell.config.attention is not None)
    runs = [_run(mode, group, limit, pick_device(device)) for group in groups]
    if not any(runs):
        raise MissingData(
            "No two trained networks differ in learning rate or seed alone: `python -m campanion.training.grid --table "
            "fig6` lists those that are missing, and trains them with `--run`."
        )
    save_result(notebook, [run for run in runs if run])
    return load_result(notebook)


def _run(mode: str, cells: Sequence[Cell], limit: int | None, device: str) -> dict | None:
    """The run of one data set and network; None where there is nothing to compare yet."""
    start = time.monotonic()
    done = [cell.checkpoint for cell in cells if cell.done]
    networks = finished(done)
    parts, extra = [], {}
    for method in sorted({n.method for n in networks}):
        own = [n for n in networks if n.method == method]
        if any(series(own, varied) for varied in VARIED):
            rows, extra[method] = method_rows(own, limit, device)
            parts.append(rows)
    if not parts:
        return None
    rows = pd.concat(parts, ignore_index=True)
    data, network = networks[0].data, networks[0].network
    settings = {"threshold": PAPER, "limit": limit, "checkpoints": {n.name: n.sha256 for n in networks}}
    write_rows(_compact(rows), rows_path(data, network, "stability"), settings)
    least, most = (100 * f(n.top1 for n in networks) for f in (min, max))
    weights = {
        "name": f"of {len(networks)} trainings of {network}",
        "accuracy": f"top-1 {least:.1f} to {most:.1f} % on the test pictures",
    }
    minutes = (time.monotonic() - start) / 60
    record = provenance.collect(mode, data, rows["image"].nunique(), weights, device, minutes, SEED, settings)
    beside = {
        "methods": extra,
        "thresholds": list(THRESHOLDS),
        "missing": [cell.name for cell in cells if not cell.done],
    }
    means, differences, beside["pictures"] = summary(rows)
    return make_run(means, differences, record, network, beside)


def _compact(rows: pd.DataFrame) -> pd.DataFrame:
    names = {column: rows[column].astype("category") for column in ("image", "method", "varied", "base", "other")}
    return rows.assign(**names)

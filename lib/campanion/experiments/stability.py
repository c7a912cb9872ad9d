"""Notebook 14: do networks of one kind, trained apart, look at the same place?

LFI-CAM's section 4.4 trains one network six times "fully and individually", with learning rates from 0.07 to 0.12, and
averages the IoU of the maps over all test images. The authors' code draws a new seed for every training run, so pairs
of *different seeds* answer. Pairs that share their seed (the same initial weights and order of images) and differ in
the learning rate alone are measured beside: metrics with ``one_seed_`` before them. The paper compares five networks
with the most accurate one; here every pair counts, which uses all that was trained, and
``extra["methods"][...]["base"]`` names the most accurate. Beside each IoU stands what it would be by chance:

===================  =================================================================================================
``iou``              one IoU per image at the image's size, mask: 127 or more of 255; mean over the pairs
``iou_official``     what the authors' code computes of the same maps (:func:`campanion.metrics.stability_iou`)
``iou_map_size``     the same at the maps' own size, before they are enlarged
``iou_independent``  of two masks of these areas that have nothing to do with each other (:func:`independent_iou`)
``iou_shuffled``     of one network's map and the other's map of *another* image: what both have in common for every
                     image, such as looking at the centre
``above_shuffled``   ``iou - iou_shuffled``: what is left for the image itself
``area``             share of the image in the masks
``constant``         share of the images of which one of the two maps is constant, so that its mask is empty
===================  =================================================================================================

all in per cent. ``accuracy_range`` is the largest minus the smallest accuracy of the networks, in points: the paper
compares networks of similar accuracy. Intervals are those of :mod:`campanion.results.pairs`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from campanion.cams.maps import min_max_map
from campanion.experiments.learned import (
    LEARNED,
    SEED,
    Trained,
    enlarged,
    finished,
    grid_result,
    learned_maps,
    maps_of,
    maps_to_show,
    range_of,
)
from campanion.experiments.runner import pick_device
from campanion.metrics.stability import independent_iou, stability_iou
from campanion.progress import track
from campanion.results import provenance
from campanion.results.pairs import Pairs, over_networks
from campanion.results.rows import rows_path, write_rows
from campanion.results.store import make_run
from campanion.training.cell import Cell

PAPER = 127  # of 255: "reasonably high temperature", section 4.4
THRESHOLDS = tuple(range(15, 256, 16))  # 127 is among them
METRICS = (
    "iou", "iou_official", "iou_map_size", "iou_independent", "iou_shuffled", "above_shuffled", "area", "constant",
)  # fmt: skip
KINDS = ("", "one_seed_")  # pairs of different seeds, and of one
CHUNK = 500  # images at a time
QUICK_IMAGES = 40
#: Maps made afterwards of the networks that learn LFI-CAM's: are they as stable over the same training runs?
POST_HOC = ("grad_cam", "score_cam")
POST_HOC_IMAGES, QUICK_POST_HOC = 300, 3  # Score-CAM takes a forward pass for each channel


def others(count: int, seed: int = 0) -> Tensor:
    """For each of ``count`` images another one: a random ring through all of them.

    Raises:
        ValueError: there is no other image.
    """
    if count < 2:
        raise ValueError("One image has no other to be compared with: take at least two.")
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


def kind_of(one: Trained, other: Trained) -> str:
    """What stands before the metrics of a pair: nothing for different seeds, ``"one_seed_"`` for a shared one."""
    return KINDS[one.seed == other.seed]


def method_rows(
    networks: Sequence[Trained], limit: int | None = None, device: str = "cpu"
) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """What is measured of networks of one method, and what the figures need beside.

    Returns:
        Means over pairs, a row per kind of pair and image (method, kind, image and :data:`METRICS`); means over images,
        a row per pair (method, kind, first, second and the metrics); and a dictionary: ``networks``, ``base`` (the most
        accurate one's name), ``matrix`` (mean IoU of every two networks), ``curves`` (mean ``iou`` and ``iou_shuffled``
        of the base with networks of other seeds at each of :data:`THRESHOLDS`) and ``shown``
        (:func:`~campanion.experiments.learned.maps_to_show`).

    Raises:
        ValueError: the networks were tested on other images.
    """
    maps, ids, side = _maps(networks, limit, device)
    other, base = others(len(ids), SEED), max(networks, key=lambda n: n.top1)
    couples = list(combinations(networks, 2))
    counts = {kind: sum(kind_of(*couple) == kind for couple in couples) for kind in KINDS}
    each = {kind: np.zeros((len(ids), len(METRICS))) for kind in KINDS if counts[kind]}
    sums = np.zeros((len(couples), len(METRICS)))
    curves = {kind: torch.zeros(len(THRESHOLDS)) for kind in ("iou", "iou_shuffled")}
    for indices in track(torch.arange(len(ids)).split(CHUNK), f"IoU of {networks[0].method}", unit="chunk"):
        for c, (a, b) in enumerate(couples):
            here, there, far = maps[a.name][indices], maps[b.name][indices], maps[b.name][other[indices]]
            found = compare_maps(here, there, far, side)
            values = np.stack([found[metric].double().numpy() for metric in METRICS], 1)
            each[kind_of(a, b)][indices] += values / counts[kind_of(a, b)]
            sums[c] += values.sum(0)
            if base in (a, b) and kind_of(a, b) == "":
                for kind, compared in (("iou", there), ("iou_shuffled", far)):
                    both = enlarged(here, side), enlarged(compared, side)
                    ious = (stability_iou(*both, threshold=t / 255) for t in THRESHOLDS)
                    curves[kind] += torch.stack([iou.sum().float() for iou in ious])
    with_base = sum(base in couple and kind_of(*couple) == "" for couple in couples)
    method = networks[0].method
    rows = [pd.DataFrame(v, columns=METRICS).assign(method=method, kind=k, image=ids) for k, v in each.items()]
    pairs = pd.DataFrame(sums / len(ids), columns=METRICS).assign(
        method=method,
        kind=[kind_of(a, b) for a, b in couples],
        first=[a.name for a, _ in couples],
        second=[b.name for _, b in couples],
    )
    scale = 100 / len(ids) / max(with_base, 1)
    extra = {
        "networks": [{**asdict(n), "path": n.path.name, "about": n.about} for n in networks],
        "base": base.name,
        "matrix": _matrix(pairs, "iou", [n.name for n in networks], 100.0).tolist(),
        "curves": {kind: (scale * curve).tolist() for kind, curve in curves.items()} if with_base else {},
        "shown": maps_to_show(networks, limit, device),
    }
    return pd.concat(rows, ignore_index=True), pairs, extra


def _maps(networks: Sequence[Trained], limit: int | None, device: str) -> tuple[dict[str, Tensor], list[str], int]:
    """Maps [N, h, w] by the network's name, the images' ids, and the side that maps are enlarged to."""
    maps, ids, side = {}, None, 0
    for network in networks:
        if network.method in LEARNED.values():
            maps[network.name], own, side = learned_maps(network, limit, device)
        else:
            maps[network.name], own, _ = maps_of(network.path, network.method, limit, device=device)
            side = maps[network.name].shape[-1]
        if ids is not None and own != ids:
            raise ValueError(f"{network.name} was tested on other images than {networks[0].name}.")
        ids = own
    return maps, ids, side


def _matrix(pairs: pd.DataFrame, metric: str, names: Sequence[str], diagonal: float = np.nan) -> np.ndarray:
    """[K, K] of a metric, NaN where ``pairs`` has no row."""
    matrix = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(matrix, diagonal)
    for first, second, value in pairs[["first", "second", metric]].itertuples(index=False):
        i, j = names.index(first), names.index(second)
        matrix[i, j] = matrix[j, i] = value
    return matrix


def summary(rows: pd.DataFrame, pairs: pd.DataFrame) -> tuple[list[dict], list[dict], list[dict]]:
    """Means, differences between the methods on the same images, and the latter with intervals over images alone.

    Args:
        rows, pairs: of all methods, from :func:`method_rows`.
    """
    means, differences, images = [], [], []
    for kind, metric in product(KINDS, METRICS):
        found: dict[str, Pairs] = {}
        for method, own in rows[rows["kind"] == kind].groupby("method", sort=False):
            of = pairs[(pairs["kind"] == kind) & (pairs["method"] == method)]
            names = sorted({*of["first"], *of["second"]})
            found[method] = Pairs(_matrix(of, metric, names), own.sort_values("image")[metric].to_numpy())
        about = {"metric": kind + metric}
        for method, one in found.items():
            interval, count = over_networks([(1, one)]), int(one.there.sum())
            least = -100 if metric == "above_shuffled" else 0
            ends = {key: float(np.clip(interval[key], least, 100)) for key in ("low", "high")}
            note = f"{count} pair{'s' * (count > 1)} of {one.networks} networks"
            row = {"method": method, **about, "mean": interval["mean"], **ends, "n": len(one.images), "note": note}
            means.append(row)
        for method, reference in combinations(found, 2):
            if len(found[method].images) != len(found[reference].images):
                continue  # post-hoc maps are made of fewer images
            interval = over_networks([(1, found[method]), (-1, found[reference])])
            row = {"method": method, "reference": reference, **about, "mean": interval["mean"]}
            row["n"] = len(found[method].images)
            differences.append({**row, "low": interval["low"], "high": interval["high"]})
            images.append({**row, "low": interval["low_images"], "high": interval["high_images"]})
    return means, differences, images


def stability_study(
    notebook: str, mode: str, cells: Sequence[Cell] = (), limit: int | None = None, device: str = "auto"
) -> dict:
    """The result of ``notebook``: see :mod:`campanion.results` for its form and the module's head for its metrics.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` and ``"full"`` measure the networks of ``cells``.
        cells: training runs, of :func:`campanion.training.grid.cells`: a result for each data set and network of which
            two can be compared; those that are not done yet are named in the run's ``extra["missing"]``.
        limit: test images in the set's fixed order (None: all; quick: 40).

    Raises:
        MissingResult: cached, and there is no result.
        MissingData: no two of the cells that are done can be compared.
        ValueError: unknown mode, or see :func:`campanion.experiments.learned.finished`.
    """
    limit = (limit or QUICK_IMAGES) if mode == "quick" else limit
    attentive = (cell for cell in cells if cell.config.attention is not None)
    lacking = (
        "There are no two trained networks to compare: `python -m campanion grid --table fig6` lists what "
        "is missing, and trains it with `--run`."
    )
    device = pick_device(device)
    return grid_result(notebook, mode, attentive, lambda group: _run(mode, group, limit, device), lacking)


def _run(mode: str, cells: Sequence[Cell], limit: int | None, device: str) -> dict | None:
    """The run of one data set and network; None where there is nothing to compare yet."""
    start = time.monotonic()
    networks = finished(cell.checkpoint if cell.weights_here else cell.card for cell in cells if cell.done)
    parts, extra = [], {}
    for method in sorted({n.method for n in networks}):
        own = [n for n in networks if n.method == method]
        if len(own) > 1:
            *measured, extra[method] = method_rows(own, limit, device)
            parts.append(measured)
    if not parts:
        return None
    learned = [n for n in networks if n.method == "lfi_cam" and n.path.is_file()]
    few = min(limit or POST_HOC_IMAGES, QUICK_POST_HOC if mode == "quick" else POST_HOC_IMAGES)
    for method in POST_HOC if len(learned) > 1 else ():
        parts.append(method_rows([replace(n, method=method) for n in learned], few, device)[:2])
    rows, pairs = (pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True))
    data, network = networks[0].data, networks[0].network
    epochs = next(cell.config.numbers.epochs for cell in cells if cell.done)
    settings = {"threshold": PAPER, "limit": limit, "epochs": epochs, "init": cells[0].config.init}
    settings["checkpoints"] = {n.name: n.sha256 for n in networks}
    kept = rows.round(dict.fromkeys(METRICS, 2)).astype(dict.fromkeys(METRICS, "float32"))
    kept = kept.astype({"image": "category", "method": "category"})
    write_rows(kept, rows_path(data, network, "stability"), settings)
    weights = range_of([100 * n.top1 for n in networks], network, "the test pictures")
    minutes = (time.monotonic() - start) / 60
    record = provenance.collect(mode, data, rows["image"].nunique(), weights, device, minutes, SEED, settings)
    beside = {
        "methods": extra,
        "pairs": pairs.round(3).to_dict("records"),
        "seeds": "own" if (rows["kind"] == "").any() else "one",
        "thresholds": list(THRESHOLDS),
        "missing": [cell.name for cell in cells if not cell.done],
    }
    means, differences, beside["images"] = summary(rows, pairs)
    for method in extra:
        top1 = [100 * n.top1 for n in networks if n.method == method]
        wide = max(top1) - min(top1)
        row = {"method": method, "metric": "accuracy_range", "mean": wide, "low": wide, "high": wide}
        means.append(row | {"n": len(top1)})
    return make_run(means, differences, record, network, beside)

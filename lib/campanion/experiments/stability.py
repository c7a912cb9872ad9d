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
compares networks of similar accuracy; :func:`accuracy_range` has its interval, the others are those of
:mod:`campanion.results.pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from campanion.cams.maps import min_max_map
from campanion.experiments import learned
from campanion.experiments.learned import SEED, Trained, enlarged
from campanion.experiments.runner import Answer
from campanion.experiments.training_runs import TrainedQuestion, TrainingRuns
from campanion.metrics.stability import independent_iou, stability_iou
from campanion.models.load import read_card
from campanion.progress import track
from campanion.results.pairs import Pairs, over_networks

PAPER = 127  # of 255: "reasonably high temperature", section 4.4
THRESHOLDS = tuple(range(15, 256, 16))  # 127 is among them
METRICS = (
    "iou", "iou_official", "iou_map_size", "iou_independent", "iou_shuffled", "above_shuffled", "area", "constant",
)  # fmt: skip
KINDS = ("", "one_seed_")  # pairs of different seeds, and of one
CHUNK = 500  # images at a time
#: Maps made afterwards of the networks that learn LFI-CAM's: are they as stable over the same training runs?
POST_HOC = ("grad_cam", "score_cam")
POST_HOC_IMAGES = 300  # Score-CAM takes a forward pass for each channel


def others(count: int, seed: int = 0) -> Tensor:
    """For each of ``count`` images another one, by a random ring through all of them; ValueError for a single image."""
    if count < 2:
        raise ValueError("One image has no other to be compared with: take at least two.")
    ring = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(ring).index_copy_(0, ring, ring.roll(1))


def compare_maps(a: Tensor, b: Tensor, b_of_others: Tensor, side: int, threshold: float = PAPER / 255) -> dict:
    """Every metric of the module's head for maps [N, h, w] of two networks, N values each, in per cent."""
    large_a, large_b, large_other = (enlarged(maps, side) for maps in (a, b, b_of_others))
    area_a, area_b = ((maps >= threshold).double().mean((1, 2)) for maps in (large_a, large_b))
    small_a, small_b = (min_max_map(maps)[0] for maps in (a, b))
    values = {
        "iou": stability_iou(large_a, large_b, threshold=threshold),
        "iou_official": stability_iou(large_a, large_b, threshold=threshold, variant="official"),
        "iou_map_size": stability_iou(small_a, small_b, threshold=threshold),
        "iou_independent": independent_iou(area_a, area_b),
        "iou_shuffled": stability_iou(large_a, large_other, threshold=threshold),
        "area": area_a,
        "constant": ((large_a.amax((1, 2)) == 0) | (large_b.amax((1, 2)) == 0)).double(),
    }
    values["above_shuffled"] = values["iou"] - values["iou_shuffled"]
    return {metric: 100 * of_images for metric, of_images in values.items()}


def method_rows(
    networks: Sequence[Trained], limit: int | None = None, device: str = "cpu"
) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """What is measured of networks of one method, which were tested on the same images, and what the figures need.

    Returns:
        Means over pairs, a row per kind of pair and image (method, kind, image and :data:`METRICS`); means over images,
        a row per pair (method, kind, first, second and the metrics); and a dictionary: ``networks``, ``base`` (the most
        accurate one's name), ``matrix`` (mean IoU of every two networks), ``curves`` (mean ``iou`` and ``iou_shuffled``
        of the base with networks of other seeds at each of :data:`THRESHOLDS`) and ``shown`` (maps [h, w] of
        :func:`~campanion.experiments.learned.images_to_show`, by image and network).
    """
    maps, ids, side, shown = _maps(networks, limit, device)
    method, base, partner = networks[0].method, max(networks, key=lambda n: n.top1), others(len(ids), SEED)
    parts = []
    for indices in track(torch.arange(len(ids)).split(CHUNK), f"IoU of {method}", unit="chunk"):
        images = [ids[i] for i in indices]
        for a, b in combinations(networks, 2):
            values = compare_maps(maps[a.name][indices], maps[b.name][indices], maps[b.name][partner[indices]], side)
            part = pd.DataFrame({metric: values[metric].double().numpy() for metric in METRICS})
            parts.append(part.assign(kind=KINDS[a.seed == b.seed], first=a.name, second=b.name, image=images))
    of_pairs = pd.concat(parts, ignore_index=True).assign(method=method)
    rows, pairs = (
        of_pairs.groupby(["method", "kind", *names], sort=False)[list(METRICS)].mean().reset_index()
        for names in (["image"], ["first", "second"])
    )
    matrix = _matrix(pairs, "iou", [n.name for n in networks])
    np.fill_diagonal(matrix, 100.0)
    with_base = [(a, b) for a, b in combinations(networks, 2) if base in (a, b) and a.seed != b.seed]
    extra = {
        "networks": [{**asdict(n), "path": n.path.name, "about": n.about} for n in networks],
        "base": base.name,
        "matrix": matrix.tolist(),
        "curves": _curves([(maps[a.name], maps[b.name]) for a, b in with_base], partner, side) if with_base else {},
        "shown": shown,
    }
    return rows, pairs, extra


def _maps(
    networks: Sequence[Trained], limit: int | None, device: str
) -> tuple[dict[str, Tensor], list[str], int, dict[str, dict[str, list]]]:
    """Maps [N, h, w] by the network's name, the images' ids, the side that maps are enlarged to, and maps to show."""
    maps, ids, shown, first = {}, {}, {}, networks[0].name
    for n in networks:
        if n.method in learned.LEARNED.values():
            maps[n.name], about = learned.learned_maps(n, limit, device)
            ids[n.name], side = about["ids"], about["size"]
            for image, drawn in about["shown"].items():
                shown.setdefault(image, {})[n.name] = drawn
        else:
            maps[n.name], ids[n.name], _ = learned.maps_of(n.path, n.method, limit, device)
            side = maps[n.name].shape[-1]
        if ids[n.name] != ids[first]:
            raise ValueError(f"{n.name} was tested on other images than {first}.")
    return maps, ids[first], side, shown


def _curves(couples: Sequence[tuple[Tensor, Tensor]], partner: Tensor, side: int) -> dict[str, list[float]]:
    """Mean ``iou`` and ``iou_shuffled`` of pairs of maps [N, h, w] at each of :data:`THRESHOLDS`, in per cent."""
    sums = {name: torch.zeros(len(THRESHOLDS)) for name in ("iou", "iou_shuffled")}
    for indices in torch.arange(len(partner)).split(CHUNK):
        for a, b in couples:
            large = enlarged(a[indices], side)
            for name, compared in (("iou", b[indices]), ("iou_shuffled", b[partner[indices]])):
                ious = (stability_iou(large, enlarged(compared, side), threshold=t / 255) for t in THRESHOLDS)
                sums[name] += torch.stack([iou.sum().float() for iou in ious])
    return {name: (100 / len(partner) / len(couples) * total).tolist() for name, total in sums.items()}


def _matrix(pairs: pd.DataFrame, metric: str, names: Sequence[str]) -> np.ndarray:
    """[K, K] of a metric, symmetric, NaN where ``pairs`` has no row."""
    table = pairs.pivot(index="first", columns="second", values=metric).reindex(index=names, columns=names).to_numpy()
    return np.where(np.isnan(table), table.T, table)


def summary(rows: pd.DataFrame, pairs: pd.DataFrame, seeds: Mapping[str, int]) -> tuple[list[dict], ...]:
    """Means, differences between the methods on the same images, and the latter with intervals over images alone;
    ``rows`` and ``pairs`` are those of all methods, from :func:`method_rows`, ``seeds`` of the networks by name.
    """
    means, differences, over_images = [], [], []
    for kind, metric in product(KINDS, METRICS):
        arms: dict[str, Pairs] = {}
        for method, of_method in rows[rows["kind"] == kind].groupby("method", sort=False):
            couples = pairs[(pairs["kind"] == kind) & (pairs["method"] == method)]
            names = sorted({*couples["first"], *couples["second"]})
            images = of_method.sort_values("image")[metric].to_numpy()
            arms[method] = Pairs(_matrix(couples, metric, names), images, [seeds[name] for name in names])
        for method, arm in arms.items():
            interval, count = over_networks([(1, arm)]), int(arm.counted.sum())
            lowest = -100 if metric == "above_shuffled" else 0
            row = {"method": method, "metric": kind + metric, "mean": interval["mean"]}
            row |= {end: float(np.clip(interval[end], lowest, 100)) for end in ("low", "high")}
            of_seeds = f"{len(set(arm.seeds))} seed{'s' * (len(set(arm.seeds)) > 1)}"
            note = f"{count} pair{'s' * (count > 1)} of {len(arm.seeds)} networks, {of_seeds}"
            means.append(row | {"n": len(arm.images), "note": note})
        for method, reference in combinations(arms, 2):
            if len(arms[method].images) != len(arms[reference].images):
                continue  # post-hoc maps are made of fewer images
            interval = over_networks([(1, arms[method]), (-1, arms[reference])])
            row = {"method": method, "reference": reference, "metric": kind + metric, "mean": interval["mean"]}
            row["n"] = len(arms[method].images)
            differences.append({**row, "low": interval["low"], "high": interval["high"]})
            over_images.append({**row, "low": interval["low_images"], "high": interval["high_images"]})
    return means, differences, over_images


def answer(runs: TrainingRuns) -> Answer | None:
    """What the module's head lists, of the methods of which two networks are trained; ``extra["missing"]`` names the
    training runs that are not finished.
    """
    networks = learned.finished(cell.checkpoint if cell.weights_here else cell.card for cell in runs.done)
    by_method = {method: [n for n in networks if n.method == method] for method in sorted({n.method for n in networks})}
    parts, methods = [], {}
    for method, trained in by_method.items():
        if len(trained) > 1:
            *measured, methods[method] = method_rows(trained, runs.limit, runs.device)
            parts.append(measured)
    if not parts:
        return None
    images = min(runs.limit or POST_HOC_IMAGES, POST_HOC_IMAGES)
    explained = [n for n in by_method.get("lfi_cam", ()) if n.path.is_file()]
    beside = [  # the learned maps of the same few images first
        method_rows([replace(n, method=method) for n in explained], images, runs.device)[:2]
        for method in (("lfi_cam", *POST_HOC) if len(explained) > 1 else ())
    ]
    parts += beside[1:]
    rows, pairs = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    config = runs.done[0].config
    settings = {"threshold": PAPER, "limit": runs.limit, "epochs": config.numbers.epochs, "init": config.init}
    settings["checkpoints"] = {n.name: n.sha256 for n in networks}
    short = dict.fromkeys(METRICS, "float32") | {"image": "category", "method": "category"}
    kept = rows.round(dict.fromkeys(METRICS, 2)).astype(short)
    weights = learned.range_of([100 * n.top1 for n in networks], networks[0].network, "the test pictures")
    seeds = {n.name: n.seed for n in networks}
    means, differences, over_images = summary(rows, pairs, seeds)
    if beside:
        compared = (pd.concat(tables, ignore_index=True) for tables in zip(*beside, strict=True))
        for table, added in zip((differences, over_images), summary(*compared, seeds)[1:], strict=True):
            known = {(d["method"], d["reference"], d["metric"]) for d in table}  # all, where there are no more images
            added = [d for d in added if (d["method"], d["reference"], d["metric"]) not in known]
            table += [d for d in added if "lfi_cam" in (d["method"], d["reference"])]
    extra = {
        "methods": methods,
        "pairs": pairs.round(3).to_dict("records"),
        "seeds": "own" if (rows["kind"] == "").any() else "one",
        "thresholds": list(THRESHOLDS),
        "missing": [cell.name for cell in runs.cells if not cell.done],
        "images": over_images,
    }
    tested = read_card(networks[0].path.with_suffix(".json"))["accuracy"]["test"]["n"]
    for method in methods:
        means.append({"method": method, **accuracy_range([n.top1 for n in by_method[method]], tested)})
    return Answer(means, differences, extra, None, kept, weights, settings)


def accuracy_range(accuracies: Sequence[float], tested: int) -> dict:
    r"""The row of S accuracies (0 to 1) over n test images: largest minus smallest in points, with its 95 % interval.

    Which two lie at the ends is not known beforehand, so the interval is Tukey's for all pairs at once:
    :math:`\pm q_{0.95}(S)\sqrt{(p_1(1-p_1) + p_2(1-p_2)) / 2n}` with the studentized range q and the accuracies at the
    ends. It takes the networks' errors as independent, which is wider than of the same images.
    """
    least, *_, most = sorted(accuracies)
    q = float(stats.studentized_range.ppf(0.95, len(accuracies), np.inf))
    reach = 100 * q * ((least * (1 - least) + most * (1 - most)) / 2 / tested) ** 0.5
    row = {"metric": "accuracy_range", "mean": (spread := 100 * (most - least)), "n": tested}
    return row | {"low": max(0.0, spread - reach), "high": spread + reach}


QUESTION = TrainedQuestion(
    "stability", "fig6", answer, "There are no two trained networks to compare", lambda cell: cell.config.attention
)

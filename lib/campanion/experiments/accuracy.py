"""Notebooks 11, 12 and 13: top-1 errors of the grid's finished training runs, with intervals.

A training run's errors are known image by image. The error of a method is the mean over its runs (seeds) and over
images; its interval counts both sources of chance (:mod:`campanion.results.statistics`). With one training run, what a
second would have given is not known: its error has an interval over images alone, and its differences have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy import stats

from campanion.experiments.learned import batches_of
from campanion.experiments.runner import Answer
from campanion.experiments.sizes import sizes
from campanion.experiments.training_runs import TrainedQuestion, TrainingRuns
from campanion.models.load import load_trained, read_card
from campanion.results.statistics import combine
from campanion.training.grid import STANDS_IN, Cell, cells
from campanion.training.parts import Part, open_part

BATCH = 250  # as in training.evaluate: generation table3 looks at all images of a batch
_ORDER = ("paper", "published", "table3")


def question(table: str) -> TrainedQuestion:
    """The errors of ``table1``, ``table2`` or ``table3``; the last also has the sizes, which need no training run."""
    return TrainedQuestion(
        "accuracy", table, answer, f"No training run is finished that {table} needs",
        takes=lambda cell: not cell.missing_data, of_training=True, untrained=sizes if table == "table3" else dict,
    )  # fmt: skip


def not_run(result: Mapping, table: str) -> list[Cell]:
    """The grid's training runs that a result lacks, of the scales that it has or stands in for."""
    trained = [cell for run in result["runs"] for cell in run.get("extra", {}).get("cells", ())]
    whole = {short: scale for scale, short in STANDS_IN.items()}
    scales = dict.fromkeys(whole.get(cell["scale"], cell["scale"]) for cell in trained) or ["reduced"]
    names = {cell["name"] for cell in trained}
    return [cell for scale in scales for cell in cells(scale, table) if cell.name not in names]


@torch.no_grad()
def correct_of(cell: Cell, part: Part, device: str | torch.device = "cpu") -> np.ndarray:
    """Whether the finished training run is right about each image of ``part``, bool [N]; its file's float32 weights."""
    network = load_trained(cell.checkpoint, device)
    batches = batches_of(part, network, BATCH, cell.name, device)
    predicted = torch.cat([network(images).argmax(1).cpu() for images in batches])
    return (predicted == part.labels.cpu()).numpy()


def correctness(runs: TrainingRuns) -> pd.DataFrame:
    """One row for each of the finished training runs and test image: ``cell``, ``image``, ``correct``."""
    memory = runs.device if torch.device(runs.device).type == "cuda" else "cpu"
    opened = cache(lambda: open_part(runs.cells[0].config, "test", memory))

    def measure(cell: Cell) -> pd.DataFrame:
        correct = correct_of(cell, opened(), runs.device)
        return pd.DataFrame({"cell": cell.name, "image": opened().ids, "correct": correct})

    return runs.kept("accuracy", measure, batch=BATCH)


def errors_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Error of each image in per cent (0 or 100), [N], by the training run; images in the same order."""
    return {name: 100.0 * ~part["correct"].to_numpy(bool) for name, part in rows.groupby("cell")}


def summary(errors: Mapping[str, Mapping[int, np.ndarray]]) -> tuple[list[dict], list[dict], dict]:
    """Rows, differences and the rest of a result.

    Args:
        errors: of each method, by seed: error of each image in per cent (0 or 100), [N], images in the same order.

    Returns:
        Rows of ``top1_error`` (``sd``: over training runs); differences of every pair of methods; and a dictionary:
        ``pictures``, the differences with intervals over images alone; ``per_seed``, the same for runs of one
        seed, which share the order of the images and their augmentations; ``detectable``, one number per difference.
    """
    rows, differences = [], []
    extra: dict[str, list] = {"pictures": [], "per_seed": [], "detectable": []}
    runs = {method: np.stack(list(seeds.values())) for method, seeds in errors.items()}
    for method, values in runs.items():
        interval = combine([(1, values)])
        row = {"method": method, "metric": "top1_error", "mean": interval["mean"], "n": values.shape[1]}
        if len(values) > 1:
            row |= {"low": max(0.0, interval["low"]), "high": min(100.0, interval["high"])}
            row["sd"] = float(values.mean(1).std(ddof=1))
        else:
            row |= _over_images(interval) | {"note": "one training run: the interval is over images alone"}
        rows.append(row)
    for reference, method in combinations(errors, 2):
        interval = combine([(1, runs[method]), (-1, runs[reference])])
        row = {"method": method, "reference": reference, "metric": "top1_error", "mean": interval["mean"]}
        row["n"] = runs[method].shape[1]
        differences.append({**row, "low": interval["low"], "high": interval["high"]})
        extra["pictures"].append(row | _over_images(interval))
        extra["detectable"].append(detectable(runs[method], runs[reference]))
        for seed in sorted(set(errors[method]) & set(errors[reference])):
            interval = combine([(1, errors[method][seed][None]), (-1, errors[reference][seed][None])])
            extra["per_seed"].append({**row, "seed": seed, "mean": interval["mean"], **_over_images(interval)})
    return rows, differences, extra


def _over_images(interval: Mapping[str, float]) -> dict[str, float]:
    return {"low": interval["low_images"], "high": interval["high_images"]}


def detectable(a: np.ndarray, b: np.ndarray, power: float = 0.8) -> float | None:
    r"""The difference of errors [S, N] of two methods whose 95 % interval leaves 0 out in ``power`` of cases:
    :math:`(t_{\nu, 0.975} + t_{\nu, power})` standard errors. None where a method has one training run.
    """
    if min(len(a), len(b)) < 2:
        return None
    images = (a.mean(0) - b.mean(0)).var(ddof=1) / a.shape[1]
    runs = [(values.mean(1).var(ddof=1) / len(values), len(values) - 1) for values in (a, b)]
    total = images + sum(variance for variance, _ in runs)
    freedom = total**2 / max(sum(variance**2 / f for variance, f in runs), 1e-300)
    return float((stats.t.ppf(0.975, freedom) + stats.t.ppf(power, freedom)) * total**0.5)


def names_of(group: Sequence[Cell]) -> dict[str, str]:
    """The tables' names of the grid's methods, in the paper's order: ``lfi_cam`` is the generation nearest to it."""
    generations = [cell.config.generation for cell in group if cell.config.attention == "lfi"]
    nearest = next((f"lfi-{generation}" for generation in _ORDER if generation in generations), None)
    names = {m: m for m in sorted({cell.method for cell in group}, key=lambda m: (m != "plain", m))}
    names |= {m: f"lfi_cam:{m[4:].replace('-', ',')}" for m in names if m.startswith("lfi-")}
    return names | ({nearest: "lfi_cam"} if nearest in names else {})


def answer(runs: TrainingRuns) -> Answer:
    """Errors and their differences (:func:`summary`), the networks' sizes, and each training run."""
    group, (_, model) = runs.done, runs.place
    config, names, rows = group[0].config, names_of(group), correctness(runs)
    by_cell, cards = errors_of(rows), {cell.name: read_card(cell.card) for cell in group}
    errors: dict[str, dict[int, np.ndarray]] = {}
    trained = []
    for cell in sorted(group, key=lambda cell: list(names).index(cell.method)):
        wrong, card, method = by_cell[cell.name], cards[cell.name], names[cell.method]
        errors.setdefault(method, {})[cell.config.seed] = wrong
        interval = combine([(1, wrong[None])])
        facts = {
            "name": cell.name, "scale": cell.scale, "method": method,
            "generation": cell.config.generation if cell.config.attention == "lfi" else None,
            "lr": cell.config.numbers.lr, "seed": cell.config.seed, "epochs": cell.config.numbers.epochs,
            "error": interval["mean"], **_over_images(interval), "parameters": card["parameters"] / 1e6,
        }  # fmt: skip
        trained.append(facts | {name: card[name] for name in ("minutes", "device", "sha256")})
    means, differences, extra = summary(errors)
    plain, epochs = means[0], config.numbers.epochs
    for method in errors:
        size = next(cell["parameters"] for cell in trained if cell["method"] == method)
        means.append({"method": method, "metric": "parameters", "mean": size, "low": size, "high": size, "n": 1})
    settings = {
        "scale": group[0].scale, "name": config.recipe, "size": config.pixels, "precision": config.precision,
        "init": config.init, **config.numbers.as_dict(), "train": cards[group[0].name]["data"]["train"],
    }  # fmt: skip
    weights = {
        "name": f"{model}, {len(group)} training runs of {epochs} epoch{'s' * (epochs != 1)}",
        "accuracy": f"top-1 {100 - plain['mean']:.1f} % {plain['method']}",
    }
    extra = {"cells": trained, **extra}
    return Answer(means, differences, extra, counted=rows, weights=weights, settings=settings)

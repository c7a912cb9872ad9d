"""Notebooks 11, 12 and 13: top-1 errors of the grid's finished training runs, with intervals.

A training run's errors are known image by image. The error of a method is the mean over its runs (seeds) and over
images; its interval counts both sources of chance (:mod:`campanion.results.statistics`). With one training run, what a
second would have given is not known: its error has an interval over images alone, and its differences have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy import stats

from campanion.errors import MissingResult
from campanion.experiments.learned import batches_of
from campanion.experiments.runner import pick_device, result_of
from campanion.experiments.sizes import size_runs
from campanion.models.load import load_trained, read_card
from campanion.results import provenance
from campanion.results.rows import read_rows, rows_path, write_rows
from campanion.results.statistics import combine
from campanion.results.store import make_run
from campanion.training.cell import Cell, by_network, longest
from campanion.training.grid import STANDS_IN, cells, default_scale, train_cells, with_stand_ins
from campanion.training.parts import Part, open_part

BATCH = 250  # as in training.evaluate: generation table3 looks at all images of a batch
#: Our names of what the paper calls otherwise.
MODELS = {"resnext29_8x64d": "resnext29"}
DATA = {"imagenette": "imagenette96", "ILSVRC2012": "imagenet"}
_ORDER = ("paper", "published", "table3")


def accuracy_study(notebook: str, mode: str, table: str, scale: str | None = None, device: str = "auto") -> dict:
    """The result of ``notebook``: see :mod:`campanion.results` for its form and :func:`summary` for what is in it.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` trains the grid's smallest cells and tests them;
            ``"full"`` tests those cells of ``scale`` that are trained already, and trains none.
        table: ``table1``, ``table2`` or ``table3``; the last also has the sizes.
        scale: of the grid, for ``"full"``; None is :func:`campanion.training.grid.default_scale`.

    Raises:
        MissingResult: cached, and there is no result; or full, and no cell is trained. The sentence names a command.
    """
    return result_of(notebook, mode, lambda: _runs(mode, table, scale, pick_device(device)))


def _runs(mode: str, table: str, scale: str | None, device: str) -> list[dict]:
    scale = "quick" if mode == "quick" else scale or default_scale()
    chosen = with_stand_ins(scale, table)
    if mode == "quick":
        train_cells(chosen)
    runs = size_runs(mode) if table == "table3" else []
    trained = longest(by_network(cell for cell in chosen if not cell.missing_data))
    runs += [_run(done, mode, device) for group in trained if (done := [c for c in group if c.done])]
    if not runs:
        raise MissingResult(
            f"No training run of scale {scale} is finished that {table} needs: "
            f"`python -m campanion grid --scale {scale} --table {table} --run` trains."
        )
    return runs


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


def correctness(group: Sequence[Cell], data: str, model: str, device: str | torch.device = "cpu") -> pd.DataFrame:
    """One row per cell and test image: ``cell``, ``image``, ``correct``; cells that were tested before are read from
    ``data/results/rows/accuracy_DATA_MODEL.parquet``, which has the SHA-256 of each checkpoint.
    """
    path = rows_path(data, model, "accuracy")
    rows, settings = read_rows(path) if path.exists() else (pd.DataFrame(columns=["cell"]), {"checkpoints": {}})
    tested, wanted = settings["checkpoints"], {cell.name: read_card(cell.card)["sha256"] for cell in group}
    untested = [cell for cell in group if tested.get(cell.name) != wanted[cell.name]]
    if untested:
        part = open_part(untested[0].config, "test", device if torch.device(device).type == "cuda" else "cpu")
        parts = [rows[~rows["cell"].isin([cell.name for cell in untested])]] if len(rows) else []
        for cell in untested:
            correct = correct_of(cell, part, device)
            parts.append(pd.DataFrame({"cell": cell.name, "image": part.ids, "correct": correct}))
        rows = pd.concat(parts, ignore_index=True).sort_values(["cell", "image"], kind="stable", ignore_index=True)
        write_rows(rows, path, {"checkpoints": {**tested, **wanted}, "batch": BATCH})
    return rows[rows["cell"].isin(list(wanted))]


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


def _run(group: Sequence[Cell], mode: str, device: str) -> dict:
    config, names = group[0].config, names_of(group)
    model, data = MODELS.get(config.network, config.network), DATA.get(config.data_name, config.data_name)
    rows = correctness(group, data, model, device)
    by_cell = rows.pivot(index="image", columns="cell", values="correct")
    cards = {cell.name: read_card(cell.card) for cell in group}
    errors: dict[str, dict[int, np.ndarray]] = {}
    trained = []
    for cell in sorted(group, key=lambda cell: list(names).index(cell.method)):
        wrong, card, method = 100.0 * ~by_cell[cell.name].to_numpy(bool), cards[cell.name], names[cell.method]
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
    minutes = sum(cell["minutes"] for cell in trained)
    record = provenance.collect(mode, data, len(by_cell), weights, device, minutes, config.seed, settings)
    # What takes the time is training, which may have been elsewhere and before.
    torch_versions = [card["versions"]["torch"] for card in cards.values()]
    record = provenance.measured_on(record, [cell["device"] for cell in trained], torch_versions)
    return make_run(means, differences, record, model, {"cells": trained, **extra})

"""What a notebook does with its mode: read the committed result, or measure, summarise and write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from campanion import provenance
from campanion.data import open_dataset
from campanion.errors import unknown
from campanion.evaluation import Protocol, evaluate, settings_of
from campanion.models import load_model
from campanion.papers import as_published
from campanion.results import load_result, make_run, read_rows, rows_path, save_result, write_rows
from campanion.statistics import paired, summarise

MODES = ("cached", "quick", "full")
QUICK_MODELS = ("scenes_vgg", "scenes_resnet")
QUICK_IMAGES = 24
CURVES = ("insertion_curve", "deletion_curve")


def study(
    notebook: str,
    mode: str,
    methods: Sequence[str],
    metrics: Sequence[str],
    models: Sequence[str],
    data: str = "imagenet-val",
    limit: int | None = None,
    protocol: Protocol = Protocol(),
    device: str = "auto",
) -> dict:
    """The result of ``notebook`` for the rows of ``methods``: see :mod:`campanion.results` for its form.

    Args:
        mode: ``"cached"`` reads the committed result and computes nothing; ``"quick"`` measures generated scenes with
            this project's two small networks; ``"full"`` measures ``models`` on ``data``, resuming finished images.
        metrics: in the papers' names (:data:`campanion.papers.DIRECTION`).
        limit: images of ``data`` (None: all; quick: 24).

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode.
    """
    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))
    if mode == "cached":
        return load_result(notebook)
    if mode == "quick":
        models, limit = QUICK_MODELS, limit or QUICK_IMAGES
        protocol = replace(protocol, orderings=min(protocol.orderings, 500), precision="float32")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    runs = [
        _run(mode, name, methods, metrics, "scenes" if mode == "quick" else data, limit, protocol, device)
        for name in models
    ]
    save_result(notebook, runs)
    return load_result(notebook)


def rows_of(result: dict, model: str) -> pd.DataFrame:
    """Per-image rows behind a run of ``result``, in the papers' names and units."""
    data = next(run["data"] for run in result["runs"] if run["model"] == model)
    return as_published(read_rows(rows_path(data, model))[0])


def _run(
    mode: str, name: str, methods: Sequence[str], metrics: Sequence[str], data: str, limit: int | None,
    protocol: Protocol, device: str,
) -> dict:  # fmt: skip
    model, pictures = load_model(name, device=device), open_dataset(data)
    rows = evaluate(model, pictures, protocol, limit, fresh=mode == "quick")
    settings = settings_of(model, pictures, protocol)
    write_rows(rows, rows_path(data, name), settings)
    one = rows.drop_duplicates("image")
    n = len(one)
    accuracy = f"top-1 {100 * one['correct'].mean():.1f} % on these {n:,} images"
    record = provenance.collect(
        mode,
        data,
        n,
        {**model.weights, "accuracy": accuracy},
        device,
        one["seconds"].sum() / 60,
        protocol.seed,
        settings,
    )
    chosen = as_published(rows)
    chosen = chosen[chosen["method"].isin(methods)]
    chosen = chosen.sort_values(
        "method", key=lambda names: names.map({m: i for i, m in enumerate(methods)}), kind="stable"
    )
    curves = {
        curve: {m: _mean_curve(chosen[chosen["method"] == m][curve]) for m in methods}
        for curve in CURVES
        if {"insertion", "deletion"} & set(metrics)
    }
    metrics = list(metrics)
    return make_run(summarise(chosen, metrics), paired(chosen, metrics), record, name, curves or None)


def _mean_curve(curves: pd.Series) -> list[float]:
    return [float(v) for v in pd.DataFrame(curves.tolist()).mean()]

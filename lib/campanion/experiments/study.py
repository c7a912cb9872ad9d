"""What a notebook does with its mode: read the committed result, or measure, summarise and write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import pandas as pd

from campanion.data import open_dataset
from campanion.errors import unknown
from campanion.experiments.evaluation import evaluate, settings_of
from campanion.experiments.modes import QUICK_IMAGES, QUICK_MODELS, committed, pick_device
from campanion.experiments.protocols import PROTOCOLS, Protocol
from campanion.experiments.timing import IMAGES, seconds_per_image
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.measures import as_published
from campanion.results.rows import read_rows, rows_path, with_rows, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

CURVES = ("insertion_curve", "deletion_curve")


def study(
    notebook: str,
    mode: str,
    methods: Sequence[str],
    metrics: Sequence[str],
    models: Sequence[str],
    limit: int | None = None,
    protocol: str | Sequence[str] = "cams",
    precision: str = "float32",
    device: str = "auto",
    quick_models: Sequence[str] = tuple(f"{name}@scenes" for name in QUICK_MODELS),
) -> dict:
    """The result of ``notebook`` for the rows of ``methods``: see :mod:`campanion.results` for its form.

    Args:
        mode: ``"cached"`` reads the committed result and computes nothing; ``"quick"`` measures generated scenes with
            this project's two small networks; ``"full"`` measures ``models``, resuming finished images.
        metrics: in the papers' names (:data:`campanion.results.measures.DIRECTION`); seconds_per_image is always
            measured anew.
        models: names, with their data set: ``"voc_mlp@voc2007"``; without one it is ``imagenet-val``.
        limit: images of each data set (None: all; quick: 24).
        protocol: a name of ``protocols.PROTOCOLS``; tables of one protocol share their per-image rows.
            Of several names, each network takes the first that it has rows of, committed before begun, and without
            any the first. A quick run leaves out what none of ``methods`` and ``metrics`` needs.
        precision: of the masked pictures' forwards (quick: float32).
        quick_models: what a quick run measures instead of ``models``.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode or protocol.
    """
    protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    for name in protocols:
        if name not in PROTOCOLS:
            raise ValueError(unknown("protocol", name, PROTOCOLS))
    if (result := committed(notebook, mode)) is not None:
        return result
    if mode == "quick":
        models, limit, precision = quick_models, limit or QUICK_IMAGES, "float32"
    device = pick_device(device)
    runs = []
    for model in models:
        model, _, data = model.partition("@")
        data = data or "imagenet-val"
        name = protocols[0] if mode == "quick" else with_rows(protocols, data, model)
        settings = replace(PROTOCOLS[name], precision=precision)
        if mode == "quick":
            settings = _only(settings, methods, metrics)
        runs.append(_run(notebook, mode, model, data, methods, metrics, limit, settings, device, name))
    save_result(notebook, runs)
    return load_result(notebook)


def _only(protocol: Protocol, methods: Sequence[str], metrics: Sequence[str]) -> Protocol:
    """``protocol`` without what a quick run can spare: methods not asked for, and curves where no metric needs them."""
    drawn = {"insertion", "deletion", "overall"} & set(metrics)
    compared = tuple(m for m in protocol.compared if m in methods)
    curves = tuple(m for m in protocol.curves if m in methods and (drawn or m not in compared))
    return replace(protocol, curves=curves, compared=compared, orderings=min(protocol.orderings, 500))


def rows_of(run: dict) -> pd.DataFrame:
    """Per-image rows behind a run of a result, in the papers' names and units."""
    settings = run["provenance"]["settings"]
    name = settings.get("rows", settings["protocol"])
    return as_published(read_rows(rows_path(run["data"], run["model"], name))[0])


def precision_shift(
    model: str, mode: str, data: str = "imagenet-val", limit: int = 20, device: str = "auto"
) -> pd.DataFrame | None:
    """How far bfloat16 forward passes move the numbers: the committed rows minus float32 rows of the first images.

    Returns:
        One row per method and metric (insertion, deletion, overall, ad, add): mean and largest absolute difference over
        the images, n; None in ``quick``, which runs in float32 anyway, and where the rows are float32 themselves.

    Raises:
        MissingResult: cached, and the float32 rows of ``model`` are not there.
    """
    rows, settings = read_rows(rows_path(data, model)) if mode != "quick" else (None, {"precision": "float32"})
    if settings["precision"] == "float32":
        return None
    path = rows_path(data, model, "float32")
    if mode == "full":
        protocol = replace(Protocol(**{f.name: settings[f.name] for f in fields(Protocol)}), precision="float32")
        network, pictures = load_model(model, device=pick_device(device)), open_dataset(data)
        exact = evaluate(network, pictures, protocol, limit, name="float32")
        write_rows(exact, path, settings_of(network, pictures, protocol))
    both = as_published(rows).merge(as_published(read_rows(path)[0]), on=["image", "method"], suffixes=("", "_float32"))
    parts = []
    for metric in ("insertion", "deletion", "overall", "ad", "add"):
        shift = both[metric] - both[f"{metric}_float32"]
        grouped = shift.groupby(both["method"], sort=False)
        part = pd.DataFrame(
            {"mean": grouped.mean(), "largest": grouped.agg(lambda d: d.abs().max()), "n": grouped.count()}
        )
        parts.append(part[part["n"] > 0].reset_index().assign(metric=metric))
    return pd.concat(parts, ignore_index=True)


def _run(
    notebook: str, mode: str, model: str, data: str, methods: Sequence[str], metrics: Sequence[str], limit: int | None,
    protocol: Protocol, device: str, name: str,
) -> dict:  # fmt: skip
    network, pictures = load_model(model, device=device), open_dataset(data)
    # Quick runs of several notebooks may go on side by side; each measures anew, and no more than it needs.
    kept = f"quick_{notebook}" if mode == "quick" else name
    rows = evaluate(network, pictures, protocol, limit, name=kept, fresh=mode == "quick")
    settings = settings_of(network, pictures, protocol)
    write_rows(rows, rows_path(data, model, kept), settings)
    one = rows.drop_duplicates("image")
    n = len(one)
    right = f"{100 * one['correct'].mean():.1f} % on these {n:,} images"
    accuracy = (
        f"top-1 {right}"
        if getattr(network, "activation", "softmax") == "softmax"
        else f"the highest class is present in {right}"
    )
    record = provenance.collect(
        mode,
        data,
        n,
        {**network.weights, "accuracy": accuracy},
        device,
        one["seconds"].sum() / 60,
        protocol.seed,
        {**settings, "protocol": name, **({"rows": kept} if kept != name else {})},
    )
    # The rows may have been measured elsewhere, in parts: what counts is where each was.
    record["device"] = " and ".join(sorted(one["device"].unique()))
    record["versions"]["torch"] = " and ".join(sorted(one["torch"].unique()))
    chosen = as_published(rows)
    chosen = chosen[chosen["method"].isin(methods)]
    chosen = chosen.sort_values(
        "method", key=lambda names: names.map({m: i for i, m in enumerate(methods)}), kind="stable"
    )
    if "seconds_per_image" in metrics:
        few = 3 if mode == "quick" else IMAGES
        timed = seconds_per_image(network, pictures, methods, few, protocol.precision, protocol.seed)
        chosen = chosen.merge(timed, on=["image", "method"], how="left", validate="one_to_one")
    curves = {
        curve: {m: _mean_curve(chosen[chosen["method"] == m][curve]) for m in methods}
        for curve in CURVES
        if {"insertion", "deletion"} & set(metrics)
    }
    metrics = [metric for metric in metrics if metric in chosen]  # there is energy only where there are boxes
    return make_run(summarise(chosen, metrics), paired(chosen, metrics), record, model, curves or None)


def _mean_curve(curves: pd.Series) -> list[float]:
    return [float(v) for v in pd.DataFrame(curves.tolist()).mean()]

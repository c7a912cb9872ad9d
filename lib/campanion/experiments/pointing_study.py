"""What notebook 22 does with its mode: read the pointing game's committed result, or play, summarise and write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch

from campanion.experiments.modes import QUICK_IMAGES, QUICK_MODELS, committed
from campanion.experiments.pointing import CHEAP, MASKED, evaluate_pointing, open_pictures, pointing_settings
from campanion.metrics import macro
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.rows import rows_path, write_rows
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

#: Methods of a table in this order, by the name of the rows that hold them.
RUNS: dict[str, tuple[str, ...]] = {"pointing": CHEAP, "pointing_masked": MASKED}
METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "score_cam", "ablation_cam", "fd_cam", "lift_cam",
    "group_cam", "centre point", "random point",
)  # fmt: skip

#: Metrics of a result, each from the column of the rows that it is the mean of; all but the correlation in per cent.
ACCURACIES = {"pointing_accuracy": "hit", "pointing_accuracy_15": "hit_15"}
#: Those of discriminability are over pictures with several classes only.
DISCRIMINABILITY = ("own_energy", "other_energy", "overlap", "correlation")

#: Which (image, class) pairs an accuracy is over. Classes whose objects are all marked difficult are in the last alone.
SUBSETS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "table": lambda rows: ~rows["difficult"],
    # "difficult" of Zhang et al. (excitation backprop) and TorchRay: small objects beside another class
    "small with distractors": lambda rows: ~rows["difficult"] & (rows["area"] < 0.25) & (rows["n_classes"] > 1),
    "one class in the picture": lambda rows: ~rows["difficult"] & (rows["n_classes"] == 1),
    "several classes": lambda rows: ~rows["difficult"] & (rows["n_classes"] > 1),
    "predicted present": lambda rows: ~rows["difficult"] & rows["predicted"],
    "not predicted": lambda rows: ~rows["difficult"] & ~rows["predicted"],
    "with classes marked difficult": lambda rows: pd.Series(True, rows.index),
}


def pointing_study(
    notebook: str,
    mode: str,
    models: Sequence[str],
    limit: int | None = None,
    masked_limit: int | None = None,
    precision: str = "float32",
    device: str = "auto",
) -> dict:
    """The result of ``notebook``: see :mod:`campanion.results` for its form and :func:`summary` for what is in it.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` plays on generated scenes with this project's two
            small networks; ``"full"`` plays with ``models``, resuming finished images.
        models: names, with their data set: ``"voc_mlp@voc2007"``, which is also the default one.
        limit: images for the methods of ``pointing.CHEAP`` (None: all; quick: 24).
        masked_limit: images for those of ``pointing.MASKED``; 0 takes only what is there already.
        precision: of the masked pictures' forwards (quick: float32), which only the second kind needs.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    limits = dict(zip(RUNS, (limit, masked_limit), strict=True))
    if mode == "quick":
        models, precision = [f"{name}@scenes" for name in QUICK_MODELS], "float32"
        limits = dict.fromkeys(RUNS, limit or QUICK_IMAGES)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    save_result(notebook, [_run(notebook, mode, model, limits, precision, device) for model in models])
    return load_result(notebook)


def summary(rows: pd.DataFrame, class_names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Means, paired differences and the rest of a result, from rows of ``pointing.evaluate_pointing``.

    The means are micro (FD-CAM eq. 12: over all pairs of an image and a class in it); the intervals resample images,
    with all their pairs, since pairs of an image are not independent.

    Returns:
        Rows of the :data:`ACCURACIES` and of :data:`DISCRIMINABILITY`; differences of the pointing accuracy between
        all methods, and of discriminability to FD-CAM; and a dictionary:

        - ``class_names``; ``images`` and ``pairs`` of each method; ``degenerate``: its constant maps, in per cent;
        - ``macro`` and ``macro_15``: mean over the classes of each one's accuracy, without and with the tolerance;
        - ``per_class``: the accuracy of each class, and ``pairs_per_class``, by method;
        - ``subsets``: rows of the pointing accuracy over each of :data:`SUBSETS`, with their pairs.
    """
    order = {name: i for i, name in enumerate(METHODS)}
    rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    rows = rows.assign(**{metric: 100 * rows[column].astype(float) for metric, column in ACCURACIES.items()})
    percent = list(DISCRIMINABILITY[:3])
    rows[percent] = 100 * rows[percent].astype(float)
    table, beside = rows[SUBSETS["table"](rows)], rows[SUBSETS["several classes"](rows)]
    means, differences = [summarise(table, list(ACCURACIES))], [paired(table, "pointing_accuracy")]
    for metric in DISCRIMINABILITY:
        told = beside[beside[metric].notna()]  # a point has none of these
        if len(told):
            means.append(summarise(told, metric))
        if {"fd_cam"} < set(told["method"]):
            differences.append(paired(told, metric, "fd_cam"))
    extra: dict = {"class_names": list(class_names), "images": {}, "pairs": {}, "degenerate": {}, "macro": {}}
    extra |= {"macro_15": {}, "per_class": {}, "pairs_per_class": {}}
    for method, own in table.groupby("method", sort=False):
        classes = torch.tensor(own["target"].to_numpy())
        grouped = own.groupby("target")["pointing_accuracy"]
        extra["images"][method], extra["pairs"][method] = own["image"].nunique(), len(own)
        extra["degenerate"][method] = 100 * own["degenerate"].fillna(False).astype(bool).mean()
        for name, metric in (("macro", "pointing_accuracy"), ("macro_15", "pointing_accuracy_15")):
            extra[name][method] = macro(torch.tensor(own[metric].to_numpy()), classes)
        extra["per_class"][method] = grouped.mean().reindex(range(len(class_names))).tolist()
        extra["pairs_per_class"][method] = grouped.size().reindex(range(len(class_names)), fill_value=0).tolist()
    extra["subsets"] = {name: _subset(rows[chosen(rows)]) for name, chosen in SUBSETS.items()}
    return pd.concat(means, ignore_index=True), pd.concat(differences, ignore_index=True), extra


def _subset(rows: pd.DataFrame) -> list[dict]:
    if rows.empty:
        return []
    pairs = rows.groupby("method").size()
    found = summarise(rows, "pointing_accuracy").drop(columns="metric")
    return found.assign(pairs=found["method"].map(pairs)).to_dict("records")


def _run(notebook: str, mode: str, model: str, limits: dict[str, int | None], precision: str, device: str) -> dict:
    model, _, data = model.partition("@")
    data = data or "voc2007"
    network, pictures = load_model(model, device=device), open_pictures(data)
    parts, settings = [], {}
    for name, methods in RUNS.items():
        # Quick runs measure anew and may go on beside others.
        own = f"quick_{notebook}_{name}" if mode == "quick" else name
        exact = "float32" if methods == CHEAP else precision
        rows = evaluate_pointing(network, pictures, methods, limits[name], own, precision=exact, fresh=mode == "quick")
        if len(rows):
            settings[name] = pointing_settings(network, pictures, methods, 0, exact)
            write_rows(rows, rows_path(data, model, name), settings[name])
            parts.append(rows)
    rows = pd.concat(parts, ignore_index=True)
    pairs = parts[0].drop_duplicates(["image", "target"])
    pairs = pairs[~pairs["difficult"]]
    known = f"finds {100 * pairs['predicted'].mean():.1f} % of the {len(pairs):,} classes in these pictures"
    minutes = sum(part.drop_duplicates("image")["seconds"].sum() for part in parts) / 60
    n = parts[0]["image"].nunique()
    record = provenance.collect(
        mode, data, n, {**network.weights, "accuracy": known}, device, minutes, 0, {"runs": settings}
    )
    # The rows may have been measured elsewhere, in parts: what counts is where each was.
    record["device"] = " and ".join(sorted(rows["device"].unique()))
    record["versions"]["torch"] = " and ".join(sorted(rows["torch"].unique()))
    means, differences, extra = summary(rows, pictures.class_names)
    return make_run(means, differences, record, model, extra)

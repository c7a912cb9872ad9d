"""How often each method is the best of all on a picture, and how steep its curves start: what a mean hides."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from campanion.data import open_dataset
from campanion.errors import unknown
from campanion.experiments.evaluation import evaluate, settings_of
from campanion.experiments.modes import QUICK_MODELS, committed
from campanion.experiments.protocols import FD_METHODS, Protocol
from campanion.experiments.study import CURVES
from campanion.models import load_model
from campanion.results import provenance
from campanion.results.measures import as_published, better
from campanion.results.rows import read_rows, rows_path
from campanion.results.statistics import paired, summarise
from campanion.results.store import load_result, make_run, save_result

TABLE = "21_fd_table1_faithfulness"  # its rows hold the curves of every image and method
AREAS = ("insertion", "deletion", "overall")
TIE = 1e-6  # areas that differ by rounding alone are equal
EARLY = 4  # steps of 3.6 % after which a curve shows how steep it starts: one seventh of the pixels


def with_wins(frame: pd.DataFrame, metrics: Sequence[str] = AREAS) -> pd.DataFrame:
    """``frame`` with a column ``best_<metric>`` for each metric: per cent of the picture's win that a method has.

    100 for the best method of an image, 0 for the others; m methods that tie for the best have 100 / m each.

    Args:
        frame: rows with image, method and the metrics, in the papers' names (``measures.DIRECTION``).

    Raises:
        ValueError: unknown metric, or an image lacks a method that others have.

    >>> summarise(with_wins(rows), ["best_overall"])
    """
    counts = frame.groupby("image")["method"].nunique()
    if counts.nunique() > 1:
        least = counts.idxmin()
        raise ValueError(
            f"Image {least} has {counts.min()} methods and others {counts.max()}: a best of all needs all."
        )
    frame = frame.copy()
    for metric in metrics:
        values = better(metric) * frame[metric]
        best = values >= values.groupby(frame["image"]).transform("max") - TIE
        frame[f"best_{metric}"] = 100.0 * best / best.groupby(frame["image"]).transform("sum")
    return frame


def with_starts(frame: pd.DataFrame, steps: int = EARLY) -> pd.DataFrame:
    """``frame`` with ``early_insertion`` and ``early_deletion``: the curves' values after ``steps`` steps.

    A steep insertion curve is high there, a steep deletion curve low.
    """
    return frame.assign(**{f"early_{c.split('_')[0]}": [float(v[steps]) for v in frame[c]] for c in CURVES})


def study(notebook: str, mode: str, models: Sequence[str], limit: int = 8, device: str = "cpu") -> dict:
    """The result of ``notebook``: areas, wins and starts of ``protocols.FD_METHODS``, and mean curves.

    Args:
        mode: ``"cached"`` reads the committed result; ``"quick"`` measures ``limit`` generated scenes with this
            project's networks; ``"full"`` takes the per-image rows that Table I's notebook has measured of ``models``.

    Raises:
        MissingResult: there is no result, or Table I has not been measured.
        ValueError: unknown mode, or a model that Table I's result lacks.
    """
    if (result := committed(notebook, mode)) is not None:
        return result
    measured = _scenes(notebook, limit, device) if mode == "quick" else _table(models)
    runs = []
    for model, rows, record in measured:
        rows = rows[rows["method"].isin(FD_METHODS)]
        order = {m: i for i, m in enumerate(FD_METHODS)}
        rows = rows.sort_values("method", key=lambda names, order=order: names.map(order), kind="stable")
        rows = with_starts(with_wins(as_published(rows)))
        wins = [f"best_{a}" for a in AREAS]
        steep = ["early_insertion", "early_deletion"]
        curves = {
            c: {
                m: [float(v) for v in pd.DataFrame(part[c].tolist()).mean()]
                for m, part in rows.groupby("method", sort=False)
            }
            for c in CURVES
        }
        differences = paired(rows, [*AREAS, *wins, *steep], reference="fd_cam")
        runs.append(make_run(summarise(rows, [*AREAS, *wins, *steep]), differences, record, model, curves))
    save_result(notebook, runs)
    return load_result(notebook)


def _scenes(notebook: str, limit: int, device: str) -> list[tuple[str, pd.DataFrame, dict]]:
    data, protocol, measured = open_dataset("scenes"), Protocol(compared=(), orderings=0), []
    for name in QUICK_MODELS:
        model = load_model(name, device=device)
        rows = evaluate(model, data, protocol, limit, name=f"quick_{notebook}", fresh=True)
        seconds = rows.drop_duplicates("image")["seconds"].sum()
        settings = settings_of(model, data, protocol)
        n = rows["image"].nunique()
        record = provenance.collect("quick", "scenes", n, model.weights, device, seconds / 60, protocol.seed, settings)
        measured.append((name, rows, record))
    return measured


def _table(models: Sequence[str]) -> list[tuple[str, pd.DataFrame, dict]]:
    runs = {r["model"]: r for r in load_result(TABLE)["runs"] if r["data"] == "imagenet-val"}
    for model in models:
        if model not in runs:
            raise ValueError(unknown("model of Table I's result", model, runs))
    measured = []
    for model in models:
        rows, _ = read_rows(rows_path("imagenet-val", model))
        measured.append((model, rows, {**runs[model]["provenance"], "n": rows["image"].nunique()}))
    return measured

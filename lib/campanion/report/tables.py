"""The numbers of a printed table beside those of one run, as a frame; :mod:`campanion.report.layout` shows it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from campanion.cams.methods import label
from campanion.report import networks
from campanion.report.papers import nearest, published
from campanion.results.measures import DIRECTION

COLUMNS = ("label", "method", "metric", "paper", "ours", "low", "high", "n")


def beside(
    paper: str, table: str, run: Mapping, stands: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """A printed table's numbers with a run's means of them, then our methods that the table does not print; sentences
    on the data set beside it and on misprints. ``stands`` says which of our networks stands for which printed one,
    ``{"resnet110": "resnet20"}``; ValueError where the table prints several and the run's stands for none of them.
    """
    printed = published(paper, table)
    printed = printed[printed["metric"].isin(DIRECTION)]
    printed = nearest(printed, run["data"])
    data = printed["data"].iloc[0]
    if printed["model"].nunique() > 1:
        names = printed["model"].replace(dict(stands or {}))
        if run["model"] not in set(names):
            several, ours = ", ".join(printed["model"].unique()), run["model"]
            raise ValueError(f"The table prints {several}: say for which {ours!r} stands, {{'resnet110': {ours!r}}}.")
        printed = printed[names == run["model"]]
    means = {(r["method"], r["metric"]): r for r in run["rows"]}
    rows = [(p.row, p.method, p.metric, p.value, means.pop((p.method, p.metric), None)) for p in printed.itertuples()]
    labels, metrics = set(printed["row"]), set(printed["metric"])
    for (method, metric), row in means.items():
        if metric in metrics:  # another form of a printed method is told apart by its name in METHODS
            name = f"{label(method)} ({method})" if label(method) in labels else label(method)
            rows.append((name, method, metric, None, row))
    rows = [(*r, *((own or {}).get(k) for k in ("mean", "low", "high", "n"))) for *r, own in rows]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    notes = [f"Printed number: {p.row}, {p.column}: {p.note}." for p in printed.itertuples() if p.note]
    if run["mode"] == "quick":
        notes.append("Quick run on generated scenes: it shows that the code works and says nothing about the paper.")
    elif data and networks.paper_data(run["data"]) != data:
        ours = networks.data(run["data"])
        notes.append(f"Measured on {ours}, which the paper's table lacks; beside it stands {networks.data(data)}.")
    return frame, list(dict.fromkeys(notes))

"""Every measured number beside the one that the paper prints in the same cell of a table, and their picture."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from campanion.report.claims import is_about, load_claims
from campanion.report.figures import PALETTE, STYLE
from campanion.report.papers import paper_data, published, tables, title
from campanion.results.measures import DIRECTION, TITLES

COLUMNS = ("paper", "table", "metric", "method", "model", "data", "printed", "ours", "low", "high", "n", "mode")
MARKERS = "oDs^vPX"  # one fewer than the colours: pairs repeat after 56 networks


def cells(results: Mapping[str, Mapping]) -> pd.DataFrame:
    """One row per measured number whose method and metric the paper's table has.

    Where the table prints them for several data sets or networks, ours stands beside the same data set, then the same
    network; where it has neither, beside the first that it prints. What was measured on real data that no claim about
    the table's metric takes in has no place: errors of another set's classes are no errors on ImageNet.

    Args:
        results: result files by notebook, from :func:`campanion.results.load_results`.

    Returns:
        Columns ``paper, table, metric, method, model, data, printed, ours, low, high, n, mode`` (of the run).

    >>> cells(load_results()).groupby(["paper", "table", "metric", "model"]).size()
    """
    rows = []
    for (paper, table), key in _notebooks().items():
        printed = published(paper, table)
        printed = printed[printed.metric.isin(DIRECTION) & printed.number.notna()]
        for run in results.get(key, {"runs": []})["runs"]:
            for r in [r for r in run["rows"] if _belongs(paper, table, r["metric"], run)]:
                same = printed[(printed.method == r["method"]) & (printed.metric == r["metric"])]
                if len(same):
                    fits = 2 * (same.data == paper_data(run["data"])) + (same.model == run["model"])
                    beside = float(same.number.loc[fits.idxmax()])
                    head = (paper, table, r["metric"], r["method"], run["model"], run["data"])
                    rows.append((*head, beside, r["mean"], r["low"], r["high"], r["n"], run["mode"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def paper_against_ours(measured: pd.DataFrame, width: float = 7.16) -> Figure:
    """Printed numbers across, ours with their 95 % intervals up: one axes per table and metric, a colour per network.

    A dot on the thin line is a number equal to the paper's; dots that rise from left to right keep the paper's order.

    Args:
        measured: from :func:`cells`.
        width: of the figure in inches.

    Raises:
        ValueError: nothing was measured.
    """
    if not len(measured):
        raise ValueError("No number was measured whose table is printed: run a notebook in quick or full mode first.")
    panels = list(measured.groupby(["paper", "table", "metric"], sort=False))
    looks = dict(zip(dict.fromkeys(measured.model), zip(cycle(PALETTE), cycle(MARKERS)), strict=False))
    columns = min(len(panels), 5)
    lines = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(lines, columns, figsize=(width, 1.45 * lines + 0.5), squeeze=False)
        for ax, ((paper, table, metric), part) in zip(axes.flat, panels, strict=False):
            for (model, _), run in part.groupby(["model", "data"], sort=False):
                colour, marker = looks[model]
                low, high = run.low.fillna(run.ours), run.high.fillna(run.ours)
                reach = [(run.ours - low).clip(lower=0), (high - run.ours).clip(lower=0)]
                ax.errorbar(run.printed, run.ours, reach, fmt=marker, ms=2.5, lw=0.6, color=colour, alpha=0.9)
            ax.autoscale_view()  # to the dots; the line is cut off where they end
            ax.autoscale(False)
            ax.axline((part.printed.mean(),) * 2, slope=1, color="0.6", lw=0.6, ls="-", zorder=0)
            ax.set_title(f"{title(paper, table)}\n{TITLES[metric].replace(' (', chr(10) + '(')}", fontsize=6)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(2, min_n_ticks=2))
            ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
            ax.tick_params(labelsize=5.5)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        fig.supxlabel("printed in the paper", fontsize=7)
        fig.supylabel("measured here", fontsize=7)
        handles = [mpl.lines.Line2D([], [], color=c, marker=m, ls="", ms=3.5, label=n) for n, (c, m) in looks.items()]
        fig.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6), fontsize=6)
    return fig


def _belongs(paper: str, table: str, metric: str, run: Mapping) -> bool:
    """Whether a claim about this metric of the table may be tested on the run's data; any, where there is no claim."""
    claims = [c for c in load_claims() if (c.paper, c.tables[0]) == (paper, table) and metric in c.test["metrics"]]
    return run["mode"] == "quick" or not claims or any(is_about(c, run["data"]) for c in claims)


def _notebooks() -> dict[tuple[str, str], str]:
    """The notebook of every table that has printed numbers, from the claims about it."""
    found = {}
    for claim in load_claims():
        if (claim.paper, claim.tables[0]) in tables():
            found.setdefault((claim.paper, claim.tables[0]), claim.notebook)
    return found

"""The paper's numbers beside ours, with interval, N and a word for how they compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

import pandas as pd

from campanion.cams.methods import label
from campanion.report.papers import paper_data, published, title
from campanion.results import provenance
from campanion.results.measures import DIRECTION, TITLES

COLUMNS = ("label", "method", "model", "data", "metric", "paper", "ours", "low", "high", "n", "difference", "word")
WITHIN, HIGHER, LOWER, EQUAL, ABSENT, OURS = (
    "within interval",
    "higher",
    "lower",
    "as printed",
    "not run",
    "not in paper",
)
_HEADS = ("Method", "Paper", "Ours", "95 % interval", "N", "Ours - paper", "Ours is")


@dataclass(frozen=True, repr=False)
class Table:
    """A table that shows itself: HTML in a notebook, text in a terminal, numbers in ``frame``.

    ``word`` compares our mean with the printed number: *within interval* if the printed number lies in our 95 %
    interval, *higher* or *lower* if not, *as printed* where an exact quantity rounds to it, *not run*,
    *not in paper*. It says nothing of better or worse, and agreement is not to be expected where ``notes`` lists
    other weights or images; what the papers claim is judged in :mod:`campanion.report.claims`.
    """

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...]
    provenance: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.title]
        for heading, rows in self._groups():
            cells = [list(_HEADS), *map(_cells, rows)]
            widths = [max(len(r[i]) for r in cells) for i in range(len(_HEADS))]
            lines += ["", heading, *("  ".join(map(_padded, r, widths, range(len(r)))).rstrip() for r in cells)]
        return "\n".join([*lines, "", *self._foot()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = []
        for heading, rows in self._groups():
            body.append(
                f'<tbody><tr><th scope="rowgroup" colspan="{len(_HEADS)}" style="text-align:left">'
                f"{escape(heading)}</th></tr>"
            )
            for row in rows:
                label, *cells = _cells(row)
                tds = "".join(f'<td style="text-align:{_align(i)}">{escape(c)}</td>' for i, c in enumerate(cells))
                body.append(
                    f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escape(label)}</th>{tds}</tr>'
                )
            body.append("</tbody>")
        heads = "".join(f'<th scope="col">{escape(h)}</th>' for h in _HEADS)
        foot = "".join(f"<p><small>{escape(line)}</small></p>" for line in self._foot())
        caption = f'<caption style="caption-side:top;text-align:left"><b>{escape(self.title)}</b></caption>'
        return f"<table>{caption}<thead><tr>{heads}</tr></thead>{''.join(body)}</table>{foot}"

    def _groups(self) -> Iterable[tuple[str, list[dict]]]:
        """Rows by metric, data and (where there are several) model, in the printed order."""
        several = self.frame.model.nunique() > 1
        keys = ["metric", "data", "model"] if several else ["metric", "data"]
        for (metric, data, *model), rows in self.frame.groupby(keys, sort=False):
            arrow = DIRECTION[metric]
            where = ", ".join(filter(None, (*model, data)))
            yield f"{TITLES[metric]} on {where} ({arrow} is better)", rows.to_dict("records")

    def _foot(self) -> list[str]:
        return [*(f"Unlike the paper: {note}" for note in self.notes), *self.provenance]


def paper_vs_ours(
    paper: str,
    table: str,
    result: Mapping,
    model: str | Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    extra_rows: bool = True,
    columns: Sequence[str] | None = None,
) -> Table:
    """A printed table beside a result.

    Args:
        paper, table: as for :func:`campanion.report.papers.published`.
        result: from :func:`campanion.results.load_result`; runs of several data sets fill several columns.
        model: which of our models to show; None takes the model of the printed row's own name, a mapping says which
            of ours stands for which printed one: ``{"resnet110": "resnet20"}``.
        data: our data set for a data set of the paper, where a stand-in is shown: ``{"stl10": "imagenette96"}``.
        notes: what is unlike the paper's setting, one sentence each.
        extra_rows: also show our methods that the paper does not print.
        columns: the paper's data sets to show (default: all of the table).

    Raises:
        ValueError: no run of ``result`` fits the table; the sentence lists the runs there are.

    >>> paper_vs_ours("fd", "table1", load_result("21_fd_table1_faithfulness"), model="resnet18")
    """
    printed = published(paper, table)
    printed = printed[printed.metric.isin(DIRECTION) & (printed.data.isin(columns or printed.data))]
    runs = {(r["model"], r["data"]): r for r in result["runs"]}
    printed = _narrowed(printed, result["runs"], model, data)
    rows, used = [], {}
    for row in printed.itertuples():
        name = model.get(row.model, row.model) if isinstance(model, Mapping) else model or row.model
        run = _run_for(runs, name, row.data, data or {})
        if run is not None:
            used[run["model"], run["data"]] = run
        rows.append(_row(row, run, name))
    if not used:
        listed = ", ".join(f"{m} on {d}" for m, d in runs)
        raise ValueError(
            f"No run fits {paper} {table} with model {model!r}; the result has {listed}: name one of them."
        )
    if extra_rows:
        rows += _extra(rows, used)
    frame = _ordered(pd.DataFrame(rows, columns=COLUMNS))
    lines = [provenance.line(r["provenance"]) for r in used.values()]
    if any(r["mode"] == "quick" for r in used.values()):
        lines.insert(0, "Quick run on generated scenes: it shows that the code works and says nothing about the paper.")
    head = f"{title(paper, table)}: the paper and ours" + (f" ({model})" if isinstance(model, str) else "")
    misprints = [f"{r.row}, {r.column}: {r.note}." for r in printed.itertuples() if r.note]
    return Table(head, frame, tuple(notes), (*(f"Printed number: {m}" for m in dict.fromkeys(misprints)), *lines))


def table_per_run(
    paper: str, table: str, result: Mapping, notes: Sequence[str] = (), stands: Mapping[str, str] | None = None
) -> dict[str, Table]:
    """A printed table beside each run of ``result``, by the run's name (``voc_mlp on voc2007``).

    ``stands`` says which of our networks stands for which printed one. A run on data that the table does not have
    stands beside the first data set that it has, and its foot says so.

    >>> table_per_run("lift", "table2", load_result("32_lift_table2_shap_similarity"))["squeezenet1_1 on imagenet-val"]
    """
    printed = list(dict.fromkeys(published(paper, table).data))
    shown = {}
    for run in result["runs"]:
        ours, own = paper_data(run["data"]), list(notes)
        column = ours if ours in printed else printed[0]
        if run["mode"] != "quick" and ours not in printed:
            own.append(f"measured on {run['data']}, which the paper's table does not have; beside it stands {column}.")
        shown[run_name(run)] = paper_vs_ours(
            paper,
            table,
            {**result, "runs": [run]},
            stands or run["model"],
            {column: run["data"]},
            own,
            columns=[column],
        )
    return shown


def run_name(run: Mapping) -> str:
    """``voc_mlp on voc2007``: the name of a run for headings, legends and, with its blanks replaced, files."""
    return f"{run['model']} on {run['data']}"


def compare(paper: str, mean: float, low: float | None, high: float | None) -> str:
    """The word for our mean and interval beside a printed number.

    >>> compare("0.4533", 0.4540, 0.4500, 0.4580)
    'within interval'
    """
    printed = Decimal(paper)
    if low is not None and low == high and round(Decimal(repr(mean)), -printed.as_tuple().exponent) == printed:
        return EQUAL
    if low is not None and low <= float(printed) <= high:
        return WITHIN
    return HIGHER if mean > float(printed) else LOWER


def _run_for(
    runs: Mapping[tuple[str, str], Mapping], model: str, data: str, stand_in: Mapping[str, str]
) -> Mapping | None:
    for (name, ours), run in runs.items():
        same = ours == stand_in[data] if data in stand_in else paper_data(ours) == data or run["mode"] == "quick"
        if name == model and same:
            return run
    return None


def _narrowed(
    printed: pd.DataFrame, runs: Sequence[Mapping], model: str | Mapping[str, str] | None, data: Mapping | None
) -> pd.DataFrame:
    """Leave out what one model, or generated scenes, cannot fill: they would repeat in every column."""
    if isinstance(model, str) and printed.model.nunique() > 1:
        if model not in set(printed.model):
            several = ", ".join(printed.model.unique())
            raise ValueError(f"The table prints {several}: say for which {model!r} stands, {{'resnet110': {model!r}}}.")
        printed = printed[printed.model == model]
    if data is None and all(r["mode"] == "quick" for r in runs):
        printed = printed[printed.data == printed.data.iloc[0]]
    return printed


def _row(printed: object, run: Mapping | None, name: str) -> tuple:
    found = None
    if run is not None:
        found = next((r for r in run["rows"] if (r["method"], r["metric"]) == (printed.method, printed.metric)), None)
    data = printed.data if run is None else run["data"]
    head = (printed.row, printed.method, name, data, printed.metric, printed.value)
    if found is None:
        return (*head, None, None, None, None, None, ABSENT)
    word = compare(printed.value, found["mean"], found["low"], found["high"])
    return (*head, found["mean"], found["low"], found["high"], found["n"], found["mean"] - printed.number, word)


def _extra(rows: Sequence[tuple], used: Mapping[tuple[str, str], Mapping]) -> list[tuple]:
    """Our methods that the table does not print, for the metrics that it prints on that data."""
    printed = {r[1:5] for r in rows}
    metrics = {r[2:5] for r in rows}
    names = {r[0] for r in rows}  # another form of a printed method is told apart by its name in METHODS
    return [
        (
            f"{label(r['method'])} ({r['method']})" if label(r["method"]) in names else label(r["method"]),
            r["method"],
            model,
            data,
            r["metric"],
            None,
            r["mean"],
            r["low"],
            r["high"],
            r["n"],
            None,
            OURS,
        )
        for (model, data), run in used.items()
        for r in run["rows"]
        if (model, data, r["metric"]) in metrics and (r["method"], model, data, r["metric"]) not in printed
    ]


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Our extra rows at the end of their group; groups in the order of their first row."""
    groups = frame.groupby(["metric", "data", "model"], sort=False).ngroup()
    return (
        frame.assign(_group=groups).sort_values("_group", kind="stable").drop(columns="_group").reset_index(drop=True)
    )


def _cells(row: Mapping) -> list[str]:
    paper = "-" if pd.isna(row["paper"]) else row["paper"]
    digits = (2 if abs(row["ours"]) > 1 else 4) if paper == "-" else max(-Decimal(paper).as_tuple().exponent, 1)
    if pd.isna(row["ours"]):
        return [row["label"], paper, "-", "-", "-", "-", row["word"]]
    interval = "-" if pd.isna(row["low"]) else f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
    gap = "-" if pd.isna(row["difference"]) else f"{row['difference']:+.{digits}f}"
    return [
        row["label"],
        paper,
        f"{row['ours']:.{digits}f}",
        interval,
        f"{int(row['n']):,}",
        gap,
        row["word"],
    ]


def _padded(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column in (0, len(_HEADS) - 1) else cell.rjust(width)


def _align(i: int) -> str:
    return "left" if i == len(_HEADS) - 2 else "right"

"""A printed table in the paper's own layout, and differences between methods: small tables that show themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import pandas as pd

from campanion.cams.methods import label
from campanion.report import networks
from campanion.report.networks import of_run, where
from campanion.report.papers import title
from campanion.report.tables import beside
from campanion.report.words import counted, interval, number
from campanion.results import provenance
from campanion.results.measures import DIRECTION, TITLES, better, limits

ARROWS = {"higher": "\u2191", "lower": "\u2193"}
_SIGNS = {"b": "**", "i": "*", "": ""}


@dataclass(frozen=True, repr=False)
class Sheet:
    """Blocks of rows with a caption and a foot: HTML in a notebook, text in a terminal. A block is heads and rows; a
    cell is a text, or a text and "b" or "i", which makes what stands behind " / " bold or italic.
    """

    caption: str
    blocks: Sequence[tuple[Sequence[str], Sequence[Sequence[str | tuple[str, str]]]]]
    foot: Sequence[str] = field(default=())

    def __str__(self) -> str:
        lines = [self.caption]
        for heads, rows in self.blocks:
            texts = [list(heads), *([f"{b}{_SIGNS[m]}{t}{_SIGNS[m]}" for b, t, m in map(_parts, row)] for row in rows)]
            widths = [max(len(r[i]) for r in texts) for i in range(len(heads))]
            lines += ["", *("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in texts)]
        return "\n".join([*lines, "", *self.foot] if self.foot else lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = []
        for i, (heads, rows) in enumerate(self.blocks):
            first = f'<caption style="caption-side:top;text-align:left"><b>{escape(self.caption)}</b></caption>'
            head = "".join(f'<th scope="col" style="text-align:left">{escape(h)}</th>' for h in heads)
            body = "".join(f"<tr>{''.join(_html(c, j) for j, c in enumerate(row))}</tr>" for row in rows)
            parts.append(f"<table>{'' if i else first}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return "".join(parts) + "".join(f"<p><small>{escape(line)}</small></p>" for line in self.foot)


def in_order(runs: Sequence[Mapping], models: Sequence[str]) -> list[Mapping]:
    """Runs in the order of ``models`` (``NAME@DATA``, without data ImageNet's validation part), others behind them."""
    place = {_full(name): i for i, name in enumerate(models)}
    return sorted(runs, key=lambda run: place.get(f"{run['model']}@{run['data']}", len(place)))


def not_run(runs: Sequence[Mapping], models: Sequence[str]) -> str:
    """``"Not run here: VGG16 of VOC on VOC2007."`` for those of ``models`` that have no run; "" where all have one."""
    present = {f"{run['model']}@{run['data']}" for run in runs}
    missing = [where(*name.split("@")) for name in map(_full, models) if name not in present]
    return "" if not missing or any(run["mode"] == "quick" for run in runs) else f"Not run here: {', '.join(missing)}."


def method_name(name: str) -> str:
    """A method of a result as a page names it: ``SHAP-CAM, 10 orderings``, ``XGrad-CAM (eq. 10)``, ``b = 0.5``."""
    if name == "xgrad_cam:lift":
        return "XGrad-CAM (eq. 10)"
    count = name.removeprefix("shap_cam_")
    if count != name and count.isdigit():
        return f"SHAP-CAM, {counted(count, 'ordering')}"
    return name.replace("b=", "b = ") if name.startswith("b=") else label(name)


def as_printed(
    paper: str,
    table: str,
    runs: Sequence[Mapping],
    notes: Sequence[str] = (),
    methods: Sequence[str] | None = None,
    reference: str | None = None,
    titles: Mapping[str, str] | None = None,
    stands: Mapping[str, str] | None = None,
) -> Sheet:
    """A printed table with ours beside each number: a row per method, the paper's columns, a block per network.

    A cell is ``paper / ours +- half of the 95 % interval``; bold: our best, italic: our second. A mean over fewer
    images than the others of its column says so, with that of the method ``reference`` on the same few, and is no
    candidate. ``notes`` stand below; ``methods`` are the rows to show, ``titles`` their names where not the printed
    ones; ``stands`` says which printed network ours stands for, ``{"resnet110": "resnet20"}``.
    """
    blocks: dict[str, list[tuple[Mapping, pd.DataFrame]]] = {}
    foot = list(notes)
    for run in runs:
        frame, remarks = beside(paper, table, run, stands)
        blocks.setdefault(run["model"], []).append((run, frame))
        foot += remarks
    foot += [provenance.line(run["provenance"]) for run in runs]
    tables = [_block(model, pairs, methods, reference, titles or {}) for model, pairs in blocks.items()]
    caption = f"{title(paper, table)}: paper / ours \u00b1 half of the 95 % interval; bold our best, italic our second"
    return Sheet(caption, tables, list(dict.fromkeys(foot)))


def means(
    runs: Sequence[Mapping],
    columns: Mapping[str, tuple[str, int]],
    caption: str,
    names: Mapping[str, str] | None = None,
    factors: Mapping[str, float] | None = None,
) -> Sheet:
    """Means with 95 % intervals: a block per run, a row per method with its N, a column per metric.

    ``columns`` has a title and the number of decimals by metric; ``names`` the rows by method, in their order (None:
    all); ``factors`` what the numbers of a metric are multiplied by.
    """
    blocks = []
    for run in runs:
        rows: dict[str, dict[str, Mapping]] = {}
        for row in run["rows"]:
            if row["metric"] in columns and row["n"]:
                rows.setdefault(row["method"], {})[row["metric"]] = row
        metrics = [metric for metric in columns if any(metric in values for values in rows.values())]
        cells = []
        for method in names or rows:
            if values := rows.get(method):
                most = max(row["n"] for row in values.values())
                named = (names or {}).get(method) or method_name(method)
                numbers = [mean(values.get(m), columns[m][1], (factors or {}).get(m, 1), most) for m in metrics]
                cells.append([named, f"{most:,}", *numbers])
        blocks.append(([of_run(run), "N", *(columns[m][0] for m in metrics)], cells))
    return Sheet(caption, blocks)


def mean(row: Mapping | None, digits: int, factor: float = 1, most: int = 0) -> str:
    """A row's mean with its 95 % interval, where it has one, and N where it is below ``most``; a dash for no row."""
    if row is None:
        return "-"
    ends = [sorted((row[k], *limits(row["metric"])))[1] for k in ("low", "high") if row[k] is not None]  # within limits
    width = f" [{', '.join(number(factor * end, digits) for end in ends)}]" if ends and ends[0] < ends[1] else ""
    return number(factor * row["mean"], digits) + width + (f" (N = {row['n']:,})" if row["n"] < most else "")


def differences(
    runs: Sequence[Mapping], metric: str, method: str, others: Sequence[str] | None = None, title: str | None = None
) -> Sheet:
    """``method`` minus each of ``others`` (all that were compared) on the same images, with 95 % intervals; a column
    per run. ``title`` names a metric that is none of the papers'.
    """
    columns = [difference_rows(run, metric, method) for run in runs]
    compared = dict.fromkeys(name for column in columns for name in column)
    heads = [f"{method_name(method)} minus", *(of_run(run) for run in runs)]
    rows = [[method_name(name), *(_difference(column.get(name), metric) for column in columns)]
            for name in others or compared if name in compared]  # fmt: skip
    named = title or f"{TITLES[metric]} ({DIRECTION[metric]} is better)"
    return Sheet(f"{named}: paired differences, 95 % interval, N", [(heads, rows)])


def difference_rows(run: Mapping, metric: str, method: str) -> dict[str, dict]:
    """``mean``, ``low``, ``high`` and ``n`` of ``method`` minus each other method, by the other's name."""
    rows = {}
    for d in run["differences"]:
        if d["metric"] == metric and method in (d["method"], d["reference"]) and d["low"] is not None:
            sign, reference = (1, d["reference"]) if d["method"] == method else (-1, d["method"])
            low, high = sorted((sign * d["low"] + 0.0, sign * d["high"] + 0.0))
            rows[reference] = {"mean": sign * d["mean"] + 0.0, "low": low, "high": high, "n": d["n"]}
    return rows


def _full(name: str) -> str:
    return name if "@" in name else f"{name}@imagenet-val"


def _block(
    model: str,
    pairs: Sequence[tuple[Mapping, pd.DataFrame]],
    methods: Sequence[str] | None,
    reference: str | None,
    titles: Mapping[str, str],
) -> tuple[list[str], list[list[str | tuple[str, str]]]]:
    """Heads and rows of one network, whose runs stand side by side."""
    heads, columns = [networks.name(model)], []
    names = dict.fromkeys(
        (r.method, r.label) for _, frame in pairs for r in frame.itertuples()
        if methods is None or r.method in methods
    )  # fmt: skip
    for run, frame in pairs:
        for metric, part in frame.groupby("metric", sort=False):
            part = part[part["method"].isin([method for method, _ in names])]
            most = part["n"].max()
            if pd.isna(most):
                continue
            known = part.dropna(subset=["low"])
            exact = len(known) and (known["low"] == known["high"]).all()  # parameters are no mean over images
            head = f"{TITLES[metric]} {ARROWS[DIRECTION[metric]]}, {networks.data(run['data'])}"
            heads.append(head if exact else f"{head}, N = {int(most):,}")
            columns.append(_column(run, metric, part.set_index("method"), most, reference))
    return heads, [
        [titles.get(method, text), *(column.get(method, "-") for column in columns)] for method, text in names
    ]


def _column(
    run: Mapping, metric: str, part: pd.DataFrame, most: float, reference: str | None
) -> dict[str, str | tuple[str, str]]:
    """The cells of one metric, by method."""
    whole = part[part["n"] == most]["ours"].astype(float) * better(metric)
    rank = whole.rank(ascending=False, method="min")
    shared = difference_rows(run, metric, reference) if reference else {}
    cells: dict[str, str | tuple[str, str]] = {}
    for method, row in part.iterrows():
        printed = "-" if pd.isna(row["paper"]) else row["paper"]
        digits = 2 if printed == "-" else max(len(printed.partition(".")[2]), 1)
        if pd.isna(row["ours"]):
            cells[method] = f"{printed} / -"
            continue
        low, high = row["low"], row["high"]  # missing or NaN of one image, or of two networks
        half = f" \u00b1 {(high - low) / 2:.{digits}f}" if not pd.isna(low) and high > low else ""
        text = f"{printed} / {row['ours']:.{digits}f}{half}"
        if row["n"] < most:
            text += f" (N = {int(row['n']):,}"
            same = shared.get(method)
            text += f"; {method_name(reference)} there {row['ours'] + same['mean']:.{digits}f})" if same else ")"
        cells[method] = (text, {1.0: "b", 2.0: "i"}.get(rank.get(method), ""))
    return cells


def _difference(row: Mapping | None, metric: str) -> tuple[str, str]:
    if row is None:
        return "-", ""
    text = interval(row["mean"], row["low"], row["high"], metric, sign=True)
    return f"{text}, {row['n']:,}", "b" if row["low"] > 0 or row["high"] < 0 else ""


def _parts(cell: str | tuple[str, str]) -> tuple[str, str, str]:
    text, mark = (cell, "") if isinstance(cell, str) else cell
    printed, slash, ours = text.rpartition(" / ")
    return printed + slash, ours, mark


def _html(cell: str | tuple[str, str], column: int) -> str:
    printed, ours, mark = map(escape, _parts(cell))
    inner = f"{printed}<{mark}>{ours}</{mark}>" if mark else printed + ours
    if column == 0:
        return f'<th scope="row" style="text-align:left;font-weight:normal">{inner}</th>'
    return f'<td style="text-align:left">{inner}</td>'

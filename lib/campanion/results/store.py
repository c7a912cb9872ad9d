"""Result files: one JSON per notebook with means, intervals, paired differences and where they come from.

``data/results/<notebook>.json``::

    {"notebook": "21_fd_table1_faithfulness", "schema": 1, "runs": [
      {"model": "resnet18", "data": "imagenet-val", "mode": "full",
       "rows": [{"method": "fd_cam", "metric": "insertion", "mean": 0.5, "low": 0.49, "high": 0.51, "n": 500}],
       "differences": [{"method": "fd_cam", "reference": "grad_cam", "metric": "insertion", "mean": ..., ...}],
       "provenance": {...}, "extra": {...}}]}

``extra`` (optional) holds what a figure needs beside, such as curves. Numbers have six significant digits, so that
the same rows give the same bytes. The per-image rows are in :mod:`campanion.results.rows`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from campanion import paths
from campanion.errors import MissingResult
from campanion.files import locked, write_whole
from campanion.results import provenance
from campanion.results.rows import RowStore, read_rows, rows_path, running_path, write_rows

__all__ = [
    "MissingResult",
    "RowStore",
    "check_result",
    "load_result",
    "load_results",
    "make_run",
    "read_rows",
    "result_path",
    "rows_path",
    "running_path",
    "save_result",
    "write_rows",
]

SCHEMA = 1
DIGITS = 6
_ROW = ("method", "metric", "mean", "low", "high", "n")
_DIFFERENCE = ("method", "reference", "metric", "mean", "low", "high", "n")
_OPTIONAL = ("p", "sd", "note")
_RUN = ("model", "data", "mode", "rows", "differences", "provenance")


def result_path(notebook: str) -> Path:
    """File of a notebook's results, such as ``data/results/21_fd_table1_faithfulness.json``."""
    return paths.results_dir() / f"{notebook}.json"


def make_run(
    rows: pd.DataFrame | Sequence[Mapping],
    differences: pd.DataFrame | Sequence[Mapping],
    record: Mapping[str, object],
    model: str,
    extra: Mapping[str, object] | None = None,
) -> dict:
    """One run of a result file.

    Args:
        rows: from :func:`campanion.results.statistics.summarise`.
        differences: from :func:`campanion.results.statistics.paired`.
        record: from :func:`campanion.results.provenance.collect`; gives data and mode.
        model: name of the network.
        extra: what a figure needs beside (JSON values).

    >>> run = make_run(summarise(frame, metrics), paired(frame, metrics), collect(...), "resnet18")
    >>> save_result("21_fd_table1_faithfulness", [run])
    """
    run = {
        "model": model,
        "data": record["data"],
        "mode": record["mode"],
        "rows": _records(rows),
        "differences": _records(differences),
        "provenance": dict(record),
    }
    return run if extra is None else {**run, "extra": dict(extra)}


def save_result(notebook: str, runs: Sequence[Mapping], keep_others: bool = True) -> Path:
    """Write the runs of a notebook; runs of another (data, model, mode) in the file stay unless told otherwise.

    The file is replaced in one step under a lock, so that runs of several models may be saved at the same time.

    Raises:
        ValueError: the result is not as :func:`check_result` wants it; nothing is written.
    """
    path = result_path(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(paths.out_dir() / "locks" / f"{path.name}.lock"):
        new = {_identity(r): r for r in _rounded([dict(r) for r in runs])}
        if len(new) < len(runs):
            raise ValueError(f"Two of the runs for {notebook} have the same data, model and mode: merge them first.")
        old = {_identity(r): r for r in load_result(notebook)["runs"]} if keep_others and path.exists() else {}
        merged = {**old, **new}
        result = {"notebook": notebook, "schema": SCHEMA, "runs": [merged[k] for k in sorted(merged)]}
        check_result(result)
        write_whole(path, _text(result))
    return path


def load_result(notebook: str, folder: Path | None = None) -> dict:
    """Result of a notebook, checked; from ``folder`` instead of :func:`campanion.paths.results_dir`, where given.

    Raises:
        MissingResult: there is none; the sentence names the command that computes it.
        ValueError: the file is damaged or of another schema; the sentence names file and place.
    """
    path = (folder or paths.results_dir()) / f"{notebook}.json"
    if not path.exists():
        raise MissingResult(f"No result at {path}: compute it with `./reproduce.sh full {notebook}`.")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it or run `./reproduce.sh full {notebook}`.") from error
    return check_result(result, str(path))


def load_results(folder: Path | None = None) -> dict[str, dict]:
    """Every result there is, by notebook."""
    folder = folder or paths.results_dir()
    return {p.stem: load_result(p.stem, folder) for p in sorted(folder.glob("*.json"))}


def check_result(result: Mapping, where: str = "result") -> Mapping:
    """Return ``result`` if it has the shape of this module's head, else raise a ValueError naming the place."""
    _need(isinstance(result, Mapping), where, "is not a JSON object")
    _fields(result, ("notebook", "schema", "runs"), (), where)
    _need(result["schema"] == SCHEMA, where, f"has schema {result['schema']!r}, this version reads {SCHEMA}")
    _need(isinstance(result["runs"], list) and result["runs"], where, "has no runs")
    seen = set()
    for i, run in enumerate(result["runs"]):
        place = f"{where}: runs[{i}]"
        _fields(run, _RUN, ("extra",), place)
        _need(run["mode"] in ("quick", "full"), place, f"has mode {run['mode']!r}, not 'quick' or 'full'")
        _need(_identity(run) not in seen, place, f"repeats {_identity(run)}")
        seen.add(_identity(run))
        missing = [k for k in provenance.REQUIRED if k not in run["provenance"]]
        _need(not missing, f"{place}.provenance", f"lacks {', '.join(missing)}")
        for kind, fields in (("rows", _ROW), ("differences", _DIFFERENCE)):
            _check_rows(run[kind], fields, f"{place}.{kind}")
        _need(run["rows"], f"{place}.rows", "is empty")
    return result


def _check_rows(rows: list, fields: tuple[str, ...], where: str) -> None:
    _need(isinstance(rows, list), where, "is not a list")
    names, seen = [f for f in fields if f in ("method", "reference", "metric")], set()
    for i, row in enumerate(rows):
        place = f"{where}[{i}]"
        _fields(row, fields, _OPTIONAL, place)
        for name in names:
            _need(isinstance(row[name], str) and row[name], place, f"has {name} = {row[name]!r}, not a name")
        key = tuple(row[n] for n in names)
        _need(key not in seen, place, f"repeats {key}")
        seen.add(key)
        _need(isinstance(row["n"], int) and row["n"] > 0, place, f"has n = {row['n']!r}, not a positive integer")
        _need(_finite(row["mean"]), place, f"has mean = {row['mean']!r}, not a finite number")
        bounds = (row["low"], row["high"])
        if bounds != (None, None):  # no interval: one image, or one network
            _need(all(map(_finite, bounds)), place, f"has the interval {bounds}, not two finite numbers or null")
            _need(bounds[0] <= bounds[1], place, f"has the interval {bounds} upside down")


def _fields(row: object, needed: tuple[str, ...], optional: tuple[str, ...], where: str) -> None:
    _need(isinstance(row, Mapping), where, "is not a JSON object")
    missing = [k for k in needed if k not in row]
    _need(not missing, where, f"lacks {', '.join(missing)}")
    strange = [k for k in row if k not in (*needed, *optional)]
    _need(not strange, where, f"has the unknown field {', '.join(map(repr, strange))}")


def _need(truth: object, where: str, says: str) -> None:
    if not truth:
        raise ValueError(f"{where} {says}.")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _identity(run: Mapping) -> tuple[str, str, str]:
    return run["data"], run["model"], run["mode"]


def _records(rows: pd.DataFrame | Sequence[Mapping]) -> list[dict]:
    return rows.to_dict("records") if isinstance(rows, pd.DataFrame) else [dict(r) for r in rows]


def _rounded(value: object) -> object:
    """JSON values with six significant digits; NaN (no value) becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return _rounded(value.tolist())
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")
    return value


def _text(result: Mapping) -> str:
    """JSON with one row per line: a changed number is one changed line."""
    runs = []
    for run in result["runs"]:
        parts = []
        for name, value in run.items():
            if name in ("rows", "differences") and value:
                listed = ",\n".join("    " + json.dumps(r, allow_nan=False) for r in value)
                parts.append(f'   "{name}": [\n{listed}\n   ]')
            else:
                parts.append(f'   "{name}": {json.dumps(value, allow_nan=False)}')
        runs.append("  {\n" + ",\n".join(parts) + "\n  }")
    head = f' "notebook": {json.dumps(result["notebook"])},\n "schema": {result["schema"]},\n "runs": [\n'
    return "{\n" + head + ",\n".join(runs) + "\n ]\n}\n"

"""Result files: one JSON per notebook with means, intervals, paired differences and where they come from.

``data/results/<notebook>.json`` is a :class:`Result`; ``extra`` of a run (optional) holds what a figure needs beside,
such as curves. Numbers have six significant digits, so that the same rows give the same bytes. The per-image rows are
in :mod:`campanion.results.rows`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from campanion import paths
from campanion.errors import MissingResult
from campanion.paths import locked, write_whole

DIGITS = 6
_Name = Annotated[str, Field(min_length=1)]
_Mode = Literal["quick", "full"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Row(_Strict):
    """The mean of a metric over ``n`` units; ``low`` and ``high`` are its 95 % interval, null with a single unit."""

    key: ClassVar = ("method", "metric")
    method: _Name
    metric: _Name
    mean: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    n: Annotated[int, Field(gt=0)]
    sd: float | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _upright(self) -> Row:
        if (self.low is None) != (self.high is None):
            raise ValueError("the interval needs two finite numbers or null")
        if self.low is not None and self.low > self.high:
            raise ValueError("the interval is upside down")
        return self


class Difference(Row):
    """The mean of ``method - reference`` on the same units."""

    key: ClassVar = ("method", "reference", "metric")
    reference: _Name


class Weights(BaseModel):
    """The weights of a run, see :func:`campanion.results.provenance.collect`."""

    model_config = ConfigDict(extra="allow")
    name: str


class Provenance(BaseModel):
    """Where a run's numbers come from, see :func:`campanion.results.provenance.collect`."""

    model_config = ConfigDict(extra="allow")
    mode: _Mode
    data: str
    n: int
    weights: Weights
    device: str
    minutes: float
    seed: int
    settings: dict
    versions: dict[str, str]
    commit: str
    date: str


def _unique(parts: list[Row] | list[Run]) -> list[Row] | list[Run]:
    """``parts``, of which no two may share the values of their ``key``."""
    for key, count in Counter(tuple(getattr(part, name) for name in part.key) for part in parts).items():
        if count > 1:
            raise ValueError(f"{type(parts[0]).__name__.lower()} {key} is repeated")
    return parts


class Run(_Strict):
    """What was measured of one network on one data set."""

    key: ClassVar = ("data", "model", "mode")
    model: str
    data: str
    mode: _Mode
    rows: Annotated[list[Row], Field(min_length=1), AfterValidator(_unique)]
    differences: Annotated[list[Difference], AfterValidator(_unique)]
    provenance: Provenance
    extra: dict | None = None


class Result(_Strict):
    """A result file."""

    notebook: str
    schema_: Annotated[Literal[1], Field(alias="schema")]
    runs: Annotated[list[Run], Field(min_length=1), AfterValidator(_unique)]


def result_path(notebook: str, folder: Path | None = None) -> Path:
    """File of a notebook's results, such as ``data/results/21_fd_table1_faithfulness.json``."""
    return (folder or paths.results_dir()) / f"{notebook}.json"


def make_run(
    rows: pd.DataFrame | Sequence[Mapping],
    differences: pd.DataFrame | Sequence[Mapping],
    record: Mapping[str, object],
    model: str,
    extra: Mapping[str, object] | None = None,
) -> dict:
    """One run of a result file, from the tables of :mod:`campanion.results.statistics`, the ``record`` of
    :func:`campanion.results.provenance.collect` and what a figure needs beside (``extra``, JSON values).
    """
    run = {"model": model, "data": record["data"], "mode": record["mode"], "rows": _records(rows)}
    run |= {"differences": _records(differences), "provenance": dict(record)}
    return run if extra is None else {**run, "extra": dict(extra)}


def save_result(notebook: str, runs: Sequence[Mapping]) -> dict:
    """Write the runs of a notebook and give back what was written; runs of another (data, model, mode) stay.

    The file is replaced in one step under a lock, so that runs of several models may be saved at the same time. Nothing
    is written where the result is not a :class:`Result` (ValueError).
    """
    path = result_path(notebook)
    with locked(paths.out_dir() / "locks" / f"{path.name}.lock"):
        new = _rounded(runs)
        measured = {_key(run) for run in new}
        old = [run for run in load_result(notebook)["runs"] if _key(run) not in measured] if path.exists() else []
        result = check_result({"notebook": notebook, "schema": 1, "runs": sorted([*old, *new], key=_key)})
        write_whole(path, _text(result))
    return result


def load_result(notebook: str, folder: Path | None = None) -> dict:
    """Result of a notebook, checked, from ``folder`` (:func:`campanion.paths.results_dir`); the sentence of a
    MissingResult names the command that makes it, that of a ValueError the damaged file and place.
    """
    path = result_path(notebook, folder)
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
    """Return ``result`` as it is if it is a :class:`Result`, else raise a ValueError naming the place."""
    try:
        Result.model_validate(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        value = f" = {first['input']!r}" if isinstance(first["input"], str | int | float | None) else ""
        raise ValueError(
            f"{where}: {place or 'the file'}{value}: {first['msg'].removeprefix('Value error, ')}."
        ) from error
    return result


def _key(run: Mapping) -> tuple[str, ...]:
    return tuple(run[name] for name in Run.key)


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

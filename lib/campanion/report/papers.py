"""The numbers that the three papers print, one CSV per table in ``data/papers``.

A row of a CSV is one printed number: ``value`` as printed (a string), ``row`` and ``column`` the printed labels,
``method``, ``model``, ``metric`` and ``data`` our names for them, ``direction`` whether higher or lower is better,
``note`` what is known to be wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pandas as pd
import yaml

from campanion import paths
from campanion.errors import unknown
from campanion.report.networks import paper_data

PAPERS: Mapping[str, str] = {
    "lfi": "LFI-CAM: Learning Feature Importance for Better Visual Explanation (ICCV 2021)",
    "fd": "FD-CAM: Improving Faithfulness and Discriminability of Visual Explanation for CNNs (ICPR 2022)",
    "lift": "LIFT-CAM: Towards Better Explanations for Class Activation Mapping (ICCV 2021)",
}


def tables() -> list[tuple[str, str]]:
    """Every transcribed table as ``(paper, table)``, such as ``("fd", "table1")``."""
    return [tuple(p.stem.split("_", 1)) for p in sorted(paths.papers_dir().glob("*.csv"))]


def published(paper: str, table: str) -> pd.DataFrame:
    """Printed numbers of a table (``"table1"``, ``"supplement_table1"``, ``"fig6"``) in printed order: the columns of
    the CSV as strings, and ``number``, NaN where text is printed. ValueError lists the tables that there are.

    >>> published("fd", "table1").query("method == 'fd_cam' and metric == 'overall'").number.item()
    0.4533
    """
    path = paths.papers_dir() / f"{paper}_{table}.csv"
    if not path.exists():
        raise ValueError(unknown("table", f"{paper} {table}", (" ".join(t) for t in tables())))
    return _read(str(path), path.stat().st_mtime_ns).copy()


def name(paper: str) -> str:
    """The method that a paper is about: ``LFI-CAM``."""
    return PAPERS[paper].partition(":")[0]


def title(paper: str, table: str) -> str:
    """The table's name as the paper has it: ``FD-CAM Table IV``."""
    words = table.replace("supplement_", "supplement ").replace("fig", "Fig. ").replace("table", "Table ")
    if paper == "fd" and "Table" in words:
        words = f"Table {('I', 'II', 'III', 'IV')[int(words[-1]) - 1]}"
    return f"{name(paper)} {words}"


def nearest(printed: pd.DataFrame, data: str) -> pd.DataFrame:
    """The rows of the papers' data set of which ``data`` is a part; of the first that is printed, where none is."""
    own = printed[printed["data"] == paper_data(data)]
    return own if len(own) else printed[printed["data"].isin(printed["data"][:1])]


@cache
def entries(name: str) -> dict:
    """What ``data/papers/<name>.yml`` holds: words and settings that are data, not code."""
    return yaml.safe_load((paths.papers_dir() / f"{name}.yml").read_text(encoding="utf-8"))


@cache
def _read(path: str, _changed: int) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.assign(number=pd.to_numeric(frame["value"], errors="coerce"))

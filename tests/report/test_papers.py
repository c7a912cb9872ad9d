"""The transcribed tables: complete, consistent in themselves, in the words of the library."""

from __future__ import annotations

import pandas as pd
import pytest
from campanion.report import networks, papers
from campanion.report.papers import published, tables
from campanion.results import measures
from campanion.results.measures import DIRECTION

COUNTS = {
    ("fd", "table1"): 8 * 3,
    ("fd", "table2"): 7,
    ("fd", "table3"): 3 * 3,
    ("fd", "table4"): 3 * 3,
    ("lfi", "fig6"): 2,
    ("lfi", "supplement_table1"): 5 * 3,
    ("lfi", "table1"): 6 * 2 + 4 * 2,
    ("lfi", "table2"): 2 * 2 + 2,
    ("lfi", "table3"): 15 * 2 + 10 * 2,
    ("lift", "table1"): 3 * 9,
    ("lift", "table2"): 6 * 3,
    ("lift", "table3"): 6 * 9,
    ("lift", "table4"): 6 * 2,
    ("lift", "table5"): 6,
    ("lift", "table6"): 2 * 3,
}


def number(frame: pd.DataFrame, **where: str) -> float:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, where
    return float(frame.number.item())


def test_every_table_is_there_and_whole():
    assert {t: len(published(*t)) for t in tables()} == COUNTS


@pytest.mark.parametrize("table", sorted(COUNTS), ids="_".join)
def test_names_and_directions(table):
    frame = published(*table)
    assert (frame.paper == table[0]).all()
    assert (frame.table == table[1]).all()
    assert not frame.duplicated(["method", "model", "metric", "data", "row"]).any()
    if table != ("lfi", "supplement_table1"):
        assert frame.number.notna().all()
        measured = frame[frame.metric.isin(DIRECTION)]
        assert len(measured)
        assert (measured.direction == measured.metric.map(dict(DIRECTION))).all()
        assert frame.metric.str.removesuffix("_change").isin(DIRECTION).all()
        assert set(measured.metric) <= set(measures.TITLES)


@pytest.mark.parametrize("table", ["table1", "table3", "table4"])
def test_fd_overall_is_insertion_minus_deletion(table):
    for _, rows in published("fd", table).groupby("row"):
        insertion, deletion, overall = (number(rows, metric=m) for m in ("insertion", "deletion", "overall"))
        assert round(insertion - deletion, 4) == overall


def test_the_full_fd_cam_is_the_same_in_its_three_tables():
    rows = [published("fd", t).query("method == 'fd_cam'") for t in ("table1", "table3", "table4")]
    assert [list(r.value) for r in rows] == [["0.5534", "0.1001", "0.4533"]] * 3


@pytest.mark.parametrize("table", ["table1", "table2", "table3"])
def test_lfi_changes_are_differences_of_printed_numbers(table):
    frame = published("lfi", table)
    base = "abn" if table == "table2" else "plain"
    changes = frame[frame.metric.str.endswith("_change")]
    assert len(changes)
    for row in changes.itertuples():
        metric = row.metric.removesuffix("_change")
        same = {"model": row.model, "metric": metric, "data": row.data}
        mine, theirs = number(frame, method=row.method, **same), number(frame, method=base, **same)
        assert round(mine - theirs, 2) == row.number, row


def test_notes_name_the_misprints():
    sizes = published("lfi", "table3").query("metric == 'parameters' and model == 'resnet50'").set_index("method")
    assert sizes.loc["plain"].value == "23.25"
    assert "23.52" in sizes.loc["plain"].note
    assert "eq. 10" in published("fd", "table4").query("method == 'fd_cam'").note.iloc[0]


def test_values_stay_as_printed_and_unknown_tables_are_told():
    assert "81.20" in set(published("fd", "table2").value)  # the last zero is not lost
    with pytest.raises(ValueError, match=r"Unknown table 'fd table9'.*fd table1"):
        published("fd", "table9")
    with pytest.raises(ValueError, match=r"Unknown metric 'insertoin'. Did you mean 'insertion'"):
        measures.better("insertoin")


def test_titles_and_data_names():
    assert papers.title("fd", "table4") == "FD-CAM Table IV"
    assert papers.title("lift", "table3") == "LIFT-CAM Table 3"
    assert papers.title("lfi", "fig6") == "LFI-CAM Fig. 6"
    assert networks.paper_data("imagenet-val") == "imagenet"
    assert networks.paper_data("imagenette96") == "imagenette96"


def test_methods_are_those_of_the_library():
    methods = pytest.importorskip("campanion.cams.methods")
    __import__("campanion.cams")
    known = set(methods.METHODS) | {"plain", "abn", "lfi_cam"}
    for table in tables():
        for name in set(published(*table).method):
            name = name.partition(":")[0]
            stem = name if name in known else name.rsplit("_", 1)[0]
            assert stem in known or name.startswith("fd_cam_"), name

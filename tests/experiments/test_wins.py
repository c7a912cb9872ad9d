"""Who is best of all, picture by picture."""

from __future__ import annotations

import pandas as pd
import pytest
from campanion.experiments import wins
from campanion.experiments.protocols import FD_METHODS
from campanion.experiments.wins import with_starts, with_wins

ROWS = pd.DataFrame(
    {
        "image": ["a", "a", "a", "b", "b", "b"],
        "method": ["x", "y", "z"] * 2,
        "insertion": [0.5, 0.7, 0.7, 0.9, 0.1, 0.2],
        "deletion": [0.1, 0.2, 0.3, 0.4, 0.3, 0.2],
        "insertion_curve": [[0.0, 0.2, 1.0]] * 6,
        "deletion_curve": [[1.0, 0.4, 0.0]] * 6,
    }
)


def test_the_best_is_the_highest_insertion_and_the_lowest_deletion():
    found = with_wins(ROWS, ["insertion", "deletion"])
    assert list(found["best_insertion"]) == [0, 50, 50, 100, 0, 0]
    assert list(found["best_deletion"]) == [100, 0, 0, 0, 0, 100]
    assert (found.groupby("image")["best_insertion"].sum() == 100).all()


def test_the_rows_given_are_left_as_they_were():
    before = ROWS.copy()
    with_wins(ROWS, ["insertion"])
    pd.testing.assert_frame_equal(ROWS, before)


def test_a_method_that_was_not_measured_on_an_image_is_named():
    with pytest.raises(ValueError, match="Image b has 2 methods"):
        with_wins(ROWS.iloc[:5], ["insertion"])
    with pytest.raises(ValueError, match="insertion"):
        with_wins(ROWS, ["insertoin"])


def test_starts_are_values_of_the_curves():
    found = with_starts(ROWS, 1)
    assert set(found["early_insertion"]) == {0.2}
    assert set(found["early_deletion"]) == {0.4}


def test_quick_study_wins_sum_to_one_hundred(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path / "out"))
    monkeypatch.setattr(wins, "QUICK_MODELS", ("scenes_resnet",))
    (run,) = wins.study("27_test", "quick", [], limit=2)["runs"]
    rows = pd.DataFrame(run["rows"])
    for metric in ("best_insertion", "best_deletion", "best_overall"):
        part = rows[rows["metric"] == metric]
        assert list(part["method"]) == list(FD_METHODS)
        assert part["mean"].sum() == pytest.approx(100, abs=1e-3)
    assert list(run["extra"]["insertion_curve"]) == list(FD_METHODS)
    with pytest.raises(ValueError, match="mode"):
        wins.study("27_test", "slow", [])

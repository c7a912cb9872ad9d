"""Two classes in one picture: numbers from rows that are written by hand, and from maps whose place is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from campanion.data.scenes import SceneDataset
from campanion.errors import MissingResult
from campanion.experiments import discriminability
from campanion.experiments.discriminability import METRICS, pairs, study, summary
from campanion.experiments.pointing import CENTRE, RANDOM, evaluate_pointing
from campanion.models import load_model


def row(image, target, method, own, other, **more):
    """One row of the pointing game."""
    facts = {"n_classes": 2, "difficult": False, "score": float(target), "overlap": 0.2, "correlation": 0.1}
    return facts | {"image": image, "target": target, "method": method, "own_energy": own, "other_energy": other} | more


ROWS = pd.DataFrame(
    [
        row("a", 3, "grad_cam", 0.7, 0.1),
        row("a", 5, "grad_cam", 0.4, 0.3),
        row("a", 3, "fd_cam", 0.5, 0.5),
        row("a", 5, "fd_cam", 0.5, 0.5),
        row("b", 1, "grad_cam", 0.9, np.nan, n_classes=1),
        row("c", 1, "grad_cam", 0.9, 0.0, difficult=True),
        row("c", 2, "grad_cam", 0.9, 0.0),
        *(row("d", c, "grad_cam", 0.3, 0.3, n_classes=3) for c in (1, 2, 3)),
    ]
)


def test_the_other_classes_map_in_the_same_boxes_is_taken_off():
    found = pairs(ROWS).set_index(["image", "target", "method"])
    assert len(found) == 4  # one class, a difficult one, and three classes are left out
    first, second = found.loc[("a", 3, "grad_cam")], found.loc[("a", 5, "grad_cam")]
    assert (first["own"], first["swapped"], first["gap"]) == pytest.approx((70, 30, 40))
    assert (second["own"], second["swapped"], second["gap"]) == pytest.approx((40, 10, 30))
    assert (first["part"], second["part"]) == ("other", "dominant")  # class 5 has the higher score
    assert (first["follows"], found.loc[("a", 3, "fd_cam")]["follows"]) == (100, 0)


def test_whether_a_map_follows_is_asked_where_boxes_share_nothing():
    apart = [row("a", 3, RANDOM, 0.3, 0.2), row("a", 5, RANDOM, 0.2, 0.3)]  # as large as the other's part outside
    touching = [row("a", 3, RANDOM, 0.3, 0.1), row("a", 5, RANDOM, 0.2, 0.2)]  # a tenth belongs to both
    for more, values in ((apart, [100, 100, 0, 0]), (touching, [None] * 4)):
        found = pairs(pd.concat([ROWS, pd.DataFrame(more)], ignore_index=True))
        follows = found[found["method"] != RANDOM]["follows"]
        assert [None if np.isnan(v) else v for v in follows] == values


def test_rows_without_two_classes_are_refused():
    with pytest.raises(ValueError, match="two classes"):
        pairs(ROWS[ROWS["image"] != "a"])


def test_summary_has_each_part_and_differences_to_fd_cam():
    means, differences = summary(pairs(ROWS))
    mean = means.set_index(["method", "metric"])["mean"]
    assert mean["grad_cam", "gap"] == pytest.approx(35)
    assert mean["grad_cam", "gap_dominant"] == pytest.approx(30)
    assert mean["grad_cam", "gap_other"] == pytest.approx(40)
    gaps = differences[differences["metric"] == "gap"]
    assert gaps[["method", "reference"]].to_numpy().tolist() == [["grad_cam", "fd_cam"]]
    assert gaps["mean"].item() == pytest.approx(35)


def test_an_even_map_has_the_shared_part_of_the_boxes_as_its_gap(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path))
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path))
    data = SceneDataset(8, split="test")
    rows = evaluate_pointing(load_model("scenes_resnet"), data, ["grad_cam", CENTRE, RANDOM], 8)
    found = pairs(rows)
    assert CENTRE not in set(found["method"])
    even = found[found["method"] == RANDOM]
    assert even["follows"].isna().all()
    samples = {data.ids[i]: data[i] for i in range(len(data))}
    for image, part in even.groupby("image"):
        inside = []
        for label in samples[image].labels:
            mask = np.zeros((64, 64), bool)
            for x0, y0, x1, y1 in samples[image].boxes(label).int().tolist():
                mask[y0:y1, x0:x1] = True
            inside.append(mask)
        assert part["gap"].to_numpy() == pytest.approx(100 * (inside[0] & inside[1]).mean(), abs=1e-4)


def test_quick_study_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path / "out"))
    monkeypatch.setattr(discriminability, "QUICK_MODELS", ("scenes_resnet",))
    monkeypatch.setattr(discriminability, "METHODS", ("grad_cam", "fd_cam", RANDOM))
    with pytest.raises(MissingResult):
        study("20_test", "cached", [])
    with pytest.raises(MissingResult, match="pointing"):
        study("20_test", "full", ["scenes_resnet@scenes"])
    (run,) = study("20_test", "quick", [], limit=8)["runs"]
    metrics = {r["metric"] for r in run["rows"]}
    assert metrics >= {*METRICS, "gap_dominant", "gap_other"}
    assert study("20_test", "cached", [])["runs"][0]["rows"] == run["rows"]
    with pytest.raises(ValueError, match="mode"):
        study("20_test", "slow", [])

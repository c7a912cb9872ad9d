"""Two classes in one image: numbers from rows that are written by hand, and from maps whose place is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from campanion.data.scenes import SceneDataset
from campanion.errors import MissingResult
from campanion.experiments.pointing import CENTRE, RANDOM, rows_question
from campanion.experiments.runner import ask, per_image
from campanion.models import load_model
from cells import study

discriminability = study(20, "pairs")
pairs, summary = discriminability.pairs, discriminability.summary


def row(image, target, method, own, other, **more):
    """One row of the pointing game."""
    facts = {"n_classes": 2, "difficult": False, "score": float(target), "overlap": 20.0, "correlation": 0.1}
    facts |= {"predicted": True, "image": image, "target": target, "method": method}
    return facts | {"own_energy": own, "other_energy": other} | more


ROWS = pd.DataFrame(
    [
        row("a", 3, "grad_cam", 70.0, 10.0),
        row("a", 5, "grad_cam", 40.0, 30.0),
        row("a", 3, "fd_cam", 50.0, 50.0),
        row("a", 5, "fd_cam", 50.0, 50.0),
        row("b", 1, "grad_cam", 90.0, np.nan, n_classes=1),
        row("c", 1, "grad_cam", 90.0, 0.0, difficult=True),
        row("c", 2, "grad_cam", 90.0, 0.0),
        *(row("d", c, "grad_cam", 30.0, 30.0, n_classes=3) for c in (1, 2, 3)),
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
    apart = [row("a", 3, RANDOM, 30.0, 20.0), row("a", 5, RANDOM, 20.0, 30.0)]  # as large as the other's part outside
    touching = [row("a", 3, RANDOM, 30.0, 10.0), row("a", 5, RANDOM, 20.0, 20.0)]  # a tenth belongs to both
    for more, values in ((apart, [100, 100, 0, 0]), (touching, [None] * 4)):
        found = pairs(pd.concat([ROWS, pd.DataFrame(more)], ignore_index=True))
        follows = found[found["method"] != RANDOM]["follows"]
        assert [None if np.isnan(v) else v for v in follows] == values


def test_rows_without_two_classes_are_refused():
    with pytest.raises(ValueError, match="two classes"):
        pairs(ROWS[ROWS["image"] != "a"])


def test_summary_has_each_part_and_differences_to_fd_cam():
    answer = summary(ROWS, None, ROWS[:0])
    means, differences = answer.means, answer.differences
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
    asked = rows_question("pointing", ["grad_cam", CENTRE, RANDOM])
    rows, _ = per_image(asked, asked.subject(load_model("scenes_resnet"), data), 8)
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


def test_a_full_run_takes_the_rows_of_the_pointing_game(out):
    one = ("scenes_resnet@scenes",)
    with pytest.raises(MissingResult, match="no rows pointing of scenes_resnet on scenes"):
        ask("20_test", "full", discriminability.QUESTION, one)
    (run,) = ask("20_test", "quick", discriminability.QUESTION, [], 8, quick=one)["runs"]
    metrics = {r["metric"] for r in run["rows"]}
    assert metrics >= {*discriminability.WHOLE, "overlap", "correlation", "gap_dominant", "gap_other"}
    assert {"score_cam", "fd_cam", RANDOM} <= {r["method"] for r in run["rows"]}

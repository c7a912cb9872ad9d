"""Result files: shape, bytes, merging, and what is said where one is missing or damaged."""

from __future__ import annotations

import copy
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from campanion import paths
from campanion.errors import MissingResult
from campanion.results import provenance
from campanion.results.measures import limits
from campanion.results.statistics import FEW, paired, summarise
from campanion.results.store import check_result, load_result, load_results, make_run, result_path, save_result

KEY = "21_fd_table1_faithfulness"
COMMITTED = sorted((paths.root() / "data" / "results").glob("*.json"))


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path / "out"))


def record(data: str = "imagenet-val", mode: str = "full") -> dict:
    weights = {"name": "resnet18", "sha256": "ab" * 32, "accuracy": "top-1 71.8 % on 400 images"}
    return provenance.collect(mode, data, 20, weights, "cpu", 1.26, 0, {"step": 1792})


def run(model: str = "resnet18", shift: float = 0.0, **kwargs) -> dict:
    x = np.random.default_rng(0).random((20, 2)) + shift
    frame = pd.DataFrame(
        [{"image": i, "method": m, "auc": x[i, j]} for i in range(20) for j, m in enumerate(("cam", "fd_cam"))]
    )
    return make_run(summarise(frame, "auc"), paired(frame, "auc"), record(**kwargs), model)


def test_saved_and_loaded_with_six_digits_and_the_same_bytes():
    result = save_result(KEY, [run()])
    first = result_path(KEY).read_bytes()
    assert result == load_result(KEY)
    row = result["runs"][0]["rows"][0]
    assert row["mean"] == float(f"{run()['rows'][0]['mean']:.6g}")
    assert row["n"] == 20
    save_result(KEY, result["runs"])
    assert result_path(KEY).read_bytes() == first
    assert len(first.splitlines()) > 5  # a row to a line
    assert set(load_results()) == {KEY}


def test_runs_of_other_models_stay():
    save_result(KEY, [run("squeezenet1_1")])
    save_result(KEY, [run("resnet18")])
    save_result(KEY, [run("resnet18", shift=1.0)])
    runs = load_result(KEY)["runs"]
    assert [r["model"] for r in runs] == ["resnet18", "squeezenet1_1"]
    assert runs[0]["rows"][0]["mean"] > 1
    with pytest.raises(ValueError, match=r"runs: run \('imagenet-val', 'resnet18', 'full'\) is repeated"):
        save_result(KEY, [run(), run()])


def test_missing_and_damaged_files_are_told():
    with pytest.raises(MissingResult, match=rf"\./reproduce\.sh full {KEY}"):
        load_result(KEY)
    save_result(KEY, [run()])
    path = result_path(KEY)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match=f"{KEY}.json is damaged"):
        load_result(KEY)


def broken(change) -> dict:
    result = {"notebook": KEY, "schema": 1, "runs": [copy.deepcopy(run())]}
    change(result)
    return result


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.pop("schema"), "schema: Field required"),
        (lambda r: r.update(schema=2), "schema = 2: Input should be 1"),
        (lambda r: r.update(runs=[]), "runs: List should have at least 1 item"),
        (lambda r: r["runs"][0].update(mode="cached"), r"runs\[0\].mode = 'cached'"),
        (lambda r: r["runs"][0].update(rows=[]), r"runs\[0\].rows: List should have at least 1"),
        (lambda r: r["runs"].append(r["runs"][0]), r"run \(.*\) is repeated"),
        (lambda r: r["runs"][0]["rows"][0].update(mean=float("nan")), r"rows\[0\].mean = nan: .*finite"),
        (lambda r: r["runs"][0]["rows"][1].update(low=2.0, high=1.0), "upside down"),
        (lambda r: r["runs"][0]["rows"][1].update(low=None), "two finite numbers or null"),
        (lambda r: r["runs"][0]["rows"][0].update(n=0), r"rows\[0\].n = 0: .*greater than 0"),
        (lambda r: r["runs"][0]["rows"][0].update(colour=1), r"rows\[0\].colour = 1: Extra"),
        (lambda r: r["runs"][0]["rows"].append(r["runs"][0]["rows"][0]), "row .* is repeated"),
        (lambda r: r["runs"][0]["differences"][0].pop("reference"), r"differences\[0\].reference: Field required"),
        (lambda r: r["runs"][0]["provenance"].pop("seed"), "provenance.seed: Field required"),
        (lambda r: r["runs"][0]["provenance"]["weights"].pop("name"), "provenance.weights.name: Field required"),
    ],
)
def test_check_names_the_place(change, says):
    assert check_result(broken(lambda r: None))
    with pytest.raises(ValueError, match=says):
        check_result(broken(change))


def test_nothing_is_written_when_the_check_fails():
    save_result(KEY, [run()])
    before = result_path(KEY).read_bytes()
    bad = run("alexnet")
    bad["rows"][0]["n"] = 0
    with pytest.raises(ValueError, match="greater than 0"):
        save_result(KEY, [bad])
    assert result_path(KEY).read_bytes() == before


def test_extra_and_missing_interval_survive():
    one = run()
    one["rows"][0].update(low=float("nan"), high=float("nan"))
    one["extra"] = {"curve": np.linspace(0, 1, 4)}
    save_result(KEY, [one])
    read = load_result(KEY)["runs"][0]
    assert read["rows"][0]["low"] is None
    assert read["extra"]["curve"] == [0.0, 0.333333, 0.666667, 1.0]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_results_have_the_right_shape(path):
    result = check_result(json.loads(path.read_text(encoding="utf-8")), path.name)
    assert result["notebook"] == path.stem
    # Quick runs answer no claim. The one that is committed stands for a data set that cannot be had here: VQA v2.
    quick = {(path.stem, r["data"]) for r in result["runs"] if r["mode"] != "full"}
    assert quick <= {("37_lift_table6_fig4_vqa", "scenes")}, "only full runs are committed"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_intervals_of_few_images_are_students(path):
    """Student's lie evenly about their mean, where the metric can be; those of the bootstrap of few images do not.

    Times of ten images cannot be made again from rows: those of before have the bootstrap's, as their pages say.
    """
    for one in load_result(path.stem, path.parent)["runs"]:
        for row in (r for r in (*one["rows"], *one["differences"]) if r["low"] is not None and r["n"] < FEW):
            ends = {row["low"], row["high"]}
            if ends & set(limits(row["metric"])) or row["metric"] == "seconds_per_image":
                continue
            middle, half = sum(ends) / len(ends), (max(ends) - min(ends)) / 2
            assert abs(middle - row["mean"]) <= 1e-3 * half + 2e-6 * abs(row["mean"]), (one["model"], row)


def test_provenance_line_says_it_all():
    line = provenance.line(record())
    for part in ("full run on imagenet-val, N = 20", "resnet18", "abababababab", "top-1 71.8 %", "CPU, ", "1.3 min"):
        assert part in line
    for package in provenance.PACKAGES:
        assert package in line
    assert "\n" not in line


def test_commit_marks_changed_code(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    assert provenance.commit() == "none"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("1\n")

    def git(*a):
        identity = ["-c", "user.name=n", "-c", "user.email=n@localhost"]
        return subprocess.run(["git", "-C", tmp_path, *identity, *a], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "--short=10", "HEAD").strip()
    assert provenance.commit() == head
    (tmp_path / "note.txt").write_text("a result, say\n")
    assert provenance.commit() == head
    (tmp_path / "lib" / "a.py").write_text("2\n")
    assert provenance.commit() == head + "+"

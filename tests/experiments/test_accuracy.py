"""Errors of finished training runs: known image by image, with intervals that count images and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from campanion.errors import MissingData
from campanion.experiments import training_runs
from campanion.experiments.accuracy import correctness, detectable, names_of, not_run, question, summary
from campanion.experiments.runner import ask
from campanion.experiments.sizes import NETWORKS, TABLE3, parameters, sizes
from campanion.experiments.training_runs import TrainingRuns
from campanion.models.load import read_card
from campanion.report.grid_figures import printed_differences, study_figure
from campanion.results.rows import read_rows, rows_path
from campanion.results.statistics import combine
from campanion.training.grid import Cell, train_cells
from campanion.training.settings import attention_of, make_config

TINY = {"data": "scenes", "network": "resnet20", "size": 16, "limit": 20, "limit_test": 12, "epochs": 1, "batch": 10,
        "lr": 0.01, "device": "cpu"}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OUT", "RESULTS", "FIGURES"):
        monkeypatch.setenv(f"CAMPANION_{name}", str(tmp_path / name.lower()))
    return tmp_path


def tiny(folder: Path, method: str, seed: int = 0) -> Cell:
    name = f"tiny_{method}_{seed}"
    settings = {**TINY, **attention_of(method), "seed": seed, "name": name, "folder": str(folder)}
    return Cell(make_config(settings), ("table1",), "quick")


def errors(seed: int, shares: list[float], n: int = 2000) -> np.ndarray:
    """Errors of some training runs on images of which some are hard for all of them."""
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < 0.1
    return np.stack([100.0 * (hard | (generator.random(n) < share)) for share in shares])


def test_one_training_of_a_method_gives_no_interval_of_a_difference() -> None:
    plain, abn = errors(1, [0.1, 0.1, 0.2]), errors(1, [0.05])
    rows, differences, extra = summary({"plain": dict(enumerate(plain)), "abn": {1: abn[0]}})
    by_method = {row["method"]: row for row in rows}
    assert by_method["plain"]["sd"] == pytest.approx(plain.mean(1).std(ddof=1))
    assert "note" in by_method["abn"]
    (difference,) = differences
    assert (difference["method"], difference["reference"]) == ("abn", "plain")
    assert np.isnan(difference["low"])
    assert extra["pictures"][0]["low"] < difference["mean"] < extra["pictures"][0]["high"]
    (same,) = extra["per_seed"]
    assert (same["seed"], same["mean"]) == (1, pytest.approx(abn[0].mean() - plain[1].mean()))


def test_errors_are_those_of_the_cards_and_are_kept(place: Path) -> None:
    group = [tiny(place, "plain"), tiny(place, "lfi-paper")]
    train_cells(group[:1])
    correctness(TrainingRuns(group[:1]))
    train_cells(group)
    rows = correctness(TrainingRuns(group))
    for cell in group:
        own = rows[rows["cell"] == cell.name]
        assert own["image"].nunique() == len(own) == 12
        assert own["correct"].mean() == pytest.approx(read_card(cell.checkpoint)["accuracy"]["test"]["top1"])
    path = rows_path("scenes", "resnet20", "accuracy")
    kept, settings = read_rows(path)
    assert settings["checkpoints"] == {cell.name: read_card(cell.checkpoint)["sha256"] for cell in group}
    before = path.stat().st_mtime_ns
    assert correctness(TrainingRuns(group[1:])).equals(kept[kept["cell"] == group[1].name])
    assert path.stat().st_mtime_ns == before


def test_a_stopped_run_keeps_the_training_runs_that_it_tested(place: Path) -> None:
    group, asked = [tiny(place, "plain", seed) for seed in (0, 1)], []
    train_cells(group)

    def measure(cell: Cell) -> pd.DataFrame:
        asked.append(cell.config.seed)
        if asked == [0, 1]:
            raise KeyboardInterrupt
        return pd.DataFrame({"cell": cell.name, "image": ["b", "a"], "correct": [True, False]})

    with pytest.raises(KeyboardInterrupt):
        TrainingRuns(group).kept("accuracy", measure)
    rows = TrainingRuns(group).kept("accuracy", measure)
    assert asked == [0, 1, 1]
    assert list(rows["image"]) == ["a", "b", "a", "b"]


def test_names_of_the_tables() -> None:
    folder = Path("nowhere")
    methods = ["plain", "abn", "lfi-table3", "lfi-paper"]
    assert names_of([tiny(folder, m) for m in methods]) == {
        "plain": "plain",
        "abn": "abn",
        "lfi-table3": "lfi_cam:table3",
        "lfi-paper": "lfi_cam",
    }
    assert names_of([tiny(folder, "lfi-table3")]) == {"lfi-table3": "lfi_cam"}
    for order in (
        ["plain", "lfi-paper", "abn"],
        ["abn", "lfi-paper", "plain"],
    ):  # as the paper prints
        assert list(names_of([tiny(folder, m) for m in order])) == ["plain", "abn", "lfi-paper"]


def test_printed_differences_are_the_tables_changes() -> None:
    frame = printed_differences("table1", "cifar10").set_index(["model", "method", "reference"])["mean"]
    assert frame["resnet110", "lfi_cam", "plain"] == pytest.approx(-0.7)
    assert frame["resnext29", "lfi_cam", "plain"] == pytest.approx(0.43)
    assert frame["resnet110", "lfi_cam", "abn"] == pytest.approx(5.73 - 4.91)
    assert len(printed_differences("table2", "cats-dogs")) == 1


def test_a_detectable_difference_is_found_in_about_four_cases_of_five() -> None:
    """By lot: four training runs of each of two methods, whose errors differ by what is said to be detectable."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(500):
        shared = rng.normal(30, 5, 400)  # the images are as hard for both
        drawn.append([shared + rng.normal(0, 0.6, (4, 1)) for _ in range(2)])
    true = np.mean([detectable(*pair) for pair in drawn])
    found = [combine([(1, one + true), (-1, other)])["low"] > 0 for one, other in drawn]
    assert 0.75 <= np.mean(found) <= 0.88
    assert detectable(drawn[0][0][:1], drawn[0][1]) is None


def test_quick_study_and_its_figure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = [tiny(place, method, seed) for method in ("plain", "abn") for seed in (0, 1)]
    for module in ("accuracy", "training_runs"):
        monkeypatch.setattr(f"campanion.experiments.{module}.cells", lambda scale, table: group)
    chosen = training_runs.training_runs("quick", "table1")
    result = ask("11_lfi_table1_cifar", "quick", question("table1"), chosen)
    (run,) = result["runs"]
    assert (run["model"], run["data"], run["mode"]) == ("resnet20", "scenes", "quick")
    assert [cell["name"] for cell in run["extra"]["cells"]] == [cell.name for cell in group]
    found = {row["method"]: row for row in run["rows"] if row["metric"] == "top1_error"}
    for method in ("plain", "abn"):
        own = [cell["error"] for cell in run["extra"]["cells"] if cell["method"] == method]
        assert found[method]["mean"] == pytest.approx(np.mean(own), rel=1e-4)
        assert 0 <= found[method]["low"] <= found[method]["high"] <= 100
    assert not_run(result, "table1") == []
    group.append(tiny(place, "lfi-paper"))
    assert [cell.name for cell in not_run(result, "table1")] == ["tiny_lfi-paper_0"]
    figure = study_figure(run, "table1")
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["ABN - plain"]


def test_sizes_are_exact() -> None:
    answers = sizes()
    assert list(answers) == list(NETWORKS)
    assert parameters("resnet50", **TABLE3["lfi_cam"]) == pytest.approx(43.047, abs=5e-4)
    assert all(row["low"] == row["mean"] == row["high"] for a in answers.values() for row in a.means)


def test_sizes_need_no_training_run_and_errors_name_the_command(place: Path) -> None:
    result = ask("13_lfi_table3_imagenet_size", "full", question("table3"), [])
    assert [run["model"] for run in result["runs"]] == sorted(NETWORKS)
    assert {(run["data"], run["provenance"]["n"]) for run in result["runs"]} == {("imagenet", 1)}
    with pytest.raises(MissingData, match=r"that table1 needs: `python -m campanion grid --scale quick --table table1"):
        ask("11_lfi_table1_cifar", "full", question("table1"), [tiny(place, "plain")])

"""The answers at the head of the notebooks: the sentences follow the numbers, and the files are in step."""

from __future__ import annotations

import json

import pytest
from campanion import paths
from campanion.notebooks import keys
from campanion.report import heads
from campanion.report.contests import answer, contest, joined, rivals, span
from campanion.results.store import load_results


def run(*differences, model="resnet18", data="imagenet-val"):
    """A run of these differences: (method, reference, metric, mean, low, high)."""
    names = ("method", "reference", "metric", "mean", "low", "high")
    rows = [{**dict(zip(names, d, strict=True)), "n": 5} for d in differences]
    return {"model": model, "data": data, "mode": "full", "rows": [], "differences": rows}


def test_differences_are_turned_so_that_above_0_is_better():
    found = rivals(run(("a", "fd_cam", "deletion", 0.2, 0.1, 0.3), ("fd_cam", "b", "deletion", 0.2, 0.1, 0.3)),
                   "fd_cam", "deletion")  # fmt: skip
    assert found == {"a": (0.2, 0.1, 0.3), "b": (-0.2, -0.3, -0.1)}


def test_yes_no_and_undecided():
    ahead = ("fd_cam", "grad_cam", "insertion", 0.02, 0.01, 0.03)
    behind = ("fd_cam", "lift_cam", "insertion", -0.0123, -0.02, -0.001)
    open_ = ("fd_cam", "layer_cam", "insertion", 0.01, -0.01, 0.03)
    assert contest([run(ahead)], "fd_cam", "insertion").startswith("Yes on ResNet-18 (ImageNet): FD-CAM is better than")
    assert contest([run(ahead, behind, open_)], "fd_cam", "insertion") == (
        "No on ResNet-18 (ImageNet): LIFT-CAM is better by 0.012."
    )
    text = contest([run(ahead, open_)], "fd_cam", "insertion")
    assert text.startswith("Undecided on ResNet-18 (ImageNet)")
    assert text.endswith("FD-CAM surely beats 1 of 2.")
    both = contest([run(behind), run(behind, model="vgg16")], "fd_cam", "insertion")
    assert both == "No on ResNet-18 (ImageNet) and VGG16 (ImageNet): LIFT-CAM is better by 0.012."
    other = ("fd_cam", "grad_cam", "insertion", -0.04, -0.05, -0.03)
    assert "better are LIFT-CAM (by 0.012) and Grad-CAM (by 0.040)" in contest(
        [run(behind), run(other, model="vgg16")], "fd_cam", "insertion"
    )


def test_words_of_lists_and_ranges():
    assert joined(["a", "b", "a"]) == "a and b"
    assert (span([1.0, 1.04], 1), span([0.2, 0.7], 1)) == ("1.0", "0.2 to 0.7")


@pytest.mark.parametrize("key", keys())
def test_every_notebook_has_an_answer_at_its_head(key):
    results = load_results(paths.root() / "data" / "results")
    text = answer(key, results)
    assert text.endswith((".", "?"))
    assert "nan" not in text
    assert "  " not in text
    first = "".join(json.loads((paths.root() / "notebooks" / f"{key}.ipynb").read_text("utf-8"))["cells"][0]["source"])
    assert heads.block(key, results) in first


def test_the_hours_follow_from_images_and_passes():
    text = heads.block("21_fd_table1_faithfulness", load_results(paths.root() / "data" / "results"))
    setting = heads.settings()["21_fd_table1_faithfulness"]
    hours = setting["images"] * setting["passes"] * heads._seconds_per_pass() / 3600
    assert f"about {hours:,.0f} h on one CPU core" in text
    assert set(heads.settings()) <= set(keys())


def test_what_is_out_of_step_is_named_and_renewed(tmp_path, monkeypatch):
    results = load_results(paths.root() / "data" / "results")
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(heads, "load_results", lambda _: results)
    monkeypatch.setattr(heads, "_seconds_per_pass", lambda: 0.3)
    (tmp_path / "notebooks").mkdir()
    book = tmp_path / "notebooks" / "21_fd_table1_faithfulness.ipynb"
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "\n", "text"]}
    book.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n")
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="found:begin"):
        heads.update(write=False)
    marks = "\n".join([*heads.FOUND, *heads.TABLE])
    (tmp_path / "README.md").write_text(f"a\n{marks}\nz\n")
    assert heads.update(write=False) == [book.name, "README.md"]
    assert heads.update(write=True) == [book.name, "README.md"]
    assert heads.update(write=True) == []
    source = "".join(json.loads(book.read_text())["cells"][0]["source"])
    assert source.startswith("# Title\n\n<!-- answer:begin -->\n> **Answer.** ")
    assert source.endswith("<!-- answer:end -->\n\ntext")
    readme = (tmp_path / "README.md").read_text()
    assert "| [21](notebooks/21_fd_table1_faithfulness.ipynb) Title |" in readme
    assert readme.startswith("a\n")
    assert readme.endswith("\nz\n")

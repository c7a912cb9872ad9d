"""Every committed notebook is as a committed notebook must be, and so is every result that they read."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import nbformat
import pytest
from campanion import results
from campanion.notebooks import keys, notebooks_dir
from campanion.notebooks.rules import LARGEST, problems, strip
from nbformat import v4

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def test_there_are_notebooks():
    assert notebooks_dir() == FOLDER
    assert keys(), "notebooks/ holds no NN_*.ipynb"
    assert {f"{key}.ipynb" for key in keys()} == {path.name for path in FOLDER.glob("*.ipynb")}, "all are numbered"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebook(path):
    assert problems(path) == []


@pytest.mark.parametrize(
    "path", sorted((FOLDER.parent / "data" / "results").glob("*.json")), ids=lambda path: path.stem
)
def test_committed_result(path):
    assert results.load_result(path.stem)["notebook"] == path.stem
    assert path.stem[:2] in {key[:2] for key in keys()}, "a result belongs to a notebook, by its number"


def good() -> nbformat.NotebookNode:
    """A notebook without a fault, to be spoilt."""
    parameters = v4.new_code_cell('mode: str = "cached"  # cached | quick | full', execution_count=1)
    parameters.metadata["tags"] = ["parameters"]
    shown = v4.new_code_cell("print(0.5)", execution_count=2, outputs=[v4.new_output("stream", text="0.5\n")])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [v4.new_markdown_cell("See [here](../README.md) and <https://example.org/home/page>."), parameters, shown]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def spoil(change):
    notebook = copy.deepcopy(good())
    change(notebook)
    return notebook


def put(number, **fields):
    return lambda notebook: notebook.cells[number].update(fields)


def shown(kind, **fields):
    return put(2, outputs=[v4.new_output(kind, **fields)])


FAULTS = {
    "cells without an id": lambda n: n.cells[0].pop("id"),
    "0 cells tagged parameters": lambda n: n.cells[1].metadata.clear(),
    "2 cells tagged parameters": lambda n: n.cells[2].metadata.update(tags=["parameters"]),
    "does not say mode": put(1, source='mode = "quick"'),
    "injected-parameters cell": lambda n: n.cells[2].metadata.update(tags=["injected-parameters"]),
    "execution counts": put(2, execution_count=3),
    "kernelspec": lambda n: n.metadata.kernelspec.pop("language"),
    "keeps widgets metadata": lambda n: n.metadata.update(widgets={}),
    "keeps papermill metadata": lambda n: n.metadata.update(papermill={}),
    "metadata in its cells": lambda n: n.cells[2].metadata.update(execution={}),
    "stores an error": shown("error", ename="ValueError", evalue="no", traceback=[]),
    "text of stderr": shown("stream", name="stderr", text="a warning"),
    "progress bar": shown("display_data", data={"text/plain": "  0%|          | 0/20 [00:00<?, ?it/s]"}),
    "absolute path": shown("stream", text="saved /Users/me/figure.pdf"),
    "installs packages": put(2, source="%pip install torch"),
    "not a valid notebook": lambda n: n.cells[2].update(cell_type="cell"),
    "is allowed": put(2, source="#" + "x" * LARGEST),
}


def test_a_good_notebook_has_no_problems(tmp_path):
    path = tmp_path / "good.ipynb"
    path.write_text(nbformat.writes(good()), encoding="utf-8")
    assert problems(path) == []


@pytest.mark.parametrize("sentence", FAULTS)
def test_each_fault_is_named(tmp_path, sentence):
    path = tmp_path / "spoilt.ipynb"
    path.write_text(json.dumps(spoil(FAULTS[sentence])), encoding="utf-8")
    assert len(problems(path)) == 1
    assert sentence in problems(path)[0]


def test_strip_removes_what_changes_from_run_to_run_and_nothing_else():
    ran = good()
    ran.metadata.update(papermill={"duration": 1.5}, widgets={}, language_info={"name": "python", "version": "3.12.1"})
    ran.metadata["campanion"] = {"needs": ["imagenet-val"]}
    ran.cells[2].metadata.update(papermill={"duration": 0.1}, execution={"iopub.status.idle": "12:00"}, tags=[])
    stripped = nbformat.reads(strip(nbformat.writes(ran)), as_version=4)
    assert stripped.metadata == {
        **good().metadata, "language_info": {"name": "python"}, "campanion": {"needs": ["imagenet-val"]}
    }  # fmt: skip
    assert [c.metadata for c in stripped.cells] == [{}, {"tags": ["parameters"]}, {}]
    for after, before in zip(stripped.cells, ran.cells, strict=True):
        assert (after.id, after.source) == (before.id, before.source)
        assert after.get("outputs") == before.get("outputs")
        assert after.get("execution_count") == before.get("execution_count")


def test_strip_takes_the_address_out_of_an_object_that_is_shown_as_html():
    ran = good()
    text = {"text/plain": "<pandas.io.formats.style.Styler at 0x7f3c5a1b2d90>", "text/html": "at 0x7f3c5a1b2d90>"}
    ran.cells[2].outputs = [nbformat.v4.new_output("execute_result", text, execution_count=2)]
    (shown,) = nbformat.reads(strip(nbformat.writes(ran)), as_version=4).cells[2].outputs
    assert shown.data == {**text, "text/plain": "<pandas.io.formats.style.Styler at 0x000000000000>"}

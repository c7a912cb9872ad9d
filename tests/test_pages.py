"""The pages that say how to add a network, a data set, a claim and a notebook: their code is run as it stands there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np
import pytest
import torch
import yaml
from campanion import explain, load_model, metrics
from campanion.data import open_dataset
from campanion.data.entries import Entry
from campanion.data.registry import DATASETS
from campanion.errors import MissingData
from campanion.models import load
from campanion.notebooks import run
from campanion.notebooks.rules import problems
from campanion.report.claims import load_claims
from nbformat import v4
from PIL import Image
from pydantic import TypeAdapter

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    """The code of a page, block by block."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def executed(page: str, name: str = "page", **names: object) -> dict[str, object]:
    """The names that the one Python block of a page defines, as the module ``name``."""
    (code,) = blocks(page)
    module = ModuleType(name)
    vars(module).update(names)
    exec(compile(code, page, "exec"), vars(module))
    return vars(module)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Folders of the test's own; what a page registers is taken out again."""
    for name in ("DATA", "OUT", "RESULTS"):
        monkeypatch.setenv(f"CAMPANION_{name}", str(tmp_path / name.lower()))
    known, sets = dict(load.OWN), dict(DATASETS)
    yield tmp_path
    for table, before in ((load.OWN, known), (DATASETS, sets)):
        table.clear()
        table.update(before)


def test_add_a_network(places, capsys):
    names = executed("add_a_network.md")
    model, e, images = names["model"], names["e"], names["images"]
    assert capsys.readouterr().out.rstrip().endswith(f"top-1 {names['facts']['accuracy']['test']['top1']:.2f}")
    assert (places / "out" / "training" / "tiny" / "tiny.md").is_file()
    assert model.weights["sha256"] == names["facts"]["sha256"]
    # behind a mean and one linear layer a channel's contribution is its weight times the mean of its map
    with torch.no_grad():
        means = model.features(images).mean((2, 3))[0]
    row = model.classifier.weight[e.targets[0]]
    torch.testing.assert_close(e.weights["lift_cam"][0], row * means, atol=1e-5, rtol=1e-4)
    assert row.abs().max() > 0.01


def test_add_a_data_set(places, monkeypatch):
    names = executed("add_a_data_set.md", "campanion.data.flags")
    monkeypatch.setitem(sys.modules, "campanion.data.flags", ModuleType("campanion.data.flags"))
    vars(sys.modules["campanion.data.flags"]).update(names)
    (entry,) = blocks("add_a_data_set.md", "yaml")
    DATASETS.update(TypeAdapter(dict[str, Entry]).validate_python(yaml.safe_load(entry)))
    with pytest.raises(MissingData, match="no flags"):
        open_dataset("flags")
    folder = places / "data" / "flags"
    folder.mkdir(parents=True)
    for i in range(4):
        pixels = np.full((30, 60, 3), 40 * i, np.uint8)
        pixels[:, ::2] += 50 * (i % 2)
        Image.fromarray(pixels).save(folder / f"{('plain', 'striped')[i % 2]}-{i}.png")
    data = open_dataset("flags")
    assert isinstance(data, names["Flags"])
    assert data.labels == [0, 0, 1, 1]
    assert sorted(data.order()) == [0, 1, 2, 3]
    assert DATASETS["flags"].find(places / "data") == (folder, 4)
    sample = data[2]
    assert sample.boxes(1).tolist() == [[20.0, 0.0, 40.0, 30.0]]
    model = load_model("scenes_vgg")
    found = explain(model, model.preprocess(sample.image)[None], methods="grad_cam").maps["grad_cam"]
    boxes = sample.boxes(1) * torch.tensor([64 / 60, 64 / 30] * 2)
    assert 0 <= float(metrics.energy_pointing_game(found, [boxes])) <= 1


def test_add_a_claim(capsys):
    ((entry,),) = (yaml.safe_load(block) for block in blocks("add_a_claim.md", "yaml"))
    names = executed("add_a_claim.md", entry=entry)
    assert capsys.readouterr().out == "reproduced\n"
    claim = names["claim"]
    assert claim.id not in {known.id for known in load_claims()}
    higher = {**names["run"], "differences": [{**names["difference"], "mean": 0.02, "low": 0.01, "high": 0.03}]}
    assert names["verdict"](claim, {claim.notebook: {"runs": [higher]}}).word == "not reproduced"
    with pytest.raises(ValueError, match="delet"):
        names["Claim"](**{**entry, "test": {**entry["test"], "metrics": ["deletoin"]}})


def test_add_a_notebook(places, monkeypatch):
    study, parameters, asks = blocks("add_a_notebook.md")
    tagged = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [tagged, v4.new_code_cell(f"from campanion.experiments.runner import ask\n{study}"), v4.new_code_cell(asks)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    folder = places / "notebooks"
    folder.mkdir()
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "43_example_area.ipynb")
    monkeypatch.setattr("campanion.notebooks.notebooks_dir", lambda: folder)
    monkeypatch.setattr("campanion.notebooks.log_dir", lambda mode: places / "logs" / mode)
    path = run("43_example_area", "quick", {"limit": 2})
    assert [p for p in problems(path) if "other than its defaults" not in p and "does not say" not in p] == []
    result = json.loads((places / "out" / "quick" / "results" / "43_example_area.json").read_text())
    runs = {r["model"]: r for r in result["runs"]}
    assert set(runs) == {"scenes_vgg", "scenes_resnet"}
    means = {row["method"]: row["mean"] for row in runs["scenes_vgg"]["rows"]}
    model, data = load_model("scenes_vgg"), open_dataset("scenes")
    images = torch.stack([model.preprocess(data[i].image) for i in data.order()[:2]])
    for method, found in explain(model, images, methods=tuple(means)).maps.items():
        assert means[method] == pytest.approx(100 * float((found > 0.5).double().mean()), abs=0.01)


def test_cells_that_print_an_interval_know_that_one_or_two_images_have_none():
    """In a result the ends are then null, which no number's format takes."""
    blind = [
        (path.name, cell.id)
        for path in sorted((DOCS.parent / "notebooks").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        if re.search(r"""\[["'](low|high)["']\]""", cell.source) and not re.search(r"is (not )?None", cell.source)
    ]
    assert blind == []


def test_the_pages_of_fd_cam_say_that_the_classifier_of_voc_vgg16_has_low_ranks():
    root = DOCS.parent
    first, second = json.loads((root / "data" / "checkpoints" / "voc_vgg16.json").read_text("utf-8"))["ranks"]
    for path in (root / "notebooks").glob("2[0-7]_fd_*.ipynb"):
        head = "".join(json.loads(path.read_text("utf-8"))["cells"][0]["source"])
        assert f"its two large matrices have ranks {first} and {second}" in head, path.name

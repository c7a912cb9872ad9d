"""What FIN is worth: the three maps of a network, what training moved, and a study of networks trained in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, paths
from campanion.data import open_dataset
from campanion.errors import MissingData, MissingResult
from campanion.experiments import fin as fin_study
from campanion.experiments.accuracy import correct_of
from campanion.experiments.fin import MAPS
from campanion.experiments.learned import config_of
from campanion.experiments.runner import ask
from campanion.models import build_model, load_model
from campanion.models.load import LEARNED_SCENES
from campanion.results.rows import read_rows, rows_path
from campanion.training import parts as run_data
from campanion.training.grid import Cell
from campanion.training.loop import train
from campanion.training.parts import open_part
from campanion.training.settings import make_config
from nets import random_images

KEY = "16_lfi_fig5_fin_effect"
SETTINGS = {
    "data": "scenes", "network": "resnet20", "attention": "lfi", "size": 16, "limit": 16, "limit_test": 9, "epochs": 3,
    "batch": 8, "device": "cpu",
}  # fmt: skip


def cell(folder: Path, **more: object) -> Cell:
    return Cell(make_config({**SETTINGS, **more, "folder": str(folder)}), ("fig5",), "quick")


@pytest.mark.parametrize("fin", ["trained", "none"])
def test_the_three_maps_are_those_of_explain(fin: str) -> None:
    network = build_model("resnet20", "lfi", num_classes=5, fin=fin, seed=1).eval()
    images = random_images(2, 16, dtype=torch.float32)
    maps, weights, targets = fin_study.three_maps(network, images)
    e = explain(network, images, methods=("lfi_cam", "grad_cam"))
    assert tuple(maps) == MAPS
    for name in ("lfi_cam", "grad_cam"):
        torch.testing.assert_close(maps[name], e.maps[name], atol=1e-4, rtol=1e-4)
    assert torch.equal(targets, e.targets)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    # the activations of ReLU are not negative, so that without FIN the map is their mean
    assert torch.allclose(maps["lfi_cam"], maps["mean_features"], atol=1e-5) == (fin == "none")


def test_from_cells_to_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(paths, "out_dir", lambda: tmp_path / "out")
    monkeypatch.setitem(run_data.SCENES, "test", 9)
    cells = [
        cell(tmp_path, fin="frozen"),
        cell(tmp_path, fin="none"),
        cell(tmp_path),
        cell(tmp_path, generation="table3"),
        cell(tmp_path, seed=1),
    ]
    with pytest.raises(MissingResult, match=KEY):
        ask(KEY, "cached", fin_study.TRAINED, [])
    with pytest.raises(MissingData, match="None of these networks is trained"):
        ask(KEY, "quick", fin_study.TRAINED, cells)
    for one in (*cells[:3], cells[4]):
        train(one.config)
    (run,) = ask(KEY, "quick", fin_study.TRAINED, cells, limit=3)["runs"]
    assert run["extra"]["missing"] == [cells[3].name]
    assert run["provenance"]["settings"]["epochs"] == cells[0].config.numbers.epochs
    means = {(r["method"], r["metric"]): (r["mean"], r["n"]) for r in run["rows"]}
    methods = ("lfi-paper", "lfi-paper-finfrozen", "lfi-paper-finnone")
    for method in methods:
        error, n = means[method, "top1_error"]
        of_method = [c for c in cells if c.method == method]
        parts = [open_part(config_of(c.checkpoint, 9), "test", "cpu") for c in of_method]
        wrong = [100 - 100 * correct_of(c, part).mean() for c, part in zip(of_method, parts, strict=True)]
        assert len(wrong) == (2 if method == "lfi-paper" else 1)
        assert (error, n) == (
            pytest.approx(sum(wrong) / len(wrong), rel=1e-5),
            9,
        )  # of every seed; maps are of the first
        for name in MAPS:
            assert means[f"{method} {name}", "insertion"][1] == 3
    assert means["lfi-paper-finnone", "iou_with_mean"][0] == 100
    assert means["lfi-paper-finnone", "unevenness"][0] == pytest.approx(0, abs=1e-5)
    assert means["lfi-paper-finfrozen", "unevenness"][0] > 0
    same = [means[f"lfi-paper-finnone {name}", "insertion"][0] for name in ("lfi_cam", "mean_features")]
    assert same[0] == pytest.approx(same[1])
    moved = run["extra"]["moved"]
    assert moved["lfi-paper-finnone"] is None
    assert moved["lfi-paper-finfrozen"] < 1e-3 < moved["lfi-paper"]  # half precision
    rows, _ = read_rows(rows_path("scenes", "resnet20", "fin"))
    assert isinstance(rows, pd.DataFrame)
    assert len(rows) == 3 * 3 * 3
    differences = {(d["method"], d["reference"], d["metric"]): d for d in run["differences"]}
    found = differences["lfi-paper-finnone", "lfi-paper-finfrozen", "top1_error"]
    assert found["low"] is None  # one training run of each: another could be anywhere
    apart = {d["low"] is None: d for d in run["differences"] if d["metric"] == "overall"}
    assert apart[True]["method"].split()[0] != apart[True]["reference"].split()[0]
    assert apart[False]["method"].split()[0] == apart[False]["reference"].split()[0]
    assert run["extra"]["seeds"]["lfi-paper"] == [0, 1]
    with_fin, without = (run["extra"]["shown"][method]["scene 28"] for method in ("lfi-paper", "lfi-paper-finnone"))
    assert without["lfi_cam"] == without["mean_features"] != with_fin["mean_features"]
    assert np.shape(with_fin["lfi_cam"]) == np.shape(with_fin["mean_features"])


@pytest.mark.parametrize("name", LEARNED_SCENES)
def test_committed_networks_know_scenes_and_their_maps_fit_them(name: str) -> None:
    model = load_model(name)
    scenes = open_dataset("scenes", split="test", n=60, size=32)
    images = torch.stack([model.preprocess(s.image) for s in scenes])
    with torch.no_grad():
        right = model(images).argmax(1) == torch.tensor(scenes.labels)
    assert right.float().mean() > 0.35  # of ten classes
    e = explain(model, images[:2], methods="abn" if name == "scenes_abn" else "lfi_cam")
    assert not any(degenerate.any() for degenerate in e.degenerate.values())
    assert paths.checkpoints_dir().joinpath(f"{name}.safetensors").stat().st_size < 1e6

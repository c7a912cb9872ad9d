"""The stability study: against brute force, with networks whose maps are known, and a few trained in a second."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from campanion import explain, paths
from campanion.errors import MissingData, MissingResult
from campanion.experiments import learned
from campanion.experiments import stability as stability_study
from campanion.experiments.learned import Trained, config_of, finished, learned_maps, maps_of
from campanion.experiments.runner import ask
from campanion.metrics import stability_iou
from campanion.models.load import load_trained
from campanion.results.rows import read_rows, rows_path
from campanion.results.store import load_result
from campanion.training.batches import normalise
from campanion.training.grid import Cell
from campanion.training.loop import train
from campanion.training.parts import open_part
from campanion.training.settings import make_config
from scipy import stats
from torch import Tensor

KEY = "14_lfi_fig1_fig6_stability"


def network(lr: float = 0.1, seed: int = 0, top1: float = 0.5, method: str = "lfi_cam") -> Trained:
    name = f"{method}_lr{lr}_seed{seed}"
    return Trained(Path(f"{name}.safetensors"), name, method, "scenes", "resnet20", "", lr, seed, top1, name)


def random_maps(count: int, side: int, seed: int) -> Tensor:
    return torch.rand(count, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_iou_of_independent_masks() -> None:
    """By lot: masks of fixed areas, put anywhere."""
    pixels, a, b = 4096, 1500, 700
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(200):
        one, two = torch.zeros(2, pixels, dtype=torch.bool)
        one[torch.randperm(pixels, generator=generator)[:a]] = True
        two[torch.randperm(pixels, generator=generator)[:b]] = True
        drawn.append(float((one & two).sum() / (one | two).sum()))
    expected = float(stability_study.independent_iou(torch.tensor(a / pixels), torch.tensor(b / pixels)))
    assert torch.tensor(drawn).mean() == pytest.approx(expected, abs=1e-3)
    nothing = torch.zeros(())
    assert stability_study.independent_iou(nothing, nothing) == 1  # as the IoU of two empty masks
    assert stability_study.independent_iou(nothing, torch.tensor(0.5)) == 0


def test_every_image_has_another() -> None:
    other = stability_study.others(7)
    assert sorted(other.tolist()) == list(range(7))
    assert (other != torch.arange(7)).all()
    with pytest.raises(ValueError, match="at least two"):
        stability_study.others(1)


def test_metrics_of_a_pair_pixel_by_pixel() -> None:
    a, b, far = (random_maps(3, 4, seed) for seed in range(3))
    found = stability_study.compare_maps(a, b, far, 8)

    def mask(maps: Tensor, i: int, side: int) -> set[tuple[int, int]]:
        large = maps[i]
        if side != 4:
            large = torch.nn.functional.interpolate(maps[i][None, None], (side, side), mode="bilinear")[0, 0]
        large = (large - large.min()) / (large.max() - large.min()) * 255
        return {(r, c) for r in range(side) for c in range(side) if large[r, c] >= 127}

    for i in range(3):
        for metric, other, side in (("iou", b, 8), ("iou_shuffled", far, 8), ("iou_map_size", b, 4)):
            one, two = mask(a, i, side), mask(other, i, side)
            assert float(found[metric][i]) == pytest.approx(100 * len(one & two) / len(one | two), abs=1e-4)
        assert float(found["area"][i]) == pytest.approx(100 * len(mask(a, i, 8)) / 64)
    torch.testing.assert_close(found["above_shuffled"], found["iou"] - found["iou_shuffled"])
    assert not found["constant"].any()
    flat = stability_study.compare_maps(a, torch.ones(3, 4, 4), far, 8)
    assert (flat["constant"] == 100).all()
    assert not flat["iou"].any()


def test_rows_of_networks_whose_maps_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks look at the left half of even images and the right half of odd ones, the third at the top half."""
    left = torch.zeros(40, 8, 8)
    left[::2, :, :4] = 1
    left[1::2, :, 4:] = 1
    top = torch.zeros(40, 8, 8)
    top[:, :4] = 1
    networks = [network(0.07, 1, top1=0.9), network(0.1, 2), network(0.12, 3), network(0.1, 3)]
    maps = dict(zip([n.name for n in networks], (left, left, top, left), strict=True))
    monkeypatch.setattr(stability_study, "CHUNK", 7)
    ids = [f"p{i}" for i in range(40)]
    about = {"ids": ids, "size": 8, "shown": {}}
    monkeypatch.setattr(learned, "learned_maps", lambda n, limit, device: (maps[n.name], about))
    rows, pairs, extra = stability_study.method_rows(networks)
    names, third = [n.name for n in networks], 100 / 3  # left and top meet in 16 of 48 pixels
    found = {(p.first, p.second): (p.kind, p.iou) for p in pairs.itertuples()}
    assert found == {
        (names[0], names[1]): ("", pytest.approx(100)), (names[0], names[2]): ("", pytest.approx(third)),
        (names[0], names[3]): ("", pytest.approx(100)), (names[1], names[2]): ("", pytest.approx(third)),
        (names[1], names[3]): ("", pytest.approx(100)), (names[2], names[3]): ("one_seed_", pytest.approx(third)),
    }  # fmt: skip
    own = rows[rows["kind"] == ""]
    assert len(own) == len(rows[rows["kind"] == "one_seed_"]) == 40
    assert own["iou"].to_numpy() == pytest.approx((3 * 100 + 2 * third) / 5)
    assert own["iou_independent"].to_numpy() == pytest.approx(third)
    ring = stability_study.others(40, stability_study.SEED)
    alike = 100 * float((ring % 2 == torch.arange(40) % 2).float().mean())
    assert pairs["iou_shuffled"].to_numpy() == pytest.approx([alike, third, alike, third, alike, third])
    matrix = torch.tensor(extra["matrix"])
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(matrix[2].float(), torch.tensor([third, third, 100, third]))
    assert extra["base"] == names[0]
    assert extra["curves"]["iou"] == pytest.approx([(200 + third) / 3] * len(stability_study.THRESHOLDS), abs=1e-3)

    means, differences, images = stability_study.summary(rows, pairs, {n.name: n.seed for n in networks})
    one = next(row for row in means if row["metric"] == "iou")
    assert (one["mean"], one["n"]) == (pytest.approx((3 * 100 + 2 * third) / 5), 40)
    assert one["note"] == "5 pairs of 4 networks, 3 seeds"
    assert one["low"] < one["mean"] < one["high"] <= 100
    (shared,) = (row for row in means if row["metric"] == "one_seed_iou")
    assert shared["mean"] == pytest.approx(third)
    assert math.isnan(shared["low"])  # one pair
    assert differences == images == []


def drawn(method: str, levels: dict[str, float], shift: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """30 images of networks of different seeds; the IoU of two is the sum of their levels, and the image's own."""
    own = 10 * torch.rand(30, generator=torch.Generator().manual_seed(0)).numpy() + shift
    couples = list(combinations(levels, 2))
    values = [levels[a] + levels[b] for a, b in couples]
    about = {"method": method, "kind": ""}
    rows = pd.DataFrame({"image": range(30), **about})
    pairs = pd.DataFrame({"first": [a for a, _ in couples], "second": [b for _, b in couples], **about})
    for metric in stability_study.METRICS:
        rows[metric], pairs[metric] = own + sum(values) / len(values), [value + own.mean() for value in values]
    return rows, pairs


def test_intervals_count_images_and_networks() -> None:
    arms = drawn("lfi_cam", {"a": 1, "b": 2, "c": 4}), drawn("abn", {"d": 0, "e": 3, "f": 5}, 5.0)
    rows, pairs = (pd.concat(each) for each in zip(*arms, strict=True))
    means, differences, images = stability_study.summary(rows, pairs, {"a": 0, "b": 1, "c": 2, "d": 0, "e": 1, "f": 2})
    (mean,) = (row for row in means if (row["method"], row["metric"]) == ("lfi_cam", "iou"))
    own = rows[rows["method"] == "lfi_cam"]["iou"]
    networks = 4 * torch.tensor([1.0, 2, 4]).var().item() / 3  # of the mean over pairs, twice the mean level
    variance = own.var() / 30 + networks
    half = stats.t.ppf(0.975, 2 * (variance / networks) ** 2) * variance**0.5
    assert mean["mean"] == pytest.approx(own.mean())
    assert (mean["low"], mean["high"]) == pytest.approx((max(0, mean["mean"] - half), mean["mean"] + half))
    (both,) = (row for row in differences if row["metric"] == "iou")
    (alone,) = (row for row in images if row["metric"] == "iou")
    difference = 2 * (7 - 8) / 3 - 5
    assert (both["method"], both["reference"], both["mean"]) == ("lfi_cam", "abn", pytest.approx(difference))
    assert (alone["low"], alone["high"]) == pytest.approx((difference, difference))  # each image 5 points lower
    assert both["low"] < difference < both["high"]


def test_one_pair_has_no_interval() -> None:
    """A claim about methods must not rest on two networks, however many images they see."""
    arms = drawn("lfi_cam", {"a": 1, "b": 2}), drawn("abn", {"d": 0, "e": 3, "f": 5})
    rows, pairs = (pd.concat(each) for each in zip(*arms, strict=True))
    means, differences, images = stability_study.summary(rows, pairs, {"a": 0, "b": 1, "d": 0, "e": 1, "f": 2})
    by_method = {row["method"]: row for row in means if row["metric"] == "iou"}
    assert math.isnan(by_method["lfi_cam"]["low"])
    assert by_method["lfi_cam"]["note"] == "1 pair of 2 networks, 2 seeds"
    assert by_method["abn"]["low"] < by_method["abn"]["mean"]
    assert all(math.isnan(row["high"]) for row in differences)
    assert all(row["low"] <= row["mean"] <= row["high"] for row in images)


SETTINGS = {
    "data": "scenes", "network": "resnet20", "size": 16, "limit": 16, "limit_test": 9, "epochs": 3, "batch": 8,
    "device": "cpu",
}  # fmt: skip


def cell(folder: Path, attention: str | None, lr: float = 0.1, seed: int = 0) -> Cell:
    settings = {**SETTINGS, "attention": attention, "lr": lr, "seed": seed, "folder": str(folder)}
    return Cell(make_config(settings), ("fig6",), "quick")


def test_the_range_of_accuracies_does_not_know_its_ends_beforehand():
    """Six networks that are equally good: the interval of the range holds 0 in at least 95 % of draws."""
    rng = np.random.default_rng(0)
    drawn = rng.binomial(2000, 0.9, size=(100, 6)) / 2000
    ranges = [stability_study.accuracy_range(accuracies, 2000) for accuracies in drawn.tolist()]
    assert np.mean([r["low"] == 0 for r in ranges]) >= 0.95 - 2 * (0.05 * 0.95 / 100) ** 0.5
    two = stability_study.accuracy_range([0.8, 0.9], 100)
    assert two["high"] - two["mean"] == pytest.approx(196 * ((0.16 + 0.09) / 100) ** 0.5, rel=1e-4)


def test_from_checkpoints_to_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(paths, "out_dir", lambda: tmp_path / "out")
    monkeypatch.setattr(stability_study, "POST_HOC_IMAGES", few := 3)
    cells = [cell(tmp_path, kind, lr, seed) for kind in ("lfi", "abn") for seed, lr in enumerate((0.07, 0.1, 0.12))]
    with pytest.raises(MissingResult, match=KEY):
        ask(KEY, "cached", stability_study.QUESTION, [])
    with pytest.raises(MissingData, match="no two trained networks"):
        ask(KEY, "quick", stability_study.QUESTION, cells)
    for one in cells[:2] + cells[3:5]:
        train(one.config)
    (run,) = ask(KEY, "full", stability_study.QUESTION, cells, limit=7)["runs"]
    assert (run["model"], run["data"], run["provenance"]["n"]) == ("resnet20", "scenes", 7)
    assert run["extra"]["missing"] == [cells[2].name, cells[5].name]
    means = {(r["method"], r["metric"]): r["mean"] for r in run["rows"]}
    assert {m for m, _ in means} == {"lfi_cam", "abn", "grad_cam", "score_cam"}
    assert {m for _, m in means} == {*stability_study.METRICS, "accuracy_range"}  # no pair has one seed
    assert run["extra"]["seeds"] == "own"
    assert run["provenance"]["settings"]["epochs"] == 3
    top1 = [n["top1"] for n in run["extra"]["methods"]["abn"]["networks"]]
    assert means["abn", "accuracy_range"] == pytest.approx(100 * (max(top1) - min(top1)))
    (spread,) = (r for r in run["rows"] if (r["method"], r["metric"]) == ("abn", "accuracy_range"))
    assert spread["n"] == 9  # the test images, of which its interval knows
    both = sum(p * (1 - p) for p in (min(top1), max(top1)))
    assert spread["high"] - spread["mean"] == pytest.approx(196 * (both / 9) ** 0.5, rel=1e-4)
    assert ("abn", "lfi_cam") in {(d["method"], d["reference"]) for d in run["differences"]}
    made = [maps_of(c.checkpoint, "grad_cam", few)[0] for c in cells[:2]]  # afterwards, of the networks with LFI-CAM
    assert means["grad_cam", "iou"] == pytest.approx(100 * float(stability_iou(*made).mean()), abs=1e-3)
    own = [learned_maps(n, few)[0] for n in finished(c.checkpoint for c in cells[:2])]  # the same images only
    overlap = 100 * float(stability_iou(*(learned.enlarged(m, 16) for m in own)).mean())
    (d,) = (
        d for d in run["differences"] if (d["method"], d["reference"], d["metric"]) == ("lfi_cam", "grad_cam", "iou")
    )
    assert (d["n"], d["mean"]) == (few, pytest.approx(overlap - means["grad_cam", "iou"], abs=1e-3))
    rows, settings = read_rows(rows_path("scenes", "resnet20", "stability"))
    assert len(rows) == 2 * 7 + 2 * few
    assert set(settings["checkpoints"]) == {c.name for c in cells[:2] + cells[3:5]}
    for method, part in rows.groupby("method", observed=True):
        assert means[method, "iou"] == pytest.approx(part["iou"].mean(), abs=5e-3)
    assert load_result(KEY)["runs"] == [run]
    with pytest.raises(ValueError, match="has 7 images: measure as many"):  # few never replace many
        ask(KEY, "full", stability_study.QUESTION, cells, limit=4)
    assert load_result(KEY)["runs"] == [run]
    (quick,) = (r for r in ask(KEY, "quick", stability_study.QUESTION, cells)["runs"] if r["mode"] == "quick")
    assert quick["provenance"]["n"] == few  # as many as of the maps made afterwards: each difference once
    shown = run["extra"]["methods"]["abn"]["shown"]
    assert {frozenset(maps) for maps in shown.values()} == {frozenset(c.name for c in cells[3:5])}

    # maps as explain gives them, and read again the next time
    (one,) = finished([cells[0].checkpoint])
    maps, about = learned_maps(one, 7)
    model, part = load_trained(one.path), open_part(config_of(one.path, 7), "test")
    pixels = next(part.images.batches([learned.Draw(torch.arange(7))]))
    images = normalise(pixels, model.preprocess.mean, model.preprocess.std)
    whole = explain(model, images, methods="lfi_cam").maps["lfi_cam"]
    torch.testing.assert_close(learned.enlarged(maps, about["size"]), whole)
    assert about["ids"] == list(part.ids)
    with monkeypatch.context() as patch:
        patch.setattr(learned, "load_trained", lambda *_: pytest.fail("made again"))
        assert torch.equal(learned_maps(one, 7)[0], maps)
    every, _ = learned_maps(one)
    monkeypatch.setattr(learned, "load_trained", lambda *_: pytest.fail("made again"))
    assert len(every) > 7
    again, about = learned_maps(one, 7)  # those of all images serve a few
    torch.testing.assert_close(again, maps)
    assert about["ids"] == list(part.ids)


def test_only_likes_are_compared(tmp_path: Path) -> None:
    plain, usual = cell(tmp_path, None), cell(tmp_path, "lfi")
    without = make_config({**SETTINGS, "attention": "lfi", "fin": "none", "folder": str(tmp_path)})
    other = Cell(without, ("fig5",), "quick")
    for one in (plain, usual, other):
        train(one.config)
    found = finished([plain.checkpoint, usual.checkpoint, tmp_path / "absent.safetensors"])
    assert [n.name for n in found] == [usual.name]
    with pytest.raises(ValueError, match=r"several forms of LFI-CAM: paper, FIN none, paper, FIN trained"):
        finished([usual.checkpoint, other.checkpoint])

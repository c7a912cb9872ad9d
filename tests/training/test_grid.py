"""The grid of training runs: the cells are those of the YAML file, finished ones known, hours follow from speeds."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from campanion import paths
from campanion.__main__ import main
from campanion.errors import MissingData
from campanion.experiments import learned
from campanion.models import build_model
from campanion.training.checkpoint import write_history
from campanion.training.grid import TABLES, Cell, cells, longest, read_grid, tables_of, train_cells
from campanion.training.hours import from_the_start, hours, listing, measured, multiply_adds, speed
from campanion.training.settings import attention_of, make_config, method_of, read_config

TINY = {"data": "scenes", "network": "resnet20", "size": 16, "limit": 20, "limit_test": 10, "epochs": 1, "batch": 10}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No training of this machine is seen."""
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path))
    return tmp_path


def tiny(folder: Path, **more: object) -> Cell:
    settings = {**TINY, "lr": 0.01, "device": "cpu", "name": "tiny", "folder": str(folder), **more}
    return Cell(make_config(settings), ("table1",), "quick")


@pytest.mark.parametrize("scale", ["quick", "brief", "reduced", "short", "paper"])
def test_every_cell_has_a_name_and_settings_of_its_own(scale: str) -> None:
    every = cells(scale)
    assert len({cell.name for cell in every}) == len(every)
    settings = [json.dumps(cell.config.settled(), sort_keys=True, default=list) for cell in every]
    assert len(set(settings)) == len(every)
    assert {table for cell in every for table in cell.tables} <= set(TABLES.values())
    for table in ("table1", "table2", "table3") if scale != "brief" else ("table1",):
        methods = {cell.method.split("-")[0] for cell in cells(scale, table)}
        assert methods == {"plain", "abn", "lfi"}, table
    assert {cell.config.data for cell in every if scale != "quick"} <= set(read_grid()["pictures"])


def test_reduced_cells_are_the_configurations_with_twenty_epochs() -> None:
    """Training runs that were started from ``configs/`` by hand are these cells."""
    found = {cell.name: cell for cell in cells("reduced")}
    more = {"epochs": 20, "precision": "bf16", "threads": 1, "device": "cpu"}
    names = {"plain": "cifar10_resnet20", "lfi-paper": "cifar10_resnet20_lfi", "abn": "cifar10_resnet20_abn"}
    runs = [(method, 0.1, seed) for method in names for seed in range(5)]
    runs += [(method, lr, 0) for method in ("lfi-paper", "abn") for lr in (0.07, 0.12)]
    for method, lr, seed in runs:
        name = f"cifar10_resnet20_{method}_lr{lr}_seed{seed}_e20"
        config = read_config(names[method], {**more, "lr": lr, "seed": seed, "name": name})
        assert found[name].config.settled() == config.settled(), name
    fins = {(cell.config.fin, cell.config.seed) for cell in cells("reduced", "fig5")}
    cifar10 = {(fin, seed) for fin in ("trained", "frozen", "none") for seed in (0, 1)}
    assert fins == cifar10 | {("trained", 2), ("none", 2)}  # the latter of cats and dogs


@pytest.mark.parametrize("scale", ["reduced", "short", "paper"])
def test_each_of_the_six_learning_rates_of_fig6_has_a_seed_of_its_own(scale: str) -> None:
    groups = {}
    for cell in cells(scale, "fig6"):
        if cell.config.attention:
            key = cell.config.data, cell.config.network, cell.method
            groups.setdefault(key, set()).add((cell.config.numbers.lr, cell.config.seed))
    assert {key[2].split("-")[0] for key in groups} == {"abn", "lfi"}
    for key, trained in groups.items():
        if key[:2] == ("cifar10", "resnet56"):  # seeds at one learning rate alone
            continue
        rates = sorted({lr for lr, _ in trained})
        assert [lr / rates[3] for lr in rates] == pytest.approx([0.7, 0.8, 0.9, 1, 1.1, 1.2]), key
        # six different seeds, one for each learning rate, can be chosen
        assert any(len(set(seeds)) == 6 for seeds in product(*([s for r, s in trained if r == lr] for lr in rates)))


def test_learning_rates_of_fine_tuning_start_from_imagenet() -> None:
    chosen = cells("reduced", ["table2", "fig6"])
    large = [cell for cell in chosen if cell.config.data != "cifar10"]
    assert {cell.config.data for cell in large} == {"cats-dogs", "imagenette"}
    assert {(c.config.init, c.config.recipe, c.config.pixels) for c in large} == {("imagenet", "fine_tune", 96)}
    assert {cell.config.init for cell in chosen if cell.config.data == "cifar10"} == {"random"}


def test_methods_and_settings_stand_for_each_other() -> None:
    for method in ("plain", "abn", "lfi-paper", "lfi-table3", "lfi-paper-finfrozen", "lfi-published-finnone"):
        config = make_config({"data": "cifar10", "network": "resnet20", **attention_of(method)})
        assert method_of(config.attention, config.generation, config.fin) == method
    keys = ["12_lfi_table2_stl10_catdog", "14_lfi_fig1_fig6_stability", "99_scoreboard"]
    assert tables_of(keys) == ["table2", "fig6"]


def test_a_cell_is_done_when_its_checkpoint_is_there_and_of_these_settings(out: Path) -> None:
    cell = tiny(out)
    assert (cell.done, cell.epochs, cell.images, cell.missing_data) == (False, 0, 20, None)
    train_cells([cell])
    assert (cell.done, cell.epochs, cell.images) == (True, 1, 0)
    before = cell.checkpoint.stat().st_mtime_ns
    train_cells([cell])  # finished: nothing is written again
    assert cell.checkpoint.stat().st_mtime_ns == before
    for changed, says in (
        ({"batch": 5}, "recipe.batch was 10, now 5"),
        ({"attention": "abn"}, "attention was None, now 'abn'"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"fin": "none", "attention": "lfi"}, "fin was 'trained', now 'none'"),
        ({"init": "imagenet"}, "init was 'random', now 'imagenet'"),
    ):
        with pytest.raises(ValueError, match=says):
            _ = tiny(out, **changed).done


def test_a_training_that_ended_before_its_network_was_tested_is_not_done(out: Path) -> None:
    cell = tiny(out)
    with patch("campanion.training.loop.load_trained", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train_cells([cell])
    assert (list(cell.config.place.glob("*.safetensors")), cell.epochs, cell.done) == ([], 1, False)
    history = cell.config.place / "history.csv"
    before = history.read_bytes()
    (cell.config.place / f"untested-{cell.name}" / "half.part").touch()  # as SIGKILL leaves it
    train_cells([cell])  # tests it, and trains no epoch more
    assert (cell.checkpoint.is_file(), history.read_bytes(), cell.done) == (True, before, True)
    assert not list(cell.config.place.glob("untested*"))


def test_a_committed_checkpoint_goes_before_one_that_was_trained(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_ROOT", str(out))
    cell = tiny(out)
    assert cell.checkpoint == out / "tiny" / "tiny.safetensors"
    paths.checkpoints_dir().mkdir(parents=True)
    (paths.checkpoints_dir() / "tiny.safetensors").touch()
    assert cell.checkpoint == out / "data" / "checkpoints" / "tiny.safetensors"
    assert not cell.done  # without its facts


def test_hours_follow_from_the_epochs_that_ended_here(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "checkpoints_dir", lambda: out / "none")  # however many are committed
    monkeypatch.setattr(Cell, "missing_data", None)  # whatever data this machine has
    name = "cifar10_resnet20_abn_lr0.1_seed1_e20"
    cell = next(cell for cell in cells("reduced") if cell.name == name)
    row = {"images_per_s": 100.0, "device": "CPU, 1 thread", "processes": 1}
    write_history(cell.config.place, [{"epoch": 1, **row}, {"epoch": 2, **row, "images_per_s": 300.0}])
    found = {cell.name: (cell.images, time, source) for cell, time, source in hours(cells("reduced", "table1"))}
    assert found[name] == (900_000, pytest.approx(900_000 / 200 / 3600), "2 epochs trained here")
    assert found[name.replace("seed1", "seed2")][:2] == (1_000_000, pytest.approx(1_000_000 / 200 / 3600))
    text = listing(cells("reduced", "table1"))
    assert "2/20" in text
    assert f"{sum(time for _, time, _ in found.values()):.1f} hours on one CPU core" in text


def test_speed_by_multiply_adds_and_by_assumption(out: Path) -> None:
    assert "resnet20" in {kind[0] for kind in measured("cpu")}
    known = {("resnet20", "plain", 32): (300.0, "measured before")}
    rate, source = speed(("resnet20", "abn", 32), "cpu", known)
    ratio = multiply_adds("resnet20", "plain", 32) / multiply_adds("resnet20", "abn", 32)
    assert (rate, source) == (pytest.approx(300 * ratio), "by multiply-adds from other networks")
    rate, source = speed(("resnet50", "plain", 224), "gpu", {})
    assert source == "assumed, not measured"
    assert rate == pytest.approx(3e13 / multiply_adds("resnet50", "plain", 224))
    assert speed(("resnet20", "plain", 32), "gpu", {})[0] == 10_000


def test_multiply_adds_of_a_step_are_those_of_the_layers() -> None:
    network, counted = build_model("resnet20", num_classes=10).eval(), []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda m, _, y: counted.append(y.numel() * m.weight[0].numel()))
    network(torch.zeros(1, 3, 32, 32))
    assert multiply_adds("resnet20", "plain", 32) == 3 * sum(counted)


def test_what_is_not_run_here_has_a_command_and_hours(capsys: pytest.CaptureFixture) -> None:
    frame = from_the_start("short", "table1")
    assert len(frame) == len(cells("short", "table1"))
    named = frame[frame.network.isin(["resnet110", "resnext29_8x64d"])]
    assert len(named) == 2 * 2 * 3  # networks, data sets, methods
    one = frame[(frame.network == "resnet110") & (frame.data == "cifar10") & (frame.method == "plain")].iloc[0]
    stated = read_grid()["speeds"]["cpu"]
    work = [row["images_per_s"] * multiply_adds(row["network"], row["method"], row["size"]) for row in stated]
    rate = math.prod(work) ** (1 / len(work)) / multiply_adds("resnet110", "plain", 32)
    assert one.core_hours == pytest.approx(30 * 50_000 / rate / 3600)
    assert one.gpu_hours == pytest.approx(30 * 50_000 / speed(("resnet110", "plain", 32), "gpu", {})[0] / 3600)
    words = one.command.split()
    assert words[:4] == ["python", "-m", "campanion", "grid"]
    words.remove("--run")  # what is left lists the training
    assert main(words[3:]) == 0
    assert "cifar10_resnet110_plain_lr0.1_seed0_short" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scale", "huge"], "Unknown scale 'huge'"),
        (["--table", "table9"], "Unknown table of the grid 'table9'"),
        (["--notebook", "12_lfi_table3"], "Unknown notebook '12_lfi_table3'"),
        (["--scale", "reduced", "--run", "--only", "cifar10_resnet20"], "Unknown cell 'cifar10_resnet20'"),
    ],
)
def test_wrong_requests_are_told(words: list[str], says: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["grid", *words]) == 2
    assert says in capsys.readouterr().err


def test_missing_data_are_told_before_anything_is_trained(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_DATA", str(out / "nothing"))
    missing = [cell for cell in cells("reduced", "table2") if not cell.done]
    chosen = [tiny(out), *missing]
    with pytest.raises(MissingData, match=f"{missing[0].name} needs {missing[0].config.data}"):
        train_cells(chosen)
    assert not chosen[0].done
    sets = ", ".join(dict.fromkeys(cell.config.data for cell in missing))
    assert f"Left out are {len(missing)} training runs on data that are not here: {sets}." in listing(missing)


def test_the_command_lists_what_notebooks_use(out: Path, capsys: pytest.CaptureFixture) -> None:
    name = "scenes_resnet20_plain_lr0.1_seed0_e2"
    assert main(["grid", "--scale", "quick", "--notebook", "11_lfi_table1_cifar"]) == 0
    said = capsys.readouterr().out
    assert name in said
    assert "finnone" not in said
    assert main(["grid", "--scale", "quick", "--notebook", "11"]) == 0
    assert capsys.readouterr().out == said
    assert main(["grid", "--scale", "quick", "--notebook", "20_fd"]) == 0
    assert capsys.readouterr().out == "No training run of this scale is behind it.\n"


def test_the_longest_trainings_that_can_answer_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: set[str] = set()
    monkeypatch.setattr(Cell, "done", property(lambda self: self.name in done))

    def trained(epochs: int, kind: str, seed: int) -> Cell:
        name = f"{kind}_{epochs}_{seed}"
        settings = {
            **TINY,
            "attention": kind,
            "seed": seed,
            "epochs": epochs,
            "name": name,
            "folder": str(tmp_path),
        }
        return Cell(make_config(settings), ("fig6",), "quick")

    brief, whole = ([trained(e, k, s) for k in ("lfi", "abn") for s in range(3)] for e in (3, 20))
    assert longest([*whole, *brief]) == [brief]
    done |= {cell.name for cell in (*brief, *whole[:5])}
    assert longest([*whole, *brief]) == [brief]  # two of ABN's alone
    done.add(whole[5].name)
    assert longest([*whole, *brief]) == [whole]


def test_of_large_weights_card_and_maps_are_kept(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_ROOT", str(out))
    monkeypatch.setenv("CAMPANION_OUT", str(out / "out"))
    monkeypatch.setenv("CAMPANION_RESULTS", str(out / "results"))
    cell = tiny(out, attention="lfi")
    train_cells([cell])
    (own,) = learned.finished([cell.checkpoint])
    maps, about = learned.learned_maps(own)
    monkeypatch.setattr(learned, "SMALL", 0)
    kept = learned.keep(cell.checkpoint)
    assert [file.relative_to(out).as_posix() for file in kept] == [
        "data/checkpoints/tiny.json", "data/checkpoints/tiny.md", "results/maps/tiny.safetensors",
    ]  # fmt: skip
    assert (cell.done, cell.weights_here) == (True, True)
    for folder in (cell.config.place, out / "out" / "maps"):
        shutil.rmtree(folder)
    assert (cell.done, cell.weights_here, cell.images) == (True, False, 0)
    train_cells([cell])
    assert not cell.config.place.exists()  # it was not trained again
    (known,) = learned.finished([cell.card])
    again, header = learned.learned_maps(known)
    assert torch.equal(again, maps)
    assert header == about
    assert about["shown"]
    with pytest.raises(MissingData, match="There is no"):
        learned.learned_maps(replace(known, sha256="of another training"))

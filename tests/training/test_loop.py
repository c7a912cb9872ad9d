"""Training: killed and continued, shared by processes, and every step of the authors' commands on generated scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from campanion import explain, paths
from campanion.__main__ import main
from campanion.data import DATASETS
from campanion.errors import MissingData
from campanion.experiments import learned, mapfiles
from campanion.models.load import build_network, load_trained, read_card, weights_of
from campanion.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from campanion.models.small import ImagenetteVGG
from campanion.paths import checkpoints_dir, sha256
from campanion.training.batches import Draw, normalise, smooth
from campanion.training.checkpoint import (
    STATE,
    load_state,
    open_tensorboard,
    read_history,
    save_state,
    write_checkpoint,
    write_history,
)
from campanion.training.loop import train as train_config
from campanion.training.parts import evaluate, open_part
from campanion.training.recipe import learning_rate
from campanion.training.settings import TRAINABLE, Recipe, make_config, read_config, recipe
from torch.nn import functional as F
from torchvision.models import vgg11_bn

TINY = {
    "data": "scenes",
    "network": "imagenette_vgg",
    "options": {"width": 0.06, "hidden": 16, "pooled": 1},
    "size": 32,
    "limit": 53,  # batches of 16, 16, 16 and 5
    "limit_test": 21,
    "epochs": 2,
    "batch": 16,
    "lr": 0.05,
    "device": "cpu",
    "name": "tiny",
}


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, object]:
    """Settings of a training that takes a second."""
    return {**TINY, "folder": str(tmp_path)}


def command(module: str, *words: object, **more: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **more}
    # not through a pipe that nobody empties
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)], env=environment, stdout=subprocess.DEVNULL
    )


def written(folder: Path, settings: dict[str, object]) -> Path:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_killed_and_continued_ends_with_the_same_weights(tmp_path: Path, tiny: dict) -> None:
    tiny["epochs"] = 20
    killed, whole = make_config(tiny), make_config({**tiny, "name": "whole"})
    process = command("campanion", "train", written(tmp_path, tiny))
    history = killed.place / "history.csv"
    while not (history.exists() and len(history.read_text().splitlines()) > 3):
        assert process.poll() is None, "the training ended before it was killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(read_history(killed.place))
    assert 3 <= before < 20
    (killed.place / f"{STATE}.part").write_bytes(b"half of a state")
    facts, other = train_config(killed), train_config(whole)
    assert len(read_history(killed.place)) == 20
    states = [load_state(config.place) for config in (killed, whole)]
    assert same_weights(states[0]["network"], states[1]["network"])
    assert same_weights(states[0]["best"]["network"], states[1]["best"]["network"])
    curves = ["epoch", "lr", "train_loss", "train_top1", "test_loss", "test_top1"]
    assert read_history(killed.place)[curves].equals(read_history(whole.place)[curves])
    assert facts["accuracy"] == other["accuracy"]


def test_a_run_that_was_killed_before_its_last_row_was_written_has_all_rows_when_resumed(
    tmp_path: Path, tiny: dict
) -> None:
    config = make_config({**tiny, "epochs": 2})
    train_config(config)
    whole = read_history(config.place)
    write_history(config.place, whole.to_dict("records")[:1])  # the state of epoch 2 is there, its row is not
    train_config(config)
    assert read_history(config.place).equals(whole)


def test_a_run_that_is_older_than_a_setting_resumes_with_its_default(tmp_path: Path, tiny: dict) -> None:
    config = make_config({**tiny, "epochs": 1})
    facts, state = train_config(config), load_state(config.place)
    settled = json.loads(state["settled"])
    for young in ("recipe.optimiser", "init", "held_out", "fin"):
        del settled[young]
    save_state(config.place, {**state, "settled": json.dumps(settled)})
    assert train_config(config)["sha256"] == facts["sha256"]
    assert len(read_history(config.place)) == 1
    save_state(config.place, {**state, "settled": json.dumps({**settled, "recipe.optimiser": "adamw"})})
    with pytest.raises(ValueError, match=r"recipe\.optimiser was 'adamw', now 'sgd'"):
        train_config(config)


def test_two_processes_give_the_losses_of_one_with_the_doubled_batch(tmp_path: Path, tiny: dict) -> None:
    # Batch norm sees the images of its own process only, and dropout is drawn in each: without both it is exact.
    tiny["options"] = {**TINY["options"], "batch_norm": False, "dropout": 0.0}
    tiny["label_smoothing"] = 0.1
    one = make_config({**tiny, "name": "one"})
    train_config(one)
    two = make_config({**tiny, "name": "two"})
    file = written(tmp_path, {**tiny, "name": "two"})
    run = ("--standalone", "--nproc_per_node=2", "-m", "campanion", "train", file)
    assert command("torch.distributed.run", *run, GLOO_SOCKET_IFNAME="lo").wait(timeout=300) == 0
    rows = [read_history(config.place) for config in (one, two)]
    assert rows[1].processes.tolist() == [2, 2]
    for column in ("train_loss", "train_top1", "test_loss", "test_top1"):
        assert rows[0][column].to_numpy() == pytest.approx(rows[1][column].to_numpy(), rel=1e-5), column
    states = [load_state(config.place)["network"] for config in (one, two)]
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, atol=1e-5, rtol=1e-4)
    assert (two.place / "two.safetensors").exists()


def test_every_command_of_the_authors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = {**TINY, "folder": str(tmp_path), "network": "resnet20", "options": {}, "attention": "lfi"}
    file = written(tmp_path, {key: value for key, value in settings.items() if key not in ("name", "limit")})
    for lr in (0.1, 0.07):  # train, with learning curves
        assert main(["train", str(file), f"lr={lr}", "limit=32", "epochs=1"]) == 0
    checkpoints = sorted(tmp_path.glob("*/*.safetensors"))
    assert [c.stem for c in checkpoints] == [f"scenes_resnet20_lfi-paper_lr{lr}_seed0_short" for lr in (0.07, 0.1)]
    facts = json.loads(checkpoints[0].with_suffix(".json").read_text())
    top1 = facts["accuracy"]["test"]["top1"]
    capsys.readouterr()
    main(["trained", "accuracy", str(checkpoints[0]), "--limit", "21"])  # evaluation from a checkpoint
    assert f"top-1 {100 * top1:.2f} % of 21 images" in capsys.readouterr().out
    maps = [tmp_path / f"maps{i}.safetensors" for i in range(2)]
    for checkpoint, out in zip(checkpoints, maps, strict=True):  # attention maps
        main(["trained", "maps", str(checkpoint), "--out", str(out), "--limit", "6"])
    found, about = mapfiles.read_maps(maps[0])
    assert (about["method"], about["sha256"], found.shape) == ("lfi_cam", facts["sha256"], (6, 32, 32))
    network = load_trained(checkpoints[0])
    part = open_part(learned.config_of(checkpoints[0], limit=6), "test")
    (pixels,) = part.images.batches([Draw(torch.arange(6))])
    images = normalise(pixels, network.preprocess.mean, network.preprocess.std)
    torch.testing.assert_close(explain(network, images, methods=("lfi_cam",)).maps["lfi_cam"], found)
    capsys.readouterr()
    main(["trained", "iou", str(maps[0]), str(maps[1]), "--threshold", "100"])  # IoU between two models
    assert "6 images" in capsys.readouterr().out
    assert mapfiles.iou_of(maps[0], maps[0]).tolist() == [1.0] * 6
    turned = tmp_path / "turned.safetensors"
    mapfiles.save_maps(found.flip(0), about["ids"][::-1], {"method": "lfi_cam"}, turned)
    assert mapfiles.iou_of(maps[0], turned).tolist() == [1.0] * 6  # images are matched by their ids
    mapfiles.save_maps(found[:5], about["ids"][:5], {"method": "lfi_cam"}, turned)
    with pytest.raises(ValueError, match="different images"):
        mapfiles.iou_of(maps[0], turned)


def test_accuracy_counts_every_image_once(tiny: dict) -> None:
    config = make_config(tiny)
    part = open_part(config, "test")
    network = build_network(config.spec, part.class_names, Preprocess(32, IMAGENET_MEAN, IMAGENET_STD)).train()
    measured = evaluate(network, part, batch=8)  # 8, 8 and 5
    assert network.training
    network.eval()
    (pixels,) = part.images.batches([Draw(torch.arange(21))])
    with torch.no_grad():
        logits = network(normalise(pixels, IMAGENET_MEAN, IMAGENET_STD))
    assert measured["n"] == 21
    assert measured["top1"] == pytest.approx((logits.argmax(1) == part.labels).double().mean().item())
    assert measured["loss"] == pytest.approx(F.cross_entropy(logits, part.labels).item(), rel=1e-5)


def test_files_of_a_run(tmp_path: Path, tiny: dict) -> None:
    tiny |= {"select": "best_on_test", "precision": "bf16", "epochs": 3, "export": str(tmp_path / "kept")}
    config = make_config(tiny)
    facts = train_config(config)
    rows = read_history(config.place)
    best = facts["accuracy"]["best epoch on test"]
    assert best == {"top1": rows.test_top1.max(), "epoch": int(rows.test_top1.argmax()) + 1}
    assert facts["accuracy"]["last epoch"]["top1"] == rows.test_top1.iloc[-1]
    assert facts["recipe"]["epochs"] == 3
    path = tmp_path / "kept" / "tiny.safetensors"
    network = load_trained(path)
    assert not network.training
    assert network.weights["sha256"] == facts["sha256"]
    state = load_state(config.place)
    kept = state["best"]["network"]["features.0.weight"]
    assert torch.equal(network.features[0].weight, kept.half().float())
    assert torch.equal(network.features[1].running_var, state["best"]["network"]["features.1.running_var"])
    card = path.with_suffix(".md").read_text()
    assert "as the authors choose" in card
    assert facts["sha256"] in card
    assert train_config(config)["sha256"] == facts["sha256"]  # a finished run is not trained again
    assert len(read_history(config.place)) == 3
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        load_trained(path)
    with pytest.raises(ValueError, match=r"other settings \(recipe.lr was 0.05, now 0.06\)"):
        train_config(make_config({**tiny, "lr": 0.06}))


def test_bf16_is_rounded_to_where_the_processor_lacks_it(tiny: dict, monkeypatch) -> None:
    """Losses and gradients as with autocast, but for the order of sums."""
    losses = {}
    for name, precision, knows in (("exact", "fp32", True), ("autocast", "bf16", True), ("rounded", "bf16", False)):
        monkeypatch.setattr("campanion.inference._knows_bfloat16", lambda knows=knows: knows)
        config = make_config({**tiny, "precision": precision, "epochs": 2, "name": name})
        train_config(config)
        losses[name] = read_history(config.place).train_loss.to_numpy()
    assert abs(losses["rounded"] - losses["autocast"]).max() < 0.02 * losses["exact"].max()
    assert (losses["rounded"] != losses["exact"]).all()


def test_damaged_states_are_never_loaded(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    for epoch in (1, 2):
        save_state(tmp_path, {"epoch": epoch, "weights": torch.full((1000,), float(epoch))})
    assert load_state(tmp_path)["epoch"] == 2
    file = tmp_path / STATE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    file.write_bytes(content)
    state = load_state(tmp_path)
    assert state["epoch"] == 1
    assert torch.equal(state["weights"], torch.ones(1000))
    for whole in tmp_path.glob("*.pt"):
        whole.write_bytes(whole.read_bytes()[:500])
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path)


def test_learning_rates_are_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    steps = 40
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, [20, 30])
    _compare(recipe("paper", 32), optimiser, theirs, steps)
    optimiser = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=steps, pct_start=0.25)
    _compare(recipe("short", 32), optimiser, theirs, steps)


def _compare(ours: Recipe, optimiser: torch.optim.Optimizer, theirs: object, steps: int) -> None:
    for step in range(steps):
        assert learning_rate(ours, step, steps) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9), step
        optimiser.step()
        if step < steps - 1:
            theirs.step()


def test_the_papers_recipe() -> None:
    cifar = make_config({"data": "cifar10", "network": "resnet110", "recipe": "paper"}).numbers
    assert (cifar.epochs, cifar.batch, cifar.lr, cifar.momentum, cifar.drops) == (300, 128, 0.1, 0.9, (0.5, 0.75))
    assert (cifar.augment, cifar.padding * 32) == ("shift_flip", 4)
    stl = make_config({"data": "stl10", "network": "resnet18", "recipe": "paper"})
    assert (stl.pixels, stl.numbers.batch, stl.numbers.augment) == (224, 256, "resized_crop_flip")
    imagenet = make_config({"data": "folder:ILSVRC2012", "network": "resnet50", "recipe": "paper"}).numbers
    assert (imagenet.epochs, imagenet.weight_decay) == (90, 1e-4)


def test_label_smoothing_is_torchs() -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    theirs = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, smooth(labels, 4, 0.1)), theirs)
    assert smooth(labels, 4, 0.0) is labels


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"netwrok": "resnet20"}, "Unknown setting 'netwrok'. Did you mean 'network'"),
        ({"data": "mnist"}, "Unknown data set to train on 'mnist'"),
        ({"recipe": "long"}, "Unknown recipe 'long'"),
        ({"precision": "fp16"}, "Unknown precision"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"lr": "high"}, "lr must be a number"),
        ({"lr": "nan"}, "lr must be a number"),
        ({"lr": 0}, "lr must be above 0"),
        ({"name": "../x"}, "name may hold"),
        ({"limit": 1}, "limit must be at least 2"),
        ({"network": None}, "network must be a word, not None"),
        ({"compile": True}, "needs a CUDA GPU"),
        ({"network": "resnet21"}, "Unknown network 'resnet21'"),
        ({"options": {"depth": 3}}, "cannot be built with these options"),
        ({"network": "resnet20"}, "resnet20 has no options"),
        ({"attention": "lfi"}, "has no attention branch"),
    ],
)
def test_bad_settings_say_what_is_wrong(tiny: dict, change: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        train_config(make_config({**tiny, "limit": 4, "limit_test": 2, **change}))


def test_bad_commands_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, says in (
        (["train", "nothing.yaml"], "There is no settings file nothing.yaml. In configs/: "),
        (["train", "imagenette_vgg", "lr"], "not of the form setting=value"),
        (["train", "voc_mlp", "epoch=2"], "Unknown setting of voc_mlp 'epoch'. Did you mean 'epochs'"),
        (["train", "voc_mlp", "epochs=two"], "voc_mlp: epochs must be a whole number, not 'two'"),
        (["trained", "accuracy", str(tmp_path / "lr0.1")], "lr0.1.safetensors"),
        (["train", "elsewhere/scenes_lfi.yaml"], "There is no settings file elsewhere/scenes_lfi.yaml. In configs/: "),
        (["train", "imagenette_vgg", "options={width: 0.25"], "'options={width: 0.25' is not YAML behind its ="),
        (["trained", "accuracy", str(checkpoints_dir() / "scenes_vgg")], "no settings in its card"),
        (["trained", "maps", str(checkpoints_dir() / "voc_mlp"), "--out", "x"], "no settings in its card"),
        (["trained", "keep", str(checkpoints_dir() / "voc_mlp")], "no settings in its card"),
        (["trained", "accuracy", str(checkpoints_dir() / "scenes_lfi"), "--device", "gpu"], "--device gpu: Expected"),
        (["trained", "accuracy", "x", "--limit", "0"], "--limit"),
        (["trained", "iou", str(tmp_path / "a"), str(tmp_path / "b")], "campanion trained maps CKPT"),
    ):
        assert main(words) == 2
        assert says in capsys.readouterr().err
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no maps")
    with pytest.raises(ValueError, match="is not a file of maps"):
        mapfiles.read_maps(bad)
    with pytest.raises(MissingData, match="no epoch"):
        read_history(tmp_path)
    assert weights_of("run_lr0.1").name == "run_lr0.1.safetensors"
    assert weights_of("scenes_vgg") == paths.checkpoints_dir() / "scenes_vgg.safetensors"
    with pytest.raises(ValueError, match="committed already"):  # not the old one, in silence, for a new training's
        learned.keep("scenes_lfi")


def test_a_changed_training_run_does_not_take_the_place_of_the_committed_network() -> None:
    assert read_config("scenes_vgg", {"device": "cpu"}).export == "data/checkpoints"
    assert read_config("scenes_vgg", {"epochs": 1}).export is None
    assert read_config("scenes_vgg", {"epochs": 5}).export == "data/checkpoints"  # as its file has it
    assert read_config("scenes_vgg", {"epochs": 1, "export": "kept"}).export == "kept"


def test_checkpoints_written_to_one_folder_side_by_side_are_both_whole(tmp_path: Path, tiny: dict) -> None:
    config = make_config({**tiny, "epochs": 1})
    train_config(config)
    facts = read_card(config.place / config.run)
    first, second, tested = tmp_path / "first.safetensors", tmp_path / "second.safetensors", []

    def measured(_draft: Path) -> dict[str, object]:
        if not tested:  # while the first is tested, the second is written from beginning to end
            tested.append(second)
            write_checkpoint(second, {"w": torch.ones(2)}, facts, measured)
        return {}

    write_checkpoint(first, {"w": torch.zeros(2)}, facts, measured)
    for path in (first, second):
        assert read_card(path)["sha256"] == sha256(path)
        assert path.with_suffix(".md").is_file()
    assert not list(tmp_path.glob("untested*"))


def test_runs_do_not_share_a_folder() -> None:
    base = {"data": "cifar10", "network": "resnet20"}
    changes = [
        {}, {"attention": "abn"}, {"attention": "lfi"}, {"attention": "lfi", "generation": "table3"}, {"lr": 0.07},
        {"seed": 1}, {"recipe": "paper"}, {"network": "resnet32"}, {"data": "cifar100"},
        {"init": "imagenet"},
    ]  # fmt: skip
    names = {make_config({**base, **change}).place for change in changes}
    assert len(names) == len(changes)
    assert make_config({**base, "lr": "1e-1"}).run == "cifar10_resnet20_plain_lr0.1_seed0_short"


@pytest.mark.parametrize("file", sorted((paths.root() / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_configs_build_their_networks(file: Path) -> None:
    config = read_config(file.stem)
    assert config.data in TRAINABLE or config.data.startswith("folder:")
    with torch.device("meta"):
        network = build_network(config.spec, ["a", "b"], Preprocess(config.pixels, *config.statistics))
    assert sum(p.numel() for p in network.parameters()) > 1000
    assert set(TRAINABLE) <= set(DATASETS)


def test_tensorboard(tmp_path: Path) -> None:
    assert open_tensorboard(tmp_path, False, 0) is None
    if find_spec("tensorboard") is None:
        assert open_tensorboard(tmp_path, None, 0) is None
        with pytest.raises(ValueError, match="pip install tensorboard"):
            open_tensorboard(tmp_path, True, 0)
        return
    writer = open_tensorboard(tmp_path, True, 0)
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_imagenette_vgg_is_a_narrow_vgg11() -> None:
    with torch.device("meta"):
        wide, theirs = ImagenetteVGG(width=1.0, pooled=7, hidden=4096, num_classes=1000), vgg11_bn()
    assert [(n, p.shape) for n, p in wide.named_parameters()] == [(n, p.shape) for n, p in theirs.named_parameters()]
    network = ImagenetteVGG(**read_config("imagenette_vgg").options).eval()
    assert 2 * sum(p.numel() for p in network.parameters()) < 10e6  # bytes in half precision
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    e = explain(network, images, methods=("lift_cam",), layer=network.target_layer)
    assert e.raw["lift_cam"].shape == (2, 6, 6)
    with pytest.raises(ValueError, match="needs a width"):
        ImagenetteVGG(width=2)

"""Fine-tuning: the start from ImageNet weights, AdamW, and a part of the training images that is held out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from campanion.data import open_dataset
from campanion.errors import MissingData
from campanion.models import build_model
from campanion.models.load import read_card, start_from_imagenet
from campanion.training.loop import train
from campanion.training.parts import open_part
from campanion.training.recipe import make_optimiser
from campanion.training.settings import make_config, recipe
from safetensors.torch import save_file

TINY = {
    "data": "scenes", "network": "resnet18", "size": 32, "limit": 24, "limit_test": 12, "recipe": "fine_tune",
    "epochs": 1, "batch": 12, "device": "cpu", "name": "tiny", "tensorboard": False,
}  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights of torchvision's ResNet18 where ``load_model`` looks for ImageNet's."""
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    monkeypatch.setenv("CAMPANION_OFFLINE", "1")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = torchvision.models.resnet18().state_dict()
    (tmp_path / "weights").mkdir()
    save_file(state, tmp_path / "weights" / "resnet18.safetensors")
    return state


@pytest.mark.parametrize(
    ("attention", "generation"), [(None, "paper"), ("abn", "paper"), ("lfi", "paper"), ("lfi", "table3")]
)
def test_the_layers_of_that_name_start_from_the_given_weights(
    weights: dict[str, torch.Tensor], attention: str | None, generation: str
) -> None:
    network = build_model("resnet18", attention, generation, num_classes=2)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    start_from_imagenet(network, "resnet18")
    taken = 0
    for name, value in network.state_dict().items():
        own = name.removeprefix("backbone.")
        inside = attention is None or name.startswith("backbone.")
        if inside and own in weights and not own.startswith("fc."):
            assert torch.equal(value, weights[own]), name
            taken += 1
        else:
            assert torch.equal(value, fresh[name]), name
    # table3 has another last stage: only the stem and three stages are torchvision's
    last = [name for name in weights if name.startswith("layer4")]
    assert taken == len(weights) - 2 - (len(last) if generation == "table3" else 0)
    assert network.weights["origin"] == "random, seed 0, its layers started from resnet18.safetensors"


def test_what_cannot_start_from_imagenet_is_refused(weights: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"conv1.weight has another shape .* stem='imagenet'"):
        start_from_imagenet(build_model("resnet18", stem="cifar"), "resnet18")
    with pytest.raises(ValueError, match="no ImageNet weights of resnet20"):
        start_from_imagenet(build_model("resnet20"), "resnet20")
    (tmp_path / "weights" / "resnet18.safetensors").unlink()
    with pytest.raises(MissingData, match="No weights of resnet18"):
        start_from_imagenet(build_model("resnet18"), "resnet18")


def test_a_run_starts_from_the_weights_and_says_so(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    config = make_config({**TINY, "init": "imagenet", "lr": 1e-9, "folder": str(tmp_path)})
    train(config)  # at this rate nothing moves
    path = config.place / "tiny.safetensors"
    assert read_card(path)["init"] == "imagenet"
    assert "Training: from ImageNet weights, seed 0" in path.with_suffix(".md").read_text()
    from safetensors.torch import load_file

    torch.testing.assert_close(load_file(path)["layer2.0.conv1.weight"].float(), weights["layer2.0.conv1.weight"],
                               rtol=1e-3, atol=1e-6)  # fmt: skip
    with pytest.raises(ValueError, match="init was 'imagenet', now 'random'"):
        train(make_config({**TINY, "lr": 1e-9, "folder": str(tmp_path)}))


def test_the_optimiser_of_a_recipe_takes_torchs_steps() -> None:
    start = torch.linspace(-1, 1, 5)
    for settings, theirs in (
        ({}, lambda p: torch.optim.AdamW([p], lr=0.01, weight_decay=0.05)),
        ({"optimiser": "sgd"}, lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.9, weight_decay=0.05)),
    ):
        one, other = (torch.nn.Parameter(start.clone()) for _ in range(2))
        ours, known = make_optimiser([one], recipe("fine_tune", 96, lr=0.01, **settings)), theirs(other)
        for parameter, optimiser in ((one, ours), (other, known)) * 3:
            optimiser.zero_grad()
            parameter.square().sum().backward()
            optimiser.step()
        assert torch.equal(one, other)
        assert not torch.equal(one, start)
    with pytest.raises(ValueError, match="Unknown optimiser 'adam'"):
        recipe("fine_tune", 96, optimiser="adam")


def test_shifts_of_fine_tuning_are_eight_pixels_of_96() -> None:
    assert make_config({"data": "imagenette", "network": "resnet18", "recipe": "fine_tune"}).numbers.padding * 96 == 8


@pytest.mark.parametrize("limit", [None, 6])
def test_what_is_held_out_is_neither_trained_on_nor_of_the_test_images(
    folder_of_classes: Path, limit: int | None
) -> None:
    settings = {"data": f"folder:{folder_of_classes}", "network": "resnet18", "size": 16, "held_out": 0.25}
    config = make_config({**settings, "limit": limit})
    trained, held = (set(open_part(config, split).ids) for split in ("train", "test"))
    every = {f"{c}/{i}.png" for c in ("a", "b") for i in range(10)}
    assert len(held) == 5
    assert not trained & held
    assert trained <= every
    assert (trained | held == every) == (limit is None)
    assert len(trained) == (limit or 15)


def test_of_scenes_too_what_is_held_out_is_not_trained_on() -> None:
    settings = {"data": "scenes", "network": "resnet20", "size": 16, "held_out": 0.2, "limit": 50, "limit_test": 20}
    trained, held = (open_part(make_config(settings), split).ids for split in ("train", "test"))
    assert (len(trained), len(held)) == (50, 20)
    assert not set(trained) & set(held)


def test_hidden_folders_are_no_classes_and_their_copies_no_images(folder_of_classes: Path) -> None:
    config = make_config({"data": f"folder:{folder_of_classes}", "network": "resnet18", "size": 16})
    before = open_part(config, "train")
    for copies in (".ipynb_checkpoints", "a/.ipynb_checkpoints"):
        (folder_of_classes / "train" / copies).mkdir()
        shutil.copy(folder_of_classes / "train/a/1.png", folder_of_classes / "train" / copies / "1-checkpoint.png")
    after = open_part(config, "train")
    assert (after.ids, after.class_names) == (before.ids, before.class_names)


@pytest.fixture
def folder_of_classes(tmp_path: Path) -> Path:
    """Two classes of ten training images; the test images have other names."""
    for split, names in (("train", range(10)), ("test", range(20, 23))):
        for i, scene in zip(names, open_dataset("scenes", split="train", n=len(names), size=32), strict=True):
            for kind in ("a", "b"):
                (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
                scene.image.save(tmp_path / split / kind / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"init": "coco"}, "Unknown init 'coco'"),
        ({"held_out": 1.0}, "held_out must be below 1, not 1.0"),
        ({"held_out": "much"}, "held_out must be a number"),
    ],
)
def test_bad_settings_are_told(change: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_config({**TINY, **change})

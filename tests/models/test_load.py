"""``load_model``: target layers, preprocessing, weights files good and bad, and the real weights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from campanion import explain, load_model
from campanion.data.download import DownloadError
from campanion.errors import MissingData
from campanion.game.game import ChannelGame
from campanion.models import load
from PIL import Image
from safetensors.torch import save_file

# name -> target layer, its channels and side for an image of 224 pixels
LAYERS = {
    "vgg16": ("features.29", 512, 14),
    "alexnet": ("features.11", 256, 13),
    "squeezenet1_1": ("features.12", 512, 13),
    "resnet18": ("layer4", 512, 7),
    "resnet50": ("layer4", 2048, 7),
    "resnext50_32x4d": ("layer4", 2048, 7),
    "densenet121": ("features.relu5", 1024, 7),
    "mobilenet_v2": ("features", 1280, 7),
}


@pytest.mark.parametrize("name", LAYERS)
def test_target_layers(name: str) -> None:
    layer, channels, side = LAYERS[name]
    with torch.device("meta"):
        model = load_model(name, weights="random", device="meta")
        shapes, target = [], model.get_submodule(model.target_layer)
        target.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert model.target_layer == layer
    assert shapes == [(1, channels, side, side)]
    assert not model.training
    assert len(model.class_names) == 1000
    assert model.class_names[207] == "golden retriever"


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "alexnet", "squeezenet1_1"])
def test_the_layer_is_not_negative_and_the_logits_are_torchvisions(name: str) -> None:
    model = load_model(name, weights="random", num_classes=7, seed=3)
    plain = torchvision.models.get_model(name, num_classes=7).eval()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(images), plain(images), atol=1e-6)
    e = explain(model, images, methods=("grad_cam", "lift_cam"))
    assert e.maps["lift_cam"].shape == (2, 64, 64)
    kept = []
    model.get_submodule(model.target_layer).register_forward_hook(lambda _m, _i, out: kept.append(out.detach().amin()))
    model(images)
    assert kept[0] >= 0


@pytest.mark.parametrize("name", [*LAYERS, "mobilenet_v3_small", "efficientnet_b0"])
def test_a_gradient_passes_the_whole_network(name: str) -> None:
    model = load_model(name, weights="random")
    images = torch.randn(1, 3, 96, 96, requires_grad=True)
    layer = dict(model.named_modules())[model.target_layer]
    kept = []
    layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    score = model(images)[0, 0]
    expected = torch.autograd.grad(score, [images, kept[0]])
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in expected)
    game = ChannelGame.of(model, images.detach())
    # A network that applies its ReLU in place has the hook's tensor after it; where the maps are 0 the two differ.
    own, whole = (gradient * (game.activations != 0) for gradient in (game.gradient(0), expected[1]))
    assert torch.allclose(own, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_random_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = ((None, 1), ("random", 1), (None, 2))
    one, same, other = (load_model("squeezenet1_1", weights=w, num_classes=4, seed=s) for w, s in drawn)
    assert torch.equal(torch.rand(2), expected)  # the global generator is not touched
    weights = [m.features[0].weight for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.class_names == ["0", "1", "2", "3"]
    assert one.weights == {"name": "squeezenet1_1", "origin": "random, seed 1", "sha256": None}


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"Unknown model 'resnet5'\. Did you mean 'resnet50'"):
        load_model("resnet5")
    for name in ("yolov8n", "fcn_resnet50"):  # not torchvision's, and no classifier
        with pytest.raises(ValueError, match=f"Unknown model '{name}'"):
            load_model(name)
    with pytest.raises(ValueError, match="Unknown model 'scenes_vg'"):
        load_model("scenes_vg")
    with pytest.raises(ValueError, match="ImageNet weights have 1000 classes"):
        load_model("resnet18", num_classes=10)
    for number in (0, -1, 2.5, "5"):
        with pytest.raises(ValueError, match="num_classes must be a whole number"):
            load_model("resnet18", weights="random", num_classes=number)
    for weights in ("random", "auto"):
        with pytest.raises(ValueError, match="scenes_vgg has 10 classes and is not built with 5"):
            load_model("scenes_vgg", weights, num_classes=5)


def left_dark(mode: str) -> Image.Image:
    """A 40 x 30 image whose left half is dark and whose right half is bright."""
    grey = np.full((30, 40), 30, np.uint8)
    grey[:, 20:] = 220
    return Image.fromarray(grey).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "CMYK", "RGBA", "YCbCr", "1"])
def test_preprocess_takes_every_mode(mode: str) -> None:
    preprocess = load_model("squeezenet1_1", weights="random", num_classes=2).preprocess
    image = preprocess(left_dark(mode))
    assert image.shape == (3, 224, 224)
    assert image.dtype == torch.float32
    back = preprocess.invert(image)
    assert back[:, :, 150:].mean() > back[:, :, :80].mean() + 0.5
    assert (back.amax(0) - back.amin(0)).max() < 0.1  # grey stays grey


def test_preprocess_normalises_and_turns_upright() -> None:
    preprocess = load_model("squeezenet1_1", weights="random", num_classes=2).preprocess
    red = preprocess(Image.new("RGB", (50, 20), (255, 0, 0)))
    assert torch.allclose(red[:, 5, 5], torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]), atol=1e-5)
    turned = left_dark("RGB")
    turned.getexif()[0x0112] = 6  # to be shown turned clockwise by a quarter: dark above, bright below
    shown = preprocess.invert(preprocess(turned))
    assert shown[:, 150:].mean() > shown[:, :80].mean() + 0.5
    with pytest.raises(ValueError, match="preprocess takes a PIL image, not ndarray"):
        preprocess(np.zeros((4, 4, 3)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder; nothing may be downloaded."""
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    monkeypatch.setenv("CAMPANION_OFFLINE", "1")
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return torchvision.models.squeezenet1_1().state_dict()


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_weights_files(folder: Path, state: dict[str, torch.Tensor], form: str) -> None:
    path = folder / f"squeezenet1_1.{form}"
    halved = {k: v.half() for k, v in state.items()}
    if form == "npz":
        np.savez_compressed(path, **{k: v.numpy() for k, v in halved.items()})
    else:
        save_file(halved, path)
    for weights in ("auto", path, str(path)):
        model = load_model("squeezenet1_1", weights)
        assert all(torch.equal(v, halved[k].float()) for k, v in model.state_dict().items())
        assert model.weights["origin"] == path.name
        assert len(model.weights["sha256"]) == 64
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match=rf"Weights file .*squeezenet1_1\.{form} cannot be read"):
        load_model("squeezenet1_1")
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"Weights file squeezenet1_1\.{form} does not fit squeezenet1_0: "):
        load_model("squeezenet1_0", path)


def test_files_that_are_refused(folder: Path, state: dict[str, torch.Tensor]) -> None:
    pickled = folder / "squeezenet1_1.npz"
    np.savez(pickled, **{"features.0.weight": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match=r"squeezenet1_1\.npz cannot be read: .*allow_pickle"):
        load_model("squeezenet1_1")
    code = folder / "squeezenet1_1.pth"
    torch.save(state, code)
    with pytest.raises(ValueError, match=r"only \.npz and \.safetensors are read"):
        load_model("squeezenet1_1", code)
    other = folder / "other.safetensors"
    save_file({k: v for k, v in state.items() if k != "features.0.weight"}, other)
    with pytest.raises(ValueError, match=r"other\.safetensors does not fit squeezenet1_1: .*features\.0\.weight"):
        load_model("squeezenet1_1", other)
    save_file({**state, "classifier.1.bias": torch.zeros(10)}, other)
    with pytest.raises(ValueError, match=r"other\.safetensors does not fit .*: size mismatch for classifier\.1\.bias"):
        load_model("squeezenet1_1", other)
    small = torchvision.models.squeezenet1_1(num_classes=10)
    save_file(small.state_dict(), other)
    assert load_model("squeezenet1_1", other, num_classes=10).class_names[9] == "9"


def test_missing_weights_say_both_ways(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = r"fetch weights/resnet18` with a network connection, or put resnet18\.npz or resnet18\.safetensors there"
    with pytest.raises(MissingData, match=both):
        load_model("resnet18")
    with pytest.raises(MissingData, match=r"Weights file .*mine\.npz is not there"):
        load_model("resnet18", folder / "mine.npz")
    monkeypatch.delenv("CAMPANION_OFFLINE")
    for failure in (DownloadError("no route"), OSError("disk full")):

        def fail(*_: object, failure: Exception = failure) -> None:
            raise failure

        monkeypatch.setattr("campanion.data.weights.fetch_weights", fail)
        with pytest.raises(MissingData, match=rf"{both}.* The download failed: {failure}"):
            load_model("resnet18")


def test_scene_networks() -> None:
    for name in ("scenes_vgg", "scenes_resnet"):
        model = load_model(name, weights="random", seed=1)
        e = explain(model, model.preprocess(left_dark("RGB"))[None], methods="lift_cam")
        assert e.maps["lift_cam"].shape == (1, 64, 64)
        with pytest.raises(MissingData, match=rf"train {name}"):
            load_model(name, weights="nowhere.safetensors")


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "least"), [("resnet50", 25), ("resnet18", 25), ("squeezenet1_1", 21)])
def test_real_weights_classify_real_images(real_weights: Path, name: str, least: int) -> None:
    table = real_weights.parent / "imagenet-val" / "labels.csv"
    if not table.is_file() or not (real_weights / f"{name}.npz").is_file():
        pytest.skip(f"{real_weights.parent} lacks imagenet-val or weights/{name}.npz")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:40]
    model = load_model(name)
    assert isinstance(model.preprocess, load.Preprocess)
    images = [Image.open(table.parent / "images" / row["image"]) for row in rows]
    with torch.no_grad():
        found = torch.cat([model(model.preprocess(p)[None]) for p in images]).argmax(1)
    assert (found == torch.tensor([int(row["class_index"]) for row in rows])).sum() >= least


def test_a_run_that_has_the_name_of_a_network_of_torchvisions_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path))
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    monkeypatch.setenv("CAMPANION_OFFLINE", "1")
    (tmp_path / "training" / "resnet18").mkdir(parents=True)
    (tmp_path / "training" / "resnet18" / "resnet18.safetensors").touch()
    with pytest.raises(MissingData, match="No weights of resnet18"):
        load_model("resnet18")


def test_a_training_run_whose_card_alone_is_committed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPANION_OUT", str(tmp_path))
    name = "cats-dogs_resnet18_abn_lr0.0004_seed2_fine_tune"
    with pytest.raises(MissingData, match=f"grid --only {name} --run"):
        load_model(name)
    with pytest.raises(ValueError, match=f"Unknown model '{name}'"):  # random weights need none
        load_model(name, weights="random")

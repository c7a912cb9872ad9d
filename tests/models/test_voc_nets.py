"""The VOC classifiers: their heads' kinds and values, their files, and the training of a head on kept maps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from campanion import load_model, paths
from campanion.__main__ import main
from campanion.data import Object
from campanion.data.voc import CLASS_NAMES
from campanion.errors import MissingData
from campanion.game.game import ChannelGame
from campanion.models.load import load_trunk
from campanion.models.voc_nets import VOC_NETS, build_voc_net
from campanion.training import fit
from campanion.training.features import features, view_of
from campanion.training.voc import HEADS, average_precision, evaluate, run, target_of
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

KINDS = {"voc_vgg16": "mlp", "voc_mlp": "mlp", "voc_linear": "linear"}


@pytest.mark.parametrize("name", VOC_NETS)
def test_the_heads_kind_and_its_masked_values(name: str) -> None:
    model = load_model(name, weights="random", seed=2)
    assert (model.activation, model.class_names) == ("sigmoid", list(CLASS_NAMES))
    layer = model.get_submodule(VOC_NETS[name].layer)
    assert layer is model.get_submodule(model.target_layer)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    game = ChannelGame.of(model, images)
    assert game.head.kind == KINDS[name]
    assert game.activations.shape == ((1, 512, 14, 14) if name == "voc_vgg16" else (1, 512, 7, 7))
    coalitions = torch.rand(3, 512, generator=torch.Generator().manual_seed(1)) < 0.5
    found = game.value(coalitions, 14)[0]
    for present, value in zip(coalitions, found, strict=True):

        def switch(_module: object, _inputs: object, maps: torch.Tensor, present: torch.Tensor = present):
            return maps * present[None, :, None, None]

        handle = layer.register_forward_hook(switch)
        with torch.no_grad():
            naive = model(images)[0, 14]
        handle.remove()
        assert torch.allclose(value, naive, atol=1e-5)


def test_layers_are_torchvisions_and_other_sizes_go_in() -> None:
    plain = torchvision.models.resnet18(num_classes=20).state_dict()
    assert set(build_voc_net("voc_linear").state_dict()) == set(plain)
    net = build_voc_net("voc_mlp", dropout=0.2)
    assert {k for k in net.state_dict() if not k.startswith("fc.")} == {k for k in plain if not k.startswith("fc.")}
    assert [m.p for m in net.fc if isinstance(m, torch.nn.Dropout)] == [0.2, 0.2]
    assert 2 * sum(p.numel() for p in net.fc.parameters()) < 10e6  # bytes in float16
    assert net.eval()(torch.zeros(1, 3, 96, 64)).shape == (1, 20)


def test_names_and_other_activations() -> None:
    for make in (load_model, build_voc_net):
        with pytest.raises(ValueError, match=r"Unknown model 'voc_ml'\. Did you mean 'voc_mlp'"):
            make("voc_ml")
    assert load_model("scenes_vgg", weights="random").activation == "softmax"
    assert load_model("squeezenet1_1", weights="random", num_classes=3).activation == "softmax"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: 24 train and 20 val images, and random weights of the trunk."""
    root = tmp_path_factory.mktemp("data")
    (root / "voc2007" / "JPEGImages").mkdir(parents=True)
    noise = np.random.default_rng(0)
    rows = []
    for i in range(44):
        pixels = noise.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "voc2007" / "JPEGImages" / f"{i:06d}.jpg")
        objects = [{"name": CLASS_NAMES[k % 20], "box_xyxy": [0, 0, 9, 9]} for k in (i, 3 * i + 1)]
        rows.append({"image": f"{i:06d}.jpg", "split": "train" if i < 24 else "val", "width": 32, "height": 24,
                     "objects": objects, "difficult_only": [CLASS_NAMES[i % 20]] if i % 4 == 0 else []})  # fmt: skip
    (root / "voc2007" / "annotations.json").write_text(json.dumps(rows))
    (root / "weights").mkdir()
    torch.manual_seed(0)
    save_file(torchvision.models.resnet18().state_dict(), root / "weights" / "resnet18.safetensors")
    features = {k: v for k, v in build_voc_net("voc_vgg16").state_dict().items() if k.startswith("features.")}
    save_file(features, root / "weights" / "vgg16_features.safetensors")
    return root


@pytest.fixture
def folder(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for checkpoints, beside the small data folder."""
    monkeypatch.setenv("CAMPANION_DATA", str(small))
    monkeypatch.setenv("CAMPANION_OUT", str(small / "out"))  # the maps are made once
    monkeypatch.setenv("CAMPANION_OFFLINE", "1")
    return tmp_path / "checkpoints"


@pytest.mark.filterwarnings("ignore:No positive samples")
@pytest.mark.parametrize("head", HEADS)
def test_training_writes_a_head_that_loads(
    folder: Path, small: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"voc_{head}", f"folder={folder}", "limit=20", "epochs=2"]) == 0
    assert "mAP" in capsys.readouterr().out
    name = f"voc_{head}"
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.json", f"{name}.md", f"{name}.safetensors"]
    state, facts = load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())
    parts = VOC_NETS[name]
    assert all(key.startswith(parts.head) and value.dtype == torch.float16 for key, value in state.items())
    model = load_model(name, weights=folder / f"{name}.safetensors")
    assert all(torch.equal(model.state_dict()[key], value.float()) for key, value in state.items())
    trunk = load_trunk(name)
    assert trunk.weights["name"] == parts.trunk
    kept = load_file(small / "weights" / f"{parts.trunk}.safetensors")
    assert all(torch.equal(model.state_dict()[key], kept[key]) for key in kept if not key.startswith(parts.head))
    assert facts["trunk"]["sha256"] == trunk.weights["sha256"]
    assert model.weights["origin"] == f"{name}.safetensors on {parts.trunk}.safetensors"
    assert len({model.weights["sha256"], facts["sha256"], trunk.weights["sha256"]}) == 3
    ((card, measured),) = facts["accuracy"].items()
    assert card.startswith("Pascal VOC 2007 val")
    assert measured["n"] == 20
    assert f"{measured['mAP']:.3f}" in (folder / f"{name}.md").read_text()
    assert not list((small / "out" / "training").iterdir())
    before = (folder / f"{name}.safetensors").read_bytes()
    run(head, folder, limit=20, epochs=2)
    assert (folder / f"{name}.safetensors").read_bytes() == before
    run(head, folder, limit=20, epochs=2, seed=1)
    assert (folder / f"{name}.safetensors").read_bytes() != before


@pytest.mark.filterwarnings("ignore:No positive samples")
def test_a_stopped_head_resumes_and_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run("mlp", folder, limit=20, epochs=3)
    kept, saved = fit.save_state, []

    def stop(*arguments: object) -> None:
        kept(*arguments)
        saved.append(arguments)
        if len(saved) == 5:  # the second epoch on the maps themselves
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        run("mlp", tmp_path, limit=20, epochs=3)
    monkeypatch.setattr(fit, "save_state", kept)
    capsys.readouterr()
    assert run("mlp", tmp_path, limit=20, epochs=3)["sha256"] == whole["sha256"]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch 3"]


def test_bad_requests(folder: Path, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown head 'linaer'\. Did you mean 'linear'"):
        run("linaer", folder)
    for wrong in ({"limit": 19}, {"epochs": 0}):
        with pytest.raises(ValueError, match="20 images and one epoch"):
            run("mlp", folder, **wrong)
    with pytest.raises(MissingData, match="train voc_mlp"):
        load_model("voc_mlp", weights=tmp_path / "none.safetensors")
    os.symlink(small / "voc2007", tmp_path / "voc2007")
    monkeypatch.setenv("CAMPANION_DATA", str(tmp_path))
    head = tmp_path / "head.safetensors"
    save_file({"fc.weight": torch.zeros(20, 512), "fc.bias": torch.zeros(20)}, head)
    for wants_trunk in (lambda: load_model("voc_linear", weights=head), lambda: run("linear", folder)):
        with pytest.raises(MissingData, match=r"No weights of resnet18 .*fetch weights/resnet18`"):
            wants_trunk()
    with pytest.raises(MissingData, match=r"vgg16_features .*fetch weights/vgg16`.*put vgg16_features\.npz or"):
        run("vgg16", folder)
    assert not folder.exists()
    features = load_file(small / "weights" / "vgg16_features.safetensors")
    (tmp_path / "weights").mkdir()
    save_file(features | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "weights" / "vgg16.safetensors")
    trunk = load_trunk("voc_vgg16")
    assert trunk.weights["origin"] == "vgg16.safetensors"
    assert all(torch.equal(trunk.state_dict()[key], value) for key, value in features.items())
    monkeypatch.setenv("CAMPANION_DATA", str(small))
    with pytest.raises(ValueError, match=r"head\.safetensors on resnet18\.safetensors does not fit voc_mlp"):
        load_model("voc_mlp", weights=head)


def test_classes_seen_only_in_difficult_objects_are_ignored() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    target = target_of((Object(3, box), Object(3, box, difficult=True), Object(5, box, difficult=True)))
    assert target[[3, 5]].tolist() == [1, -1]
    assert target.sum() == 0
    assert not target_of(()).any()


def test_average_precision_is_the_mean_precision_at_each_positive_without_the_ignored() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 4, generator=generator)
    targets = torch.randint(-1, 2, (60, 4), generator=generator)
    targets[:, 3] = 0  # no positive: not defined
    found = average_precision(logits, targets)
    for k in range(3):
        counted = targets[:, k] >= 0
        ranked = targets[counted, k][logits[counted, k].argsort(descending=True)]
        precision = [float(ranked[: i + 1].float().mean()) for i in range(len(ranked)) if ranked[i] == 1]
        assert float(found[k]) == pytest.approx(sum(precision) / len(precision), abs=1e-6)
    assert found[3].isnan()


def test_views() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    assert view_of(image, "whole", 0) is image
    assert view_of(image, "mirrored", 0).tobytes() == ImageOps.mirror(image).tobytes()
    crops = [view_of(image, "crop 1", seed) for seed in range(50)]
    assert len({crop.size for crop in crops}) > 20
    assert all(0.4 < crop.width * crop.height / 1200 <= 1 for crop in crops)
    assert view_of(image, "crop 1", 7).tobytes() == crops[7].tobytes()


def test_maps_are_the_networks_and_are_kept(folder: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from campanion.data import open_dataset

    trunk, data = load_model("resnet18"), open_dataset("voc2007", split="train")
    monkeypatch.setenv("CAMPANION_OUT", str(folder))
    (maps,) = features(trunk, data, [2, 5], ["whole"], "cpu")
    game = ChannelGame.of(trunk, trunk.preprocess(data[5].image)[None])
    assert maps.dtype == np.float16
    assert torch.allclose(torch.tensor(maps[1]).float(), game.activations[0], atol=1e-2, rtol=1e-2)
    monkeypatch.setattr(type(data), "__getitem__", lambda *_: pytest.fail("the maps are kept"))
    (again,) = features(trunk, data, [2, 5], ["whole"], "cpu")
    assert np.array_equal(again, maps)


@pytest.mark.real_data
@pytest.mark.parametrize("name", VOC_NETS)
def test_the_committed_heads_classify_real_images(real_weights: Path, name: str) -> None:
    from campanion.data import open_dataset

    trunk = f"{VOC_NETS[name].trunk}.npz"
    if not (paths.data_dir() / "voc2007").is_dir() or not (real_weights / trunk).is_file():
        pytest.skip(f"{real_weights.parent} lacks voc2007 or weights/{trunk}")
    data = open_dataset("voc2007", split="val")
    assert evaluate(load_model(name), data, data.order()[:60], "cpu")["mAP"] > 0.6

"""``build_model``: the paper's sizes as printed, what it refuses, and the protocol that training relies on."""

from __future__ import annotations

import pytest
import torch
from campanion import explain
from campanion.models import build_model
from campanion.models.network import Objective
from campanion.report.papers import published
from nets import random_images
from torch.nn import functional as F

KINDS = [(None, "paper"), ("abn", "paper"), ("lfi", "paper"), ("lfi", "published"), ("lfi", "table3")]
# The column of plain networks counts another stem and another number of classes than the other two.
TABLE3 = {
    "plain": {"stem": "cifar", "num_classes": 10},
    "abn": {"attention": "abn"},
    "lfi_cam": {"attention": "lfi", "generation": "table3"},
}


def test_all_fifteen_sizes_of_table3_as_printed() -> None:
    table = published("lfi", "table3")
    printed = table[table.metric == "parameters"]
    assert len(printed) == 15
    for row in printed.itertuples():
        with torch.device("meta"):
            network = build_model(row.model, **TABLE3[row.method])
        size = sum(p.numel() for p in network.parameters()) / 1e6
        # ResNet50 is printed with two digits swapped; 43.585 and 62.577 are cut, not rounded
        value = 23.52 if (row.model, row.method) == ("resnet50", "plain") else float(row.value)
        assert size == pytest.approx(value, abs=0.0055), row
    plain = {n: 1e-6 * sum(p.numel() for p in _meta(n, stem="cifar", num_classes=10).parameters()) for n in
             ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")}  # fmt: skip
    assert [round(size, 3) for size in plain.values()] == [11.174, 21.282, 23.521, 42.513, 58.157]


def _meta(*args: object, **more: object) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(*args, **more)


@pytest.mark.parametrize(("attention", "generation"), KINDS)
def test_protocol(attention: str | None, generation: str) -> None:
    network = build_model("resnet20", attention, generation, num_classes=5, class_names=list("abcde"))
    assert network.training
    assert network.class_names == list("abcde")
    assert (network.preprocess.size, network.preprocess.mean[0]) == (32, 0.4914)
    assert network.weights["origin"] == "random, seed 0"
    images, targets = random_images(4, 16, dtype=torch.float32), torch.tensor([0, 1, 2, 3])
    loss, logits = network.loss(images, targets)
    assert loss.shape == ()
    assert logits.shape == (4, 5)
    single = network.loss(images, F.one_hot(targets, 5).float())[0]  # probabilities as targets
    torch.testing.assert_close(loss, single, rtol=1e-4, atol=1e-4)
    network.eval()
    with torch.no_grad():
        wrapped = Objective(network)(images, targets)
        torch.testing.assert_close(wrapped[1], network(images))
        torch.testing.assert_close(wrapped[0], network.loss(images, targets)[0])
        if attention:
            logits, attended = network.forward_with_map(images)
            torch.testing.assert_close(logits, network(images))
            torch.testing.assert_close(attended, network.attention_map(images))
            assert 0 <= attended.amin() <= attended.amax() <= 1


def test_attributes_by_stem() -> None:
    network = _meta("resnet18")
    assert (network.preprocess.size, network.preprocess.mean[0], network.target_layer) == (224, 0.485, "layer4")
    assert len(network.class_names) == 1000
    assert _meta("resnet18", "abn").target_layer == "backbone.layer4"
    assert _meta("resnet18", "lfi").target_layer == "attended"
    small = _meta("resnet18", stem="cifar", num_classes=10)
    assert (small.preprocess.size, small.target_layer, small.maxpool(3)) == (32, "layer4", 3)
    custom = _meta("resnet18", "lfi", preprocess=small.preprocess)
    assert custom.preprocess is small.preprocess


@pytest.mark.parametrize(("attention", "generation"), KINDS)
def test_state_dict_and_seed(attention: str | None, generation: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    one, same, other = (build_model("resnet20", attention, generation, num_classes=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)  # the global generator is not touched
    state = one.state_dict()
    assert all(torch.equal(state[k], v) for k, v in same.state_dict().items())
    images = random_images(2, 16, dtype=torch.float32)
    with torch.no_grad():
        one(images)  # moves the running statistics of the batch norms
        before = one.eval()(images)
        assert not torch.equal(other.eval()(images), before)
        other.load_state_dict(one.state_dict())
        assert torch.equal(other(images), before)


@pytest.mark.parametrize(("attention", "generation"), KINDS)
def test_compiles_as_one_graph(attention: str | None, generation: str) -> None:
    objective = Objective(build_model("resnet20", attention, generation, num_classes=5))
    images, targets = random_images(2, 16, dtype=torch.float32), torch.tensor([0, 1])
    loss, logits = torch.compile(objective, backend="eager", fullgraph=True)(images, targets)
    loss.backward()
    expected = build_model("resnet20", attention, generation, num_classes=5).loss(images, targets)
    torch.testing.assert_close(loss, expected[0])
    torch.testing.assert_close(logits, expected[1])


@pytest.mark.parametrize("name", ["densenet100", "resnext29_8x64d", "seresnet20"])
@pytest.mark.parametrize("attention", [None, "abn"])
def test_other_backbones_train_and_explain(name: str, attention: str | None) -> None:
    network = build_model(name, attention, num_classes=3)
    images = random_images(2, 8, dtype=torch.float32)
    network.loss(images, torch.tensor([0, 1]))[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    e = explain(network, images, methods=("grad_cam", "lift_cam", *([attention] if attention else [])))
    assert all(maps.isfinite().all() for maps in e.maps.values())


@pytest.mark.parametrize("name", ["densenet100", "seresnet20"])
def test_lfi_on_other_backbones(name: str) -> None:
    network = build_model(name, "lfi", num_classes=3)
    images = random_images(2, 8, dtype=torch.float32)
    network.loss(images, torch.tensor([0, 1]))[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    e = explain(network, images, methods=("grad_cam", "lift_cam", "lfi_cam"))
    assert all(maps.isfinite().all() for maps in e.maps.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet17"}, r"Unknown architecture 'resnet17'\. Did you mean"),
        ({"attention": "cbam"}, "attention must be one of None, 'abn', 'lfi', not 'cbam'"),
        ({"generation": "v2"}, "generation must be one of 'paper', 'published', 'table3', not 'v2'"),
        ({"stem": "stl"}, "stem must be one of"),
        ({"block": "wide"}, "block must be one of"),
        ({"block": "basic"}, "resnet18 has one form"),
        ({"name": "resnet20", "stem": "imagenet"}, "CIFAR stem only: pass stem='cifar'"),
        ({"name": "densenet121", "attention": "lfi", "generation": "table3"}, "densenet121 has none"),
        ({"num_classes": 0}, "num_classes must be a positive integer, not 0"),
        ({"num_classes": 3, "class_names": ["a"]}, "class_names has 1 names for 3 classes"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(**{"name": "resnet18", **options})

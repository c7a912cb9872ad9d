"""ABN: sizes, the attention branch and both losses against plain formulas, gradients, CAMs on its main path."""

from __future__ import annotations

import pytest
import torch
from campanion import explain
from campanion.game.game import ChannelGame
from campanion.models import build_model
from campanion.models.abn import ABN
from nets import masked_logits, random_images
from torch import Tensor, nn
from torch.nn import functional as F

# Millions of parameters with 1000 classes (the paper's Table 3, to three decimals)
SIZES = {"resnet18": 21.607, "resnet34": 36.436, "resnet50": 43.585, "resnet101": 62.577, "resnet152": 78.221}


def millions(*args: object, **more: object) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(*args, **more).parameters()) / 1e6


def tiny() -> ABN:
    """ResNet20 with 5 classes and batch norms that have seen images, in eval mode."""
    network = build_model("resnet20", "abn", num_classes=5, seed=2).double()
    with torch.no_grad():
        for seed in range(4):
            network(random_images(8, 16, seed))
    return network.eval()


def test_sizes() -> None:
    assert {name: round(millions(name, "abn"), 3) for name in SIZES} == SIZES
    assert round(millions("resnet110", "abn", stem="cifar", num_classes=10), 4) == 2.9997


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    x = (x - layer.running_mean[:, None, None]) / (layer.running_var[:, None, None] + 1e-5).sqrt()
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def test_equal_to_plain_formulas() -> None:
    network, images, targets = tiny(), random_images(3, 16), torch.tensor([4, 0, 2])
    branch, backbone = network.branch, network.backbone
    with torch.no_grad():
        early = backbone.early(images)
        assert early.shape == (3, 32, 8, 8)
        stage = norm(branch.stage(early), branch.norm)
        classes = norm(torch.einsum("ck,bkhw->bchw", branch.to_classes.weight[:, :, 0, 0], stage), branch.norm_classes)
        classes = classes.clamp_min(0)
        attention = 1 / (1 + (-norm(F.conv2d(classes, branch.to_map.weight, padding=1), branch.norm_map)).exp())
        own = torch.einsum("dc,bchw->bdhw", branch.to_logits.weight[:, :, 0, 0], classes).mean((2, 3))
        logits = backbone.fc(backbone.layer3(early * attention + early).mean((2, 3)))
        expected = -(own.log_softmax(1) + logits.log_softmax(1))[range(3), targets].mean()

        loss, found = network.loss(images, targets)
        torch.testing.assert_close(found, logits)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(network(images), logits)
        torch.testing.assert_close(network.attention_map(images), attention[:, 0])
        torch.testing.assert_close(network.forward_with_map(images)[0], logits)
        torch.testing.assert_close(sum(network.losses(images, targets)[:2]), expected)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_both_losses_reach_every_parameter(bfloat16: bool) -> None:
    network = build_model("resnet20", "abn", num_classes=5)
    images, targets = random_images(4, 16, dtype=torch.float32), torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        attention, perception, _ = network.losses(images, targets)
    for part, without in ((attention, {"backbone.layer3", "backbone.fc", "branch.to_map"}), (perception, set())):
        network.zero_grad(set_to_none=True)
        part.backward(retain_graph=True)
        reached = {n for n, p in network.named_parameters() if p.grad is not None}
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        assert not any(n.startswith(tuple(without)) for n in reached if without)
    assert not any(n.startswith("branch.to_logits") for n in reached)  # the second loss alone
    network.zero_grad(set_to_none=True)
    (attention + perception).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "stem", "side"),
    [("resnet18", "imagenet", 14), ("densenet121", "imagenet", 7), ("resnet44", "cifar", 16),
     ("resnext29_8x64d", "cifar", 16), ("densenet100", "cifar", 8)],
)  # fmt: skip
def test_size_of_the_map(name: str, stem: str, side: int) -> None:
    with torch.device("meta"):
        network = build_model(name, "abn", stem=stem)
        logits, attention = network.forward_with_map(torch.zeros(2, 3, *(2 * [224 if stem == "imagenet" else 32])))
    assert (logits.shape, attention.shape) == ((2, 1000), (2, side, side))


def test_the_learned_map_is_explained() -> None:
    network, images = tiny(), random_images(2, 16)
    e = explain(network, images, methods="abn")
    with torch.no_grad():
        torch.testing.assert_close(e.raw["abn"], network.attention_map(images))
    assert e.maps["abn"].shape == (2, 16, 16)
    plain = build_model("resnet20", num_classes=5).double()
    with pytest.raises(ValueError, match=r"abn needs .*attention='abn'.*ResNet has none\.$"):
        explain(plain, images, methods="abn")


def test_every_other_cam() -> None:
    network, images = tiny(), random_images(2, 16)
    methods = ("cam", "grad_cam", "layer_cam", "score_cam", "ablation_cam", "lift_cam", "fd_cam", "lrp_cam")
    e = explain(network, images, methods=methods)
    for name in methods:
        assert e.maps[name].isfinite().all(), name
        assert not e.degenerate[name].any(), name


@pytest.mark.parametrize(("layer", "kind"), [(None, "linear"), ("backbone.layer2", "generic")])
def test_the_game(layer: str | None, kind: str) -> None:
    """At the maps that the attention multiplies, a coalition changes the attention too."""
    network, images = tiny(), random_images(2, 16)
    game = ChannelGame.of(network, images, layer)
    assert game.head.kind == kind
    rows = torch.rand(6, game.channels, generator=torch.Generator().manual_seed(0)) < 0.5
    values = game.value(rows, 1)
    for b, image in enumerate(images):
        expected = masked_logits(network, image, rows, layer or network.target_layer)[:, 1]
        torch.testing.assert_close(values[b], expected)
    if layer:
        e = explain(network, images, methods=("grad_cam", "ablation_cam", "fd_cam"), layer=layer)
        assert all(maps.isfinite().all() for maps in e.maps.values())

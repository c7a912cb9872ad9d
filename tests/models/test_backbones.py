"""The plain networks: torchvision's names and logits, the literature's sizes, maps of the right size."""

from __future__ import annotations

import pytest
import torch
import torchvision
from campanion.models import build_model
from campanion.models.build import ARCHITECTURES


def millions(*args: object, **more: object) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(*args, **more).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet18", "resnet18"), ("resnet34", "resnet34"), ("resnet50", "resnet50"), ("resnet101", "resnet101"),
        ("resnet152", "resnet152"), ("resnext50", "resnext50_32x4d"), ("densenet121", "densenet121"),
    ],
)  # fmt: skip
def test_parameters_are_named_as_in_torchvision(name: str, theirs: str) -> None:
    with torch.device("meta"):
        ours = build_model(name).state_dict()
        expected = torchvision.models.get_model(theirs).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("densenet121", 40)])
def test_logits_with_torchvisions_weights_are_torchvisions(name: str, size: int) -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name, num_classes=7).eval()
    ours = build_model(name, num_classes=7).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


# Millions of parameters as the articles print them; He et al.'s shortcuts have no convolution, which is 0.003 to 0.005.
@pytest.mark.parametrize(
    ("name", "options", "printed", "tolerance"),
    [
        ("resnet20", {}, 0.27, 0.006),
        ("resnet32", {}, 0.46, 0.008),
        ("resnet44", {"block": "basic"}, 0.66, 0.006),
        ("resnet56", {"block": "basic"}, 0.85, 0.006),
        ("resnet110", {"block": "basic"}, 1.73, 0.006),
        ("resnext29_8x64d", {}, 34.4, 0.05),
        ("resnext29_16x64d", {}, 68.1, 0.06),
        ("densenet100", {}, 0.77, 0.005),
        ("seresnet50", {"num_classes": 1000}, 28.1, 0.05),
    ],
)
def test_sizes_are_those_of_the_literature(name: str, options: dict, printed: float, tolerance: float) -> None:
    assert millions(name, **{"num_classes": 10, **options}) == pytest.approx(printed, abs=tolerance)


def test_resnet110_of_the_authors_is_a_network_of_164_convolutions() -> None:
    with torch.device("meta"):
        network = build_model("resnet110", num_classes=10)
    convolutions = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d) and "downsample" not in n]
    assert len(convolutions) + 1 == 164  # and the linear layer
    assert round(millions("resnet110", num_classes=10), 3) == 1.704
    assert millions("resnet110", num_classes=10, block="basic") != millions("resnet110", num_classes=10)
    assert millions("resnet20", num_classes=10) == millions("resnet20", num_classes=10, block="basic")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("resnet18", None), ("resnext50", None), ("densenet121", None), ("resnet18", "cifar"), ("densenet121", "cifar"),
        ("resnet20", None), ("resnet44", None), ("seresnet20", None), ("seresnet44", None), ("resnext29_8x64d", None),
        ("densenet100", None),
    ],
)  # fmt: skip
def test_the_pieces_make_the_whole(name: str, stem: str | None) -> None:
    with torch.device("meta"):
        network = build_model(name, stem=stem, num_classes=10)
        images = torch.zeros(2, 3, *(2 * [64 if network.stem == "imagenet" else 16]))
        early = network.early(images)
        maps = network.late(early)
        assert early.shape[1] == network.early_channels
        assert network.branch_stage()(early).shape == (2, network.channels, *early.shape[2:])
        assert maps.shape == (2, network.channels, *(2 * [2 if maps.shape[2] == 2 else 4]))
        assert network.classify(maps).shape == network(images).shape == (2, 10)
        seen = []
        network.get_submodule(network.target_layer).register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
        network(images)
    assert seen == [maps.shape]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_builds(name: str) -> None:
    with torch.device("meta"):
        assert build_model(name, num_classes=4).num_classes == 4


def test_squeeze_and_excitation_scales_channels_before_the_sum() -> None:
    network = build_model("seresnet20", num_classes=4).eval().double()
    block = network.layer1[0]
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64).relu()
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    squeezed = branch.mean((2, 3))
    hidden = (squeezed @ block.se.fc1.weight.flatten(1).T + block.se.fc1.bias).relu()
    scale = (hidden @ block.se.fc2.weight.flatten(1).T + block.se.fc2.bias).sigmoid()
    torch.testing.assert_close(block(x), (branch * scale[:, :, None, None] + x).relu())

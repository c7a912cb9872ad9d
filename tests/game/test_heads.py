"""Heads by their form: what is recognised, what is not, and the rescale multipliers."""

from __future__ import annotations

import pytest
import torch
from campanion.game.game import ChannelGame
from campanion.game.heads import GenericHead, LinearFirstHead
from campanion.game.steps import Reduced
from nets import CLASSES, Net, all_coalitions, masked_logits, net, random_images
from torch import nn
from torch.nn import functional as F

POOLED = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Written(Net):
    """A linear head written in one of the many ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.fc = way, nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.target(self.stem(x))
        ways = {
            "mean": lambda: x.mean((2, 3)),
            "mean_list": lambda: x.mean([-1, -2]),
            "torch_mean": lambda: torch.mean(x, dim=(2, 3)),
            "keepdim": lambda: x.mean((2, 3), keepdim=True).flatten(1),
            "functional": lambda: torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1),
            "method": lambda: F.adaptive_avg_pool2d(x, output_size=1).flatten(1),
            "reshape": lambda: F.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1),
            "size": lambda: F.adaptive_avg_pool2d(x, 1).view(x.size()[0], -1),
            "width": lambda: F.adaptive_avg_pool2d(x, 1).view(x.size(0), 8),
            "in_place": lambda: x.sub_(0.2).mean((2, 3)),
            "relu": lambda: F.relu(x, inplace=True).relu_().mean((2, 3)),
        }
        return self.fc(ways[self.way]())


@pytest.mark.parametrize(
    "way",
    [
        "mean", "mean_list", "torch_mean", "keepdim", "functional", "method", "reshape", "size", "width", "in_place",
        "relu",
    ],
)  # fmt: skip
def test_the_same_head_written_differently(way: str) -> None:
    model, images = Written(way).double().eval(), random_images()
    game = ChannelGame.of(model, images)
    assert game.head.kind == "linear"
    assert game.head.module is not None
    assert torch.equal(game.activations, model.target(model.stem(images)))
    weight = model.fc.weight[1][None, :, None, None] / 36
    expected = weight * (game.activations > 0) if way == "relu" else weight
    assert torch.allclose(game.gradient(1), expected.expand(2, 8, 6, 6), atol=1e-12)
    rows = all_coalitions()[::51]
    assert torch.allclose(game.value(rows, 1)[0], masked_logits(model, images[0], rows)[:, 1], atol=1e-12)


class Copies(nn.Module):
    """The same numbers, side by side and in a memory of their own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous().clone()


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        ((Copies(), *POOLED, nn.Linear(8, CLASSES), Copies()), "linear"),
        ((*POOLED, nn.Linear(8, 6), Copies(), nn.ReLU(), nn.Linear(6, CLASSES), Copies()), "mlp"),
        ((Reduced("mean", (2, 3), False), nn.ReLU(), nn.Linear(8, CLASSES)), "linear"),
        ((nn.Flatten(), nn.ReLU6(), nn.Dropout(), nn.Linear(288, CLASSES)), "linear"),
        ((*POOLED, nn.Linear(8, 6), nn.Hardswish(), nn.Dropout(), nn.Linear(6, CLASSES)), "mlp"),
        ((*POOLED, nn.Linear(8, 6), nn.Linear(6, CLASSES, bias=False)), "mlp"),
        ((nn.MaxPool2d(2), nn.Conv2d(8, CLASSES, 1), *POOLED), "pixel"),
        ((nn.Conv2d(8, CLASSES, 1), nn.ReLU(), Reduced("mean", (2, 3), False)), "pixel"),
        # What is linear in the channels no longer, or mixes them first:
        ((nn.Conv2d(8, CLASSES, 3), *POOLED), "generic"),
        ((nn.Conv2d(8, CLASSES, 1, stride=2), *POOLED), "generic"),
        ((nn.Conv2d(8, 10, 1, groups=2), *POOLED), "generic"),
        ((nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, CLASSES, 1), *POOLED), "generic"),
        ((nn.Conv2d(8, 6, 1), *POOLED, nn.Linear(6, CLASSES)), "generic"),
        ((nn.Softmax(1), *POOLED, nn.Linear(8, CLASSES)), "generic"),
        ((nn.LocalResponseNorm(2), *POOLED, nn.Linear(8, CLASSES)), "generic"),
        ((*POOLED, nn.Linear(8, CLASSES), nn.Sigmoid()), "generic"),
        ((*POOLED, nn.LayerNorm(8), nn.Linear(8, CLASSES)), "generic"),
        ((nn.Flatten(2), nn.Linear(36, 1), nn.Flatten(1), nn.Linear(8, CLASSES)), "generic"),
        (POOLED, "generic"),
    ],
)
def test_forms(tail: tuple[nn.Module, ...], kind: str) -> None:
    torch.manual_seed(0)
    model, images = Net(*tail).double().eval(), random_images()
    game = ChannelGame.of(model, images)
    assert game.head.kind == kind
    assert isinstance(game.head, GenericHead if kind == "generic" else LinearFirstHead)
    rows = all_coalitions()[::51]
    assert torch.allclose(game.value(rows, 1)[1], masked_logits(model, images[1], rows)[:, 1], atol=1e-12)
    assert torch.allclose(game.head(game.activations), model(images), atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "linear_norm", "mlp", "mlp_norm", "pixel", "pixel_norm"])
def test_multipliers_sum_to_the_difference(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    target = torch.tensor([0, 3])
    each, offset = game.contributions(target)
    z = offset + each.sum(1)
    multipliers = game.head.multipliers(z, offset, target)
    difference = game.score(target) - game.value(torch.zeros(1, 8), target)[:, 0]
    assert torch.allclose((multipliers * (z - offset)).sum(1), difference, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp_norm", "pixel_norm"])
def test_multipliers_are_derivatives_where_nothing_changes(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    target = torch.tensor([0, 3])
    _, offset = game.contributions(target)
    offset = offset.detach().clone().requires_grad_(True)
    value = game.head.finish(offset.unsqueeze(1), target).sum()
    (derivative,) = torch.autograd.grad(value, offset)
    same = game.head.multipliers(offset.detach(), offset.detach(), target)
    assert torch.allclose(same, derivative, atol=1e-12)
    nearly = game.head.multipliers(offset.detach() + 1e-6, offset.detach(), target)
    assert torch.allclose(nearly, derivative, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "linear_norm", "mlp", "mlp_norm", "pixel", "pixel_norm"])
def test_one_classs_gradient_is_the_whole_heads(name: str) -> None:
    model, images, target = net(name), random_images(), torch.tensor([2, 0])
    game = ChannelGame.of(model, images)
    assert isinstance(game.head, LinearFirstHead)
    activations = game.activations.clone().requires_grad_(True)
    whole = game.head(activations).gather(1, target[:, None]).squeeze(1)
    (expected,) = torch.autograd.grad(whole.sum(), activations)
    assert torch.allclose(game.gradient(target), expected, atol=1e-12)

"""Heads that no record stands for: chains start at the layer, replays of the whole network are announced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from campanion import explain
from campanion.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, all_coalitions, masked_logits, random_images
from torch import Tensor, nn


class Branch(nn.Module):
    """Its code depends on a number, so that no record stands for it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.detach().sum()) > 3 else self.layer(2 * x)


def parts() -> tuple[nn.Module, ...]:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2), nn.ReLU())
    return stem, Branch(nn.Conv2d(40, 8, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)


class Own(nn.Module):
    """The same network with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, *rest = parts()
        self.rest = nn.Sequential(*rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.branch(self.stem(x)))


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def masked(net: nn.Module, layer: str, image: Tensor, row: Tensor) -> Tensor:
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, out: out * row[:, None, None])
    with torch.no_grad():
        logits = net(image[None])
    handle.remove()
    return logits[0, 1]


def count(net: nn.Module, layer: str) -> list[int]:
    seen = []
    net.get_submodule(layer).register_forward_hook(lambda _m, _i, out: seen.append(len(out)))
    return seen


def test_a_chain_runs_from_the_layer_on(caplog):
    for net, layer in ((nn.Sequential(*parts()).eval(), "0"), (nn.Sequential(*parts()).eval(), "0.1")):
        rows = torch.eye(40)[:6]
        expected = torch.stack([masked(net, layer, X[0], row) for row in rows])
        seen = count(net, "0.0")
        game = ChannelGame.of(net, X[:1], layer)
        assert torch.allclose(game.value(rows, 1)[0], expected, atol=1e-5)
        explain(net, X[:1], 1, ("ablation_cam", "fd_cam", "lime_cam"), layer)
        assert not caplog.messages
        assert sum(seen) <= 12  # two forward passes and what their heads are compared with; not one for each coalition


def test_replays_of_the_whole_network_are_announced_once_with_their_number(caplog):
    net = Own().eval()
    rows = (torch.rand(8, 40, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    expected = torch.stack([masked(net, "stem", X[0], row) for row in rows])
    assert torch.allclose(ChannelGame.of(net, X[:1], "stem").value(rows, 1)[0], expected, atol=1e-5)
    explain(net, X[:1], 1, ("grad_cam", "layer_cam"), "stem")  # a few passes are not worth a word
    assert not caplog.messages
    explain(net, X, 1, ("fd_cam", "ablation_cam"), "stem")
    assert ["160 forward passes" in said for said in caplog.messages] == [True]
    ChannelGame.of(net, X[:1], "stem").shapley(1, orderings=200)
    assert "8,200 forward passes" in caplog.messages[-1]


class Exits(Net):
    """``how`` it answers depends on numbers of the maps: an early exit, or a factor."""

    def __init__(self, how: Callable[[Exits, Tensor], Tensor]) -> None:
        super().__init__()
        self.exit, self.conv, self.fc = nn.Linear(CHANNELS, CLASSES), nn.Conv2d(CHANNELS, 6, 3), nn.Linear(6, CLASSES)
        self.exit.weight.data.mul_(12)
        self.how = how

    def late(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, self.target(self.stem(x)))


def sure(net: Exits, x: Tensor) -> Tensor:
    early = net.exit(x.mean((2, 3)))
    return early if early.softmax(1).max() > 0.6 else net.late(x)


BRANCHES = {"exit": sure, "factor": lambda net, x: net.late(x) * (1 if x[:, 0].mean() > x[:, 1].mean() else 2)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", BRANCHES)
def test_each_coalition_takes_the_branch_of_its_own_numbers(name, seed):
    torch.manual_seed(seed)
    net, image = Exits(BRANCHES[name]).double().eval(), random_images(1, seed=seed)
    rows = torch.cat([all_coalitions()[::9], torch.ones(1, CHANNELS), 1 - torch.eye(CHANNELS)]).double()
    exact = torch.cat([masked_logits(net, image[0], row[None]) for row in rows])
    game = ChannelGame.of(net, image)
    assert torch.allclose(game.value(rows, 1)[0], exact[:, 1], atol=1e-10)
    assert torch.allclose(game.probability(rows, 1)[0], exact.softmax(1)[:, 1], atol=1e-10)
    weights = explain(net, image, 1, "ablation_cam").weights["ablation_cam"][0]
    assert torch.allclose(weights, exact[-CHANNELS - 1, 1] - exact[-CHANNELS:, 1], atol=1e-10)


def test_a_branch_that_one_image_takes_for_its_neighbours_is_refused():
    """The second of three images: alone, it does not leave early."""
    torch.manual_seed(0)
    net, images = Exits(sure).double().eval(), random_images(40)
    with torch.no_grad():
        leaves = net.exit(net.target(net.stem(images)).mean((2, 3))).softmax(1).amax(1) > 0.6
    first, second = (leaves == wanted for wanted in (True, False))
    three = torch.stack([images[first][0], images[second][0], images[first][1]])
    with pytest.raises(ValueError, match="Explain one image at a time"):
        ChannelGame.of(net, three).value(all_coalitions()[:3], 1)


class Reads(Net):
    """It reads its pixels as a sentence, row by row."""

    def __init__(self, kind: type[nn.RNNBase], layers: int) -> None:
        super().__init__()
        self.read, self.fc = kind(CHANNELS, 6, layers, batch_first=True), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.read(self.target(self.stem(x)).flatten(2).mT)[0][:, -1])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("kind", "layers"), [(nn.GRU, 1), (nn.GRU, 2), (nn.RNN, 1), (nn.LSTM, 1), (nn.LSTM, 2)])
def test_what_a_recurrent_layer_reads_is_the_networks(kind, layers, count):
    """PyTorch writes beyond its memory where an LSTM is given first states of another number of images."""
    torch.manual_seed(3)
    net, images = Reads(kind, layers).double().eval(), random_images(count)
    game = ChannelGame.of(net, images)
    assert game.played.record is None  # which is asserted first: nothing else may call what is recorded
    rows = all_coalitions()[::23]
    exact = torch.stack([masked_logits(net, image, rows)[:, 1] for image in images])
    assert torch.allclose(game.value(rows, 1), exact, atol=1e-9)
    assert not explain(net, images, 1, "ablation_cam").degenerate["ablation_cam"].any()

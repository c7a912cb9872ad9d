"""Heads that no record stands for: chains start at the layer, replays of the whole network are announced."""

from __future__ import annotations

import torch
from campanion import explain
from campanion.game import ChannelGame
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

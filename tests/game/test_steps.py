"""A function in the place of a module is the same head, and gives the same LIFT- and LRP-CAM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from campanion import explain
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, all_coalitions, masked_logits, random_images
from torch import Tensor, nn
from torch.nn import functional as F

PAIRS: list[tuple[str, nn.Module, Callable[[Tensor], Tensor]]] = [
    ("gelu", nn.GELU(), F.gelu), ("gelu tanh", nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    ("silu", nn.SiLU(), F.silu), ("silu in place", nn.SiLU(), lambda x: F.silu(x, inplace=True)),
    ("leaky_relu", nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
    ("elu", nn.ELU(0.5), lambda x: F.elu(x, alpha=0.5)),
    ("tanh", nn.Tanh(), torch.tanh), ("tanh method", nn.Tanh(), lambda x: x.tanh()),
    ("tanh_", nn.Tanh(), lambda x: x.tanh_()), ("sigmoid", nn.Sigmoid(), torch.sigmoid),
    ("clamp", nn.ReLU(), lambda x: x.clamp(min=0)), ("clamp_min", nn.ReLU(), lambda x: torch.clamp_min(x, 0)),
    ("clamp both", nn.Hardtanh(-0.1, 0.1), lambda x: torch.clamp(x, -0.1, 0.1)), ("relu", nn.ReLU(), torch.relu),
    ("relu6", nn.ReLU6(), F.relu6), ("hardswish", nn.Hardswish(), F.hardswish), ("mish", nn.Mish(), F.mish),
    ("hardsigmoid", nn.Hardsigmoid(), F.hardsigmoid), ("softplus", nn.Softplus(2.0), lambda x: F.softplus(x, beta=2)),
    ("selu", nn.SELU(), F.selu),
    ("celu", nn.CELU(0.7), lambda x: F.celu(x, 0.7)), ("softsign", nn.Softsign(), F.softsign),
    ("logsigmoid", nn.LogSigmoid(), F.logsigmoid), ("hardtanh", nn.Hardtanh(), F.hardtanh),
]  # fmt: skip


class Hidden(Net):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.first, self.last = nn.Linear(CHANNELS, 6), nn.Linear(6, CLASSES)
        self.first.weight.data.mul_(3)
        self.act = (act,)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act[0](self.first(self.target(self.stem(x)).mean((2, 3)))))


@pytest.mark.parametrize(("name", "module", "function"), PAIRS, ids=[name for name, _, _ in PAIRS])
def test_functions_are_modules(name: str, module: nn.Module, function: Callable) -> None:
    images, rows = random_images(), all_coalitions()[::37]
    said = []
    for act in (module, function):
        network = Hidden(act).double().eval()
        game = ChannelGame.of(network, images)
        assert game.head.kind == "mlp"
        assert torch.allclose(game.value(rows, 1)[1], masked_logits(network, images[1], rows)[:, 1], atol=1e-12)
        lift = explain(network, images, 1, "lift_cam").weights["lift_cam"]
        ends = masked_logits(network, images[0], torch.tensor([[0.0], [1.0]]).expand(2, CHANNELS))[:, 1]
        assert torch.allclose(lift[0].sum(), ends[1] - ends[0], atol=1e-10)
        try:
            lrp = explain(network, images, 1, "lrp_cam").weights["lrp_cam"]
        except ValueError:  # captum has no rule
            lrp = torch.full_like(lift, 1e9)
        said.append((lift, lrp))
    for by_module, by_function in zip(*said, strict=True):
        assert torch.allclose(by_module, by_function, atol=1e-9)


def test_lrp_refuses_what_does_not_conserve_relevance() -> None:
    with pytest.raises(ValueError, match="does not conserve relevance"):
        explain(Hidden(lambda x: x * x).double().eval(), random_images(), 1, "lrp_cam")


def test_lrp_refuses_relevances_that_cancel_and_miss_the_logit() -> None:
    """captum has no rule for a residual sum: relevances of thousands add up to 0.26 where the logit is 0.07."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    with pytest.raises(ValueError, match="does not conserve relevance"):
        explain(network, torch.randn(2, 3, 96, 96), 3, "lrp_cam", layer="layer3")


def test_lrp_conserves_a_logit_without_biases() -> None:
    network = Hidden(torch.tanh).double().eval()
    for layer in (network.first, network.last):
        layer.bias.data.zero_()
    e = explain(network, random_images(), 1, "lrp_cam")
    assert torch.allclose(e.weights["lrp_cam"].sum(1), e.scores, atol=1e-6)


TURNED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "1 - x": (lambda x: 1 - x, "linear"), "2 / x": (lambda x: 2 / (1 + x), "linear"),
    "2 ** x": (lambda x: 2**x, "linear"), "torch.rsub": (lambda x: torch.rsub(x, 1), "generic"),
    "gate": (lambda x: x * (1 - torch.sigmoid(x)), "generic"),
}  # fmt: skip


class Turned(Net):
    """``turn`` of the maps, or of the logits."""

    def __init__(self, turn: Callable[[Tensor], Tensor], *, last: bool = False) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.fc, self.turn, self.last = nn.Linear(CHANNELS, CLASSES), turn, last

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        return self.turn(self.fc(x.mean((2, 3)))) if self.last else self.fc(self.turn(x).mean((2, 3)))


@pytest.mark.parametrize("name", [*TURNED, "1 - sigmoid of logits"])
def test_numbers_on_the_left_of_an_operator(name: str) -> None:
    """``1 - x`` calls ``x.__rsub__``, whose name is none of a function in place."""
    turn, kind = TURNED.get(name, (lambda x: 1 - torch.sigmoid(x), "generic"))
    network = Turned(turn, last=name not in TURNED).double().eval()
    images, rows = random_images(), all_coalitions()[::37]
    whole, kept = torch.cat([torch.ones(1, CHANNELS), 1 - torch.eye(CHANNELS)]), []
    network.target.register_forward_hook(lambda _m, _i, out: kept.append(out.detach().requires_grad_()) or kept[0])
    slope = torch.autograd.grad(network(images)[:, 1].sum(), kept[0])[0]
    network.target._forward_hooks.clear()
    for graph in (True, False):
        game = ChannelGame.of(network, images, gradient=graph)
        assert game.head.kind == kind
        assert torch.allclose(game.gradient(1), slope, atol=1e-12)
        for image, values in zip(images, game.value(rows, 1), strict=True):
            assert torch.allclose(values, masked_logits(network, image, rows)[:, 1], atol=1e-12)
    e = explain(network, images, 1, ("ablation_cam", "fd_cam", "shap_cam", "grad_cam"), shap_cam={"orderings": 20})
    ends = masked_logits(network, images[0], whole)[:, 1]
    assert torch.allclose(e.weights["ablation_cam"][0], ends[0] - ends[1:], atol=1e-10)
    if name != "gate":  # captum's rules have no product of two tensors
        lift = explain(network, images, 1, "lift_cam").weights["lift_cam"][0]
        nothing = masked_logits(network, images[0], torch.zeros(1, CHANNELS))[0, 1]
        assert torch.allclose(lift.sum(), ends[0] - nothing, atol=1e-10)

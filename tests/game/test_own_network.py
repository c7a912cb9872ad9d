"""Whatever a network computes after the layer, its game is the network's: values by masked forwards, autograd's slope.

Nothing here asks how the head was recognised: hooks, patched forwards, weights made anew, wrappers, control flow.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable

import pytest
import torch
from campanion import explain
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, all_coalitions, masked_logits, random_images
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

ROWS = all_coalitions()[::23]


def pooled(*after: nn.Module) -> Net:
    torch.manual_seed(3)
    return Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after)


def plain() -> Net:
    return pooled(nn.Linear(CHANNELS, CLASSES))


def hidden() -> Net:
    return pooled(nn.Linear(CHANNELS, 6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES))


def pixels() -> Net:
    torch.manual_seed(3)
    return Net(nn.Conv2d(CHANNELS, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def hooked(change: Callable, where: str = "tail.2", make: Callable = plain, before: bool = False) -> nn.Module:
    network = make()
    module = network.get_submodule(where)
    (module.register_forward_pre_hook if before else module.register_forward_hook)(change)
    return network


def renewed(layer: nn.Linear, _inputs: object) -> None:
    layer.weight.data.copy_(layer.weight / layer.weight.norm())


class LoRA(nn.Linear):
    """A linear layer whose forward adds a product of two small matrices: ``isinstance`` says nn.Linear."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, CLASSES)
        self.down, self.up = nn.Linear(CHANNELS, 2, bias=False), nn.Linear(2, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x)) / self.scale()

    def scale(self) -> float:
        return 0.5


class Weighted(nn.Linear):
    """A linear layer that changes its weight on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


class Twice(Net):
    """One module used twice, and a product of the two."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(CHANNELS, CHANNELS)
        self.last = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(self.target(self.stem(x)).mean((2, 3))).tanh()
        return self.last(self.fc(x) * x)


class Batched(Net):
    """Sizes written as numbers of the batch, and an image's own values used again behind the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        count, gate = len(x), x.mean((1, 2, 3)).sigmoid()[:, None]
        x = self.target(self.stem(x)).view(count, CHANNELS, -1).permute(2, 0, 1)
        return self.fc(x.reshape(36 * count, CHANNELS).relu()).view(36, count, CLASSES).mean(0) * gate


class Decides(Net):
    """Python control flow on the activations' values."""

    def __init__(self, how: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.how, self.fc = how, nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        x = x.mean((2, 3)) if self.how(x) else x.amax((2, 3))
        return self.fc(x)


class Stored(Net):
    """Writes into a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x))
        both = torch.zeros(len(x), 2 * CHANNELS, dtype=x.dtype)
        both[:, :CHANNELS] = x.mean((2, 3))
        both[:, CHANNELS:] = x.amax((2, 3))
        return self.fc(both)


class Normed(Net):
    """Batch statistics, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.target(self.stem(x))).relu().mean((2, 3)))


def pruned() -> nn.Module:
    network = plain()
    prune.l1_unstructured(network.tail[2], "weight", amount=0.5)
    with torch.no_grad():  # the mask is applied again, to the new weights, in a forward pass alone
        network.tail[2].weight_orig.mul_(3)
    return network


def normed(norm: Callable) -> nn.Module:
    network = hidden()
    network.tail[2] = norm(network.tail[2])
    network.tail[4] = norm(network.tail[4])
    return network


def patched(*, closure: bool) -> nn.Module:
    network = plain()
    layer = network.tail[2]
    inner = layer.forward
    layer.forward = (
        (lambda x: inner(x) / 3) if closure else types.MethodType(lambda self, x: inner(x) * self.bias, layer)
    )
    return network


def accelerated() -> nn.Module:
    """As accelerate wraps a module: its forward becomes a partial that holds the module."""
    network = plain()
    layer = network.tail[2]
    layer.old_forward = layer.forward

    def new_forward(module: nn.Module, *args: Tensor) -> Tensor:
        return module.old_forward(*args).clamp(max=0.1)

    layer.forward = functools.update_wrapper(functools.partial(new_forward, layer), layer.old_forward)
    return network


def wrapped_output() -> nn.Module:
    network = plain()
    network.register_forward_hook(lambda _m, _i, output: (output - output.mean(1, keepdim=True)) / 0.2)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "pruned": pruned,
    "old weight_norm": lambda: normed(nn.utils.weight_norm),
    "old spectral_norm": lambda: normed(nn.utils.spectral_norm),
    "weight_norm": lambda: normed(parametrizations.weight_norm),
    "spectral_norm": lambda: normed(parametrizations.spectral_norm),
    "temperature": lambda: hooked(lambda _m, _i, output: output / 10),
    "temperature of a hidden layer": lambda: hooked(lambda _m, _i, output: output * 2, make=hidden),
    "clamped pool": lambda: hooked(lambda _m, _i, output: output.clamp(max=0.2), "tail.0"),
    "clamped where only coalitions reach": lambda: hooked(lambda _m, _i, output: output.clamp(min=0.15), "tail.0"),
    "divided by its sum": lambda: hooked(lambda _m, _i, o: o / (o.sum(1, keepdim=True) + 0.1), "tail.1"),
    "pre-hook": lambda: hooked(lambda _m, inputs: (inputs[0] ** 2,), before=True),
    "weights made anew": lambda: hooked(renewed, before=True),
    "hook of the tail": lambda: hooked(lambda _m, _i, output: output.softmax(1), "tail"),
    "hook of the network": wrapped_output,
    "hook of the layer": lambda: hooked(lambda _m, _i, output: output.clamp(max=0.3), "target"),
    "pixels with a hook": lambda: hooked(lambda _m, _i, o: o * torch.linspace(0, 1, 36).view(6, 6), "tail.0", pixels),
    "a recorder": lambda: hooked(lambda m, _i, output: setattr(m, "last", output.detach().cpu().numpy()), "tail.1"),
    "patched forward": lambda: patched(closure=True),
    "patched method": lambda: patched(closure=False),
    "accelerated": accelerated,
    "LoRA": lambda: pooled(LoRA()),
    "a subclass": lambda: pooled(Weighted(CHANNELS, CLASSES)),
    "used twice": Twice,
    "batch sizes": Batched,
    "decides by bool": lambda: Decides(lambda x: bool(x.mean() > 0.2)),
    "decides by item": lambda: Decides(lambda x: x.mean().item() > 0.2),
    "decides by numpy": lambda: Decides(lambda x: x.detach().numpy().mean() > 0.2),
    "stored": Stored,
    "in place of an alias": lambda: hooked(lambda _m, _i, o: o.view(-1, CHANNELS).mul_(2).view_as(o) + o, "tail.1"),
    "detached half": lambda: hooked(lambda _m, _i, o: o + o.detach() ** 2, "tail.1"),
}  # fmt: skip


def naive(network: nn.Module, image: Tensor, target: int) -> Tensor:
    return masked_logits(network, image, ROWS)[:, target]


def slope(network: nn.Module, images: Tensor, target: int) -> Tensor:
    kept = []

    def hold(_module: object, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[0].clone()

    handle = network.target.register_forward_hook(hold)
    logits = network(images)
    handle.remove()
    return torch.autograd.grad(logits[:, target].sum(), kept[0])[0]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_game_is_the_networks(name: str, count: int) -> None:
    torch.manual_seed(3)
    network, images = NETWORKS[name]().double().eval(), random_images(count)
    game = ChannelGame.of(network, images)  # before the network ran for the first time
    if name.startswith("decides") and count > 1:  # by the mean over the batch
        with pytest.raises(ValueError, match="Explain one image at a time"):
            game.value(ROWS, 2)
        return
    found, other, ends = game.value(ROWS, 2), game.value(ROWS, 0), torch.tensor([[0.0], [1.0]]).expand(2, CHANNELS)
    for b, image in enumerate(images):
        assert torch.allclose(found[b], naive(network, image, 2), atol=1e-9)
        assert torch.allclose(other[b], naive(network, image, 0), atol=1e-9)
    assert torch.allclose(game.gradient(2), slope(network, images, 2), atol=1e-10)
    assert torch.allclose(game.gradient(0), slope(network, images, 0), atol=1e-10)
    assert torch.allclose(game.logits, network(images), atol=1e-10)
    assert torch.allclose(game.value(ends, 2)[:, 1], game.score(2), atol=1e-9)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["old weight_norm", "temperature", "clamped pool", "patched forward", "LoRA", "stored"]
)
def test_methods_see_the_networks_game(name: str) -> None:
    torch.manual_seed(3)
    network, images = NETWORKS[name]().double().eval(), random_images(1)
    everything = torch.cat([torch.ones(1, CHANNELS), 1 - torch.eye(CHANNELS)])
    e = explain(network, images, 1, ("grad_cam", "ablation_cam"))
    values = masked_logits(network, images[0], everything)[:, 1]
    assert torch.allclose(e.weights["ablation_cam"][0], values[0] - values[1:], atol=1e-9)
    assert torch.allclose(e.weights["grad_cam"], slope(network, images, 1).mean((2, 3)), atol=1e-10)


def test_batch_statistics_are_one_images_own_or_refused() -> None:
    network = Normed().double().eval()
    game = ChannelGame.of(network, random_images(1))
    assert torch.allclose(game.value(ROWS, 1)[0], naive(network, random_images(1)[0], 1), atol=1e-9)
    with pytest.raises(ValueError, match="Explain one image at a time"):
        ChannelGame.of(network, random_images(2)).value(ROWS, 1)


def test_a_network_that_never_answers_the_same_is_refused() -> None:
    network = hooked(lambda _m, _i, output: F.dropout(output, 0.5, training=True), "tail.1").double().eval()
    with pytest.raises(ValueError, match="change from pass to pass"):
        ChannelGame.of(network, random_images(1)).value(ROWS, 1)


@pytest.mark.parametrize("make", [plain, hidden, pixels, Twice])
def test_a_large_bias_changes_no_answer(make: Callable) -> None:
    """Regression: v(S) moves by about 1 around 1e6. The last bias takes no part in any comparison of coalitions."""
    methods, images = (
        ("grad_cam", "fd_cam", "lift_cam", "ablation_cam", "shap_cam"),
        random_images(2, dtype=torch.float32),
    )
    if make in (pixels, Twice):  # a product has no rule
        methods = ("grad_cam", "fd_cam", "ablation_cam", "shap_cam")
    maps = []
    for bias in (0.0, 1e6):
        torch.manual_seed(3)
        network = make().eval()
        last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
        if make is pixels:
            network.tail[1] = nn.Identity()
        last.bias.data.fill_(bias if make is not pixels else min(bias, 10.0))
        maps.append(explain(network, images, 1, methods, shap_cam={"orderings": 20}).maps)
    for method in methods:
        tolerance = 1e-5 if make is not pixels else 1e-3
        assert torch.allclose(maps[0][method], maps[1][method], atol=tolerance), method


def test_the_check_runs_the_trunk_once() -> None:
    network, images, passes = plain().eval(), random_images(2, dtype=torch.float32), []
    network.stem.register_forward_hook(lambda _m, _i, output: passes.append(len(output)))
    explain(network, images, 1, ("grad_cam", "fd_cam", "lift_cam", "ablation_cam", "shap_cam", "xgrad_cam"))
    assert passes == [2]

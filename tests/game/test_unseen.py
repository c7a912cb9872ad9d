"""What a record does not show, or what more than one pass would change: the game is still the network's, or refused."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable

import pytest
import torch
from campanion import explain
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, Straight, all_coalitions, masked_logits, random_images, slope
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

ROWS = all_coalitions()[::23]


def right(network: nn.Module, images: Tensor, layer: str = "target") -> None:
    """Values, gradient and logits are those of masked passes, autograd and the network; Score-CAM runs, too."""
    kept, state = images.clone(), {k: v.clone() for k, v in network.state_dict().items()}
    game, flags = ChannelGame.of(network, images, layer), [m.training for m in network.modules()]
    found, gradient = game.value(ROWS, 1), game.gradient(1)
    assert not explain(network, images, 1, "score_cam", layer).degenerate["score_cam"].any()
    assert torch.equal(images, kept)
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert [m.training for m in network.modules()] == flags
    network.eval()
    exact = [torch.cat([masked_logits(network, x.clone(), row[None], layer) for row in ROWS])[:, 1] for x in images]
    assert torch.allclose(found, torch.stack(exact), atol=1e-9)
    assert torch.allclose(gradient, slope(network, images, 1, layer), atol=1e-10)
    assert torch.allclose(game.logits, network(images.clone()), atol=1e-10)


class Branch(Net):
    """A second branch, by a function that a recorder of PyTorch's functions does not see."""

    def __init__(self, branch: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.branch, self.fc = branch, nn.Linear(CHANNELS, CLASSES)
        self.weight = nn.Parameter(torch.randn(CHANNELS, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x)).mean((2, 3))
        return self.fc(x) + self.branch(x, self.weight)


@torch.jit.script
def scripted(x: Tensor, weight: Tensor) -> Tensor:
    """TorchScript."""
    return torch.tanh(x @ weight) * 3


BRANCHES = {
    "vmap": lambda x, weight: torch.func.vmap(lambda row: (row @ weight).tanh() * 3)(x),
    "TorchScript": scripted,
    "jvp": lambda x, weight: torch.func.jvp(lambda y: (y @ weight).tanh(), (x,), (x,))[1],
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_that_no_recorder_sees(name: str) -> None:
    torch.manual_seed(3)
    right(Branch(BRANCHES[name]).double().eval(), random_images())


class Beside(Net):
    """A connection beside a layer that returns the very tensor it was given."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.target, self.conv, self.fc = layer, nn.Conv2d(CHANNELS, CHANNELS, 3), nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.conv(self.target(x)).mean((2, 3)) + x.mean((2, 3)))


@pytest.mark.parametrize("layer", [nn.Identity(), nn.Dropout2d(), nn.ReLU(inplace=True)], ids=str)
def test_what_goes_beside_the_layer_is_not_its_output(layer: nn.Module) -> None:
    torch.manual_seed(3)
    right(Beside(layer).double().train(), random_images())


class Scaled(Net):
    """It normalises its images in place, as a preprocessing that was moved into the network."""

    def __init__(self, *, decides: bool) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))
        self.decides = decides

    def forward(self, x: Tensor) -> Tensor:
        x = self.target(self.stem(x.sub_(0.3).div_(0.5)))
        return self.tail(x) * (2 if self.decides and float(x.detach().sum()) > -1 else 1)


@pytest.mark.parametrize("decides", [False, True])
def test_images_that_the_network_changes_in_place_are_its_own(decides: bool) -> None:
    torch.manual_seed(3)
    network, images = Scaled(decides=decides).double().eval(), random_images()
    right(network, images)
    assert not explain(network, images, 1, "gradient").degenerate["gradient"].any()


@pytest.mark.parametrize("kind", [nn.DataParallel, AveragedModel])
def test_wrappers_of_another_forward_are_not_looked_through(kind: type[nn.Module]) -> None:
    class Calibrated(kind):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).tanh() * 2

    torch.manual_seed(3)
    network = Calibrated(Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).double())
    right(network.eval(), random_images(), "module.target")


def test_a_checkpoint_runs_again_in_eval_mode() -> None:
    """Run again in the backward pass, batch norms in train mode would learn from the images that are explained."""

    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.tail, self.target(self.stem(x)), use_reentrant=False)

    torch.manual_seed(3)
    head = nn.Conv2d(CHANNELS, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    right(Checkpointed(*head, nn.Linear(6, CLASSES)).double().train(), random_images())


@pytest.mark.parametrize("where", ["stem", "tail"])
def test_parts_of_torchscript(where: str) -> None:
    torch.manual_seed(3)
    network = Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).double().eval()
    setattr(network, where, torch.jit.script(network.get_submodule(where)))
    right(network, random_images())


class Forward(Net):
    """``change`` of the logits, or of the head's input before its linear layer."""

    def __init__(self, change: Callable = lambda x: x, before: Callable = lambda x: x) -> None:
        super().__init__()
        self.change, self.before, self.fc = change, before, nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.fc(self.before(self.target(self.stem(x)).mean((2, 3)))))


@pytest.mark.parametrize("mask", [lambda y: y + torch.tensor([0.0] * 4 + [-torch.inf]),
                                  lambda y: y.masked_fill(torch.arange(CLASSES) == 4, -torch.inf)])  # fmt: skip
def test_classes_that_are_masked_with_infinity(mask: Callable) -> None:
    torch.manual_seed(3)
    network, images = Forward(mask).double().eval(), random_images()
    assert torch.allclose(
        ChannelGame.of(network, images).value(ROWS, 1)[0], masked_logits(network, images[0], ROWS)[:, 1], atol=1e-9
    )
    lifted = explain(network, images, 1, "lift_cam").weights["lift_cam"]
    assert torch.allclose(lifted, explain(network, images, 1, "ablation_cam").weights["ablation_cam"], atol=1e-9)


def test_what_is_not_a_number_is_named() -> None:
    network = Forward(before=lambda x: x / x.new_tensor([[1.0], [0.0]]) * 0).double().eval()
    with pytest.raises(ValueError, match=r"Images \[1\] give NaN or infinity"):
        explain(network, random_images(), 1, "fd_cam")


def test_what_is_drawn_anew_is_refused_also_where_two_draws_agree() -> None:
    """A path is dropped or kept: two passes agree by chance in a half of the calls."""
    network = Forward(before=lambda x: x * (torch.rand(len(x), 1) < 0.5)).double().eval()
    for seed in range(8):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match="change from pass to pass"):
            explain(network, random_images(1), 1, "ablation_cam")


def test_a_network_for_one_image_at_a_time() -> None:
    torch.manual_seed(3)
    one, any_number = (Forward(before=b).double().eval() for b in (lambda x: x.reshape(1, -1), lambda x: x))
    one.load_state_dict(any_number.state_dict())
    for method in ("score_cam", "ablation_cam"):
        found, expected = (explain(n, random_images(1), 1, method).weights[method] for n in (one, any_number))
        assert torch.allclose(found, expected, atol=1e-9)


def test_autocast_around_the_call_keeps_the_head() -> None:
    torch.manual_seed(3)
    network, images = Forward().eval(), random_images(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        game = ChannelGame.of(network, images)
        found = game.value(ROWS, 1)[0]
        assert game.head.module is not None
    exact = masked_logits(network, images[0], ROWS)[:, 1]
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()


class Other(nn.Module):
    """A layer that gives no real numbers."""

    def __init__(self, change: Callable) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x)


@pytest.mark.parametrize(
    ("change", "kind"), [(torch.fft.fft2, "complex"), (lambda x: x > 0, "bool"), (Tensor.int, "int")]
)
def test_layers_without_real_numbers_are_refused(change: Callable, kind: str) -> None:
    network = Net(Other(lambda x: x.real.double()), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    network.target = Other(change)
    for method in ("grad_cam", "score_cam", "ablation_cam"):
        with pytest.raises(ValueError, match=rf"{kind}.*a map needs one tensor of real numbers"):
            explain(network, random_images(), 1, method)


@pytest.mark.parametrize("error", [KeyError, TypeError, AssertionError, AttributeError, IndexError])
def test_networks_that_take_more_than_images_are_a_sentence(error: type[Exception]) -> None:
    def fail(_x: Tensor) -> Tensor:
        raise error("mask")

    with pytest.raises(ValueError, match=rf"cannot take images of shape .*mask.*{error.__name__}.*wrap it"):
        explain(Forward(fail), random_images(dtype=torch.float32), 1, "grad_cam")


def test_heads_with_names_of_their_own_are_asked_for() -> None:
    Pair = namedtuple("Pair", "age kind")
    for pack in (lambda y: {"age": y, "kind": y * 2}, lambda y: Pair(y, y * 2)):
        with pytest.raises(ValueError, match="several tensors that may be logits"):
            explain(Forward(pack), random_images(dtype=torch.float32), 1, "grad_cam")


def test_a_norm_of_whole_maps_does_not_say_channels_last() -> None:
    torch.manual_seed(3)
    network = Net(nn.LayerNorm([6, 6, 6]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES))
    network.stem = nn.Conv2d(3, 6, 3, stride=4, padding=1)  # as many channels as rows
    network.double().eval()
    assert torch.allclose(
        ChannelGame.of(network, random_images()).gradient(1), slope(network, random_images(), 1), atol=1e-10
    )


def test_a_network_without_numbers_is_refused() -> None:
    with torch.device("meta"):
        network, images = Forward(), random_images(dtype=torch.float32)
    with pytest.raises(ValueError, match="a map needs numbers"):
        explain(network, images.to("meta"), 1, "grad_cam")


class Noisy(nn.Module):
    """Weights drawn anew in each pass, as Bayesian layers have them."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.randn_like(weight)


def test_weights_that_are_drawn_anew_are_refused() -> None:
    network = Forward().double().eval()
    nn.utils.parametrize.register_parametrization(network.fc, "weight", Noisy())
    with pytest.raises(ValueError, match="change from pass to pass"):
        explain(network, random_images(), 1, "ablation_cam")


def test_images_with_channels_last_are_no_images() -> None:
    with pytest.raises(ValueError, match=r"look like \[B, H, W, 3\]"):
        explain(Forward(), random_images().permute(0, 2, 3, 1), 1, "grad_cam")


def test_gates_without_gradient_have_none_also_where_the_pass_kept_no_graph() -> None:
    """A record says nothing of ``torch.no_grad()`` and ``detach``: the network runs again."""
    torch.manual_seed(3)
    gate = nn.Linear(CHANNELS, CHANNELS)

    def gated(x: Tensor) -> Tensor:
        with torch.no_grad():
            factor = gate(x).sigmoid()
        return x * factor

    for before in (gated, lambda x: x * gate(x).sigmoid().detach()):
        network, images = Forward(before=before).double().eval(), random_images()
        gate.double()
        expected = slope(network, images, 1)
        for graph in (True, False):
            game = ChannelGame.of(network, images, gradient=graph)
            assert torch.allclose(game.gradient(1), expected, atol=1e-12)
            assert torch.allclose(game.image(1).gradient(1), expected[1:], atol=1e-12)
            assert torch.equal(game.gradient(2), ChannelGame.of(network, images).gradient(2))
            with torch.no_grad():  # a caller who wants no gradients asks for one
                assert torch.allclose(ChannelGame.of(network, images, gradient=graph).gradient(1), expected, atol=1e-12)


@pytest.mark.parametrize("graph", [True, False])
def test_a_game_in_inference_mode_has_its_gradient(graph: bool) -> None:
    torch.manual_seed(3)
    network = Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    expected = slope(network.double().eval(), random_images(), 1)
    for values_first in (True, False):
        with torch.inference_mode():
            game = ChannelGame.of(network, random_images(), gradient=graph)
            values = game.value(ROWS, 1) if values_first else None
            assert torch.allclose(game.gradient(torch.tensor(1)), expected, atol=1e-12)
        assert torch.allclose(game.fresh().gradient(1), expected, atol=1e-12)
        assert torch.allclose(game.fresh(game.head).gradient(1), expected, atol=1e-12)
        assert values is None or torch.allclose(values[0], masked_logits(network, random_images()[0], ROWS)[:, 1])


class Registers(Net):
    """It keeps the gradient of its features by a hook on them, as old tutorials of Grad-CAM do."""

    def __init__(self, *, early: bool = False) -> None:
        super().__init__()
        self.fc, self.early = nn.Linear(CHANNELS, CLASSES), early

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.early:
            x.register_hook(print)
        x = self.target(x)
        x.register_hook(lambda _gradient: None)
        return self.fc(x.mean((2, 3)))


def test_forwards_that_register_hooks_run_with_a_graph_or_are_named() -> None:
    torch.manual_seed(3)
    network, images = Registers().double().eval(), random_images()
    plain = Forward().double().eval()
    plain.load_state_dict(network.state_dict())
    methods = ("lift_cam", "ablation_cam", "shap_cam", "fd_cam", "grad_cam", "gradient")
    found, expected = (explain(n, images, 1, methods).maps for n in (network, plain))
    for method in methods:
        assert torch.allclose(found[method], expected[method], atol=1e-9), method
    for method in ("score_cam", "group_cam", "rise"):
        with pytest.raises(ValueError, match="calls register_hook, which fails without gradients"):
            explain(network, images, 1, method)
    for method in ("grad_cam", "ablation_cam"):
        with pytest.raises(ValueError, match="calls register_hook, which fails without gradients"):
            explain(Registers(early=True).double(), images, 1, method)


SIZED = {
    "nonzero": lambda x: x / (1 + len(torch.nonzero(x > 0.05))),
    "argwhere": lambda x: x / (1 + torch.argwhere(x > 0.05).shape[0]),
    "where": lambda x: x / (1 + torch.where(x > 0.05)[0].size(0)),
    "mask": lambda x: x / (1 + x[x > 0.05].numel()),
    "masked_select": lambda x: x / (1 + torch.masked_select(x, x > 0.05).numel()),
    "unique": lambda x: x / torch.unique(x.round(decimals=2)).numel(),
}


@pytest.mark.parametrize("name", SIZED)
def test_sizes_that_depend_on_values_are_no_constants(name: str) -> None:
    torch.manual_seed(3)
    right(Forward(before=SIZED[name]).double().eval(), random_images(1))


@torch.jit.script
def scripted_in_place(x: Tensor) -> Tensor:
    """TorchScript."""
    return x.clamp_(min=0.065)


def data_set(x: Tensor) -> None:
    x.data = x.data.clamp(min=0.065)


IN_PLACE = {
    "TorchScript": scripted_in_place,
    "vmap": lambda x: torch.func.vmap(lambda row: row.clamp_(min=0.065))(x),
    "data": data_set,
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap's
@pytest.mark.parametrize("name", IN_PLACE)
def test_changes_in_place_that_no_recorder_sees(name: str) -> None:
    """They change coalitions, which have smaller numbers, and not the whole."""

    def change(x: Tensor) -> Tensor:
        x = x + 0.06
        IN_PLACE[name](x)
        return x

    torch.manual_seed(3)
    network = Forward(before=change).double().eval()
    network.stem.bias.data.fill_(1)
    right(network, random_images())


class Pixels(Net):
    """A classifier of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return Straight.apply(self.conv(self.target(self.stem(x)))).mean((2, 3))


@pytest.mark.parametrize("make", [lambda: Forward(before=lambda x: Straight.apply(x - 0.1)), Pixels])
def test_gradients_that_an_author_defines_are_the_games_also_without_a_kept_graph(make: Callable) -> None:
    torch.manual_seed(3)
    network = make().double().eval()
    expected = slope(network, random_images(), 1)
    for graph in (True, False):
        game = ChannelGame.of(network, random_images(), gradient=graph)
        assert torch.allclose(game.gradient(1), expected, atol=1e-12)
        assert torch.allclose(game.image(1).gradient(1), expected[1:], atol=1e-12)


def test_a_forward_that_was_compiled_is_run_as_written() -> None:
    torch.manual_seed(3)
    network, images = Forward().double().eval(), random_images()
    expected = slope(network, images, 1)
    network.forward = torch.compile(network.forward, backend="eager")
    network(images)  # compiled, without the hooks of what follows
    for _ in range(2):
        for method in ("grad_cam", "score_cam", "gradient"):
            assert not explain(network, images, 1, method).degenerate[method].any()
        assert torch.allclose(ChannelGame.of(network, images).gradient(1), expected, atol=1e-12)


def test_a_network_of_one_number_of_images_is_run_with_it_or_named() -> None:
    def two(x: Tensor) -> Tensor:
        return x.reshape(2, CHANNELS)

    network = Forward(before=two).double().eval()
    assert not explain(network, random_images(), 1, "grad_cam").degenerate["grad_cam"].any()
    with pytest.raises(ValueError, match=r"cannot take images \["):
        explain(network, random_images(), 1, "score_cam")

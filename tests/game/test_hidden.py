"""What agrees for the whole image and for half of its channels, and not for others: it is found, or named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from campanion import explain, metrics
from campanion.cams.fd import similarity_groups
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, Straight, all_coalitions, masked_logits, random_images, slope
from torch import Tensor, nn
from torch.nn import functional as F

EVERY = all_coalitions()[::5]


class Forward(Net):
    """``before`` of the head's input, then a linear layer."""

    def __init__(self, before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.before, self.fc = before, nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.before(self.target(self.stem(x)).mean((2, 3))))


def values_are_right(network: nn.Module, images: Tensor) -> None:
    """Of each image alone, and of each coalition alone."""
    exact = [torch.cat([masked_logits(network, x, row[None]) for row in EVERY])[:, 1] for x in images]
    found = ChannelGame.of(network, images, "target").value(EVERY, 1)
    assert torch.allclose(found, torch.stack(exact), atol=1e-9, equal_nan=True)


LARGEST = {
    "maximum": lambda x: x / (x.max() + 1e-3),
    "range": lambda x: (x - x.min()) / (x.max() - x.min() + 1e-3),
    "8 bits": lambda x: (x * 127 / (x.abs().max() + 1e-3)).round(),
}


@pytest.mark.parametrize("name", LARGEST)
def test_what_is_divided_by_the_largest_number_of_a_batch_is_run_alone(name: str) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        values_are_right(Forward(before=LARGEST[name]).double().eval(), random_images(1))


@pytest.mark.parametrize("name", ["maximum", "range"])
def test_so_are_masked_images(name: str) -> None:
    class Scaled(Forward):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(LARGEST[name](x)) * 20

    torch.manual_seed(3)
    network, images, maps = Scaled().double().eval(), random_images(3), torch.rand(3, 24, 24, dtype=torch.float64)
    together = metrics.insertion_deletion(network, images, maps, 1, step=60)
    for b in range(3):
        alone = metrics.insertion_deletion(network, images[b : b + 1], maps[b : b + 1], 1, step=60, batch_size=1)
        assert torch.allclose(alone.insertion_curve[0], together.insertion_curve[b], atol=1e-9)
        assert torch.allclose(alone.deletion_curve[0], together.deletion_curve[b], atol=1e-9)


GATES = {
    "numpy": lambda x: x + float(x.detach().numpy().max() > 0.1),
    "a list": lambda x: x + float(max(x[0].tolist()) > 0.1),
    "vmap": lambda x: x + torch.func.vmap(lambda row: (row.max() > 0.1).to(row.dtype))(x.detach())[:, None],
}


@pytest.mark.parametrize("name", GATES)
def test_gates_that_close_where_few_channels_are_present(name: str) -> None:
    torch.manual_seed(3)
    network = Forward(before=GATES[name]).double().eval()
    network.stem.bias.data.fill_(0.5)
    values_are_right(network, random_images(1))


class Select(nn.Module):
    """The last of several maps."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[-1]


class Beside(Net):
    """The layer returns a tensor that it was given in a list, or by name; another branch reads that."""

    def __init__(self, *, listed: bool) -> None:
        super().__init__()
        self.listed, self.target = listed, Select() if listed else nn.Identity()
        self.fc, self.other = nn.Linear(CHANNELS, CLASSES), nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        maps = self.target([2 * x, x]) if self.listed else self.target(input=x)
        return self.fc(maps.mean((2, 3))) + self.other(x.mean((2, 3)).tanh())


@pytest.mark.parametrize("listed", [True, False])
def test_what_a_layer_was_given_in_a_list_or_by_name_is_not_its_output(listed: bool) -> None:
    torch.manual_seed(3)
    network = Beside(listed=listed).double().eval()
    values_are_right(network, random_images())
    gradient = ChannelGame.of(network, random_images()).gradient(1)
    assert torch.allclose(gradient, slope(network, random_images(), 1), atol=1e-10)


def test_features_that_a_user_collects_hold_no_graph() -> None:
    network, seen = Forward().eval(), []
    network.target.register_forward_hook(lambda _m, _i, output: seen.append(output))
    explain(network, random_images(dtype=torch.float32), 1, "grad_cam")
    assert not seen[0].requires_grad


UNDEFINED = {
    "shap_cam": lambda x: x / x.norm(dim=1, keepdim=True),
    "lift_cam": lambda x: x / x.norm(dim=1, keepdim=True),
    "fd_cam": lambda x: (x + 0.01).log2().log(),
    "ablation_cam": lambda x: x.log(),
}


@pytest.mark.parametrize("method", UNDEFINED)
def test_channels_without_which_the_network_gives_no_number_are_named(method: str) -> None:
    torch.manual_seed(3)
    network = Forward(before=UNDEFINED[method]).double().eval()
    network.stem.bias.data.fill_(2)
    with pytest.raises(ValueError, match=r"NaN or infinity where channels are absent|do not sum"):
        explain(network, random_images(), 1, method)


def test_a_cosine_without_epsilon_has_its_other_maps() -> None:
    torch.manual_seed(3)
    network = Forward(before=UNDEFINED["shap_cam"]).double().eval()
    network.stem.bias.data.fill_(0.5)
    values_are_right(network, random_images())
    e = explain(network, random_images(), 1, ("fd_cam", "ablation_cam", "grad_cam"))
    assert all(w.isfinite().all() for w in e.weights.values())


def test_metrics_of_a_network_that_divides_by_0_say_so() -> None:
    """No increase and no drop were counted where nothing could be compared."""
    network, images = (
        Forward(before=lambda x: x / x.norm(dim=1, keepdim=True)).eval(),
        random_images(dtype=torch.float32),
    )
    network.stem.bias.data.zero_()
    dark = metrics.confidence(network, images, torch.zeros(2, 24, 24), 1)
    black = metrics.confidence(network, 0 * images, torch.ones(2, 24, 24), 1)
    assert all(v.isnan().all() for v in (dark.iic, dark.average_drop, black.iic, black.average_drop, black.add))
    assert dark.add.isfinite().all()


def test_a_tensor_multiplied_by_itself_is_no_layer() -> None:
    torch.manual_seed(3)
    values_are_right(
        Forward(before=lambda x: F.linear(x, x).sum(1, keepdim=True) * x).double().eval(), random_images(1)
    )
    values_are_right(Forward(before=lambda x: x.clamp(x)).double().eval(), random_images())


class Frozen(Net):
    """A trunk without gradients, by its own ``torch.no_grad()``, and a head with a gradient of its author's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.target(self.stem(x))
        return self.fc(Straight.apply(x - 0.1).mean((2, 3)))


@pytest.mark.parametrize("graph", [True, False])
def test_gradients_that_an_author_defines_behind_a_trunk_without_any(graph: bool) -> None:
    torch.manual_seed(3)
    network = Frozen().double().eval()
    expected, game = slope(network, random_images(), 1), ChannelGame.of(network, random_images(), gradient=graph)
    assert expected.any()
    assert torch.allclose(game.gradient(1), expected, atol=1e-12)


def test_parts_of_a_channel_are_no_coalition() -> None:
    game = ChannelGame.of(Forward().eval(), random_images(dtype=torch.float32))
    for rows in (torch.full((1, CHANNELS), 0.5), 2 * torch.ones(1, CHANNELS), torch.full((1, CHANNELS), torch.nan)):
        for ask in (game.value, game.value_on_off, game.probability):
            with pytest.raises(ValueError, match="coalitions hold 0 or 1"):
                ask(rows, 1)
    for count in (2.0, "3"):
        with pytest.raises(ValueError, match="orderings must be at least 1"):
            game.shapley(1, orderings=count)


def test_half_precision_that_numpy_or_a_square_does_not_know() -> None:
    """NumPy has no bfloat16; the length of large float16 numbers is infinite, so that all groups were empty."""
    torch.manual_seed(3)
    network, images = Forward().eval(), random_images(dtype=torch.float32)
    assert not explain(network.bfloat16(), images.bfloat16(), 1, "xrai").degenerate["xrai"].any()
    maps = torch.rand(1, 6, 14, 14, generator=torch.Generator().manual_seed(0)) * 30_000
    assert torch.equal(similarity_groups(maps.half(), 30.0), similarity_groups(maps.half().float(), 30.0))


def test_sparse_weights_have_masked_images() -> None:
    class Sparse(Net):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(CLASSES, CHANNELS).to_sparse(), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(self.weight, self.target(self.stem(x)).mean((2, 3)).T).T

    torch.manual_seed(3)
    network, images = Sparse().eval(), random_images(1, dtype=torch.float32)
    assert not explain(network, images, 1, "score_cam").degenerate["score_cam"].any()


@pytest.mark.parametrize("weights", [np.ones((1, 2)), [[1.0, 1.0]], torch.ones(2), torch.ones(1, 3)])
def test_weights_that_cannot_be_compared_are_a_sentence(weights: object) -> None:
    with pytest.raises(ValueError, match="must both be tensors"):
        metrics.shap_cosine(weights, torch.ones(1, 2))

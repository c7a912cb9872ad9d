"""Networks and calls that people bring, which were once answered wrongly or refused without need."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from campanion import explain
from campanion.game.game import ChannelGame
from campanion.metrics import confidence, insertion_deletion
from campanion.metrics.randomisation import randomised
from nets import CHANNELS, CLASSES, Net, all_coalitions, masked_logits, random_images
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = all_coalitions()[::23]


def pooled(*after: nn.Module) -> Net:
    torch.manual_seed(3)
    return Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after)


class LoRA(nn.Module):
    """A linear layer and, beside it, a product of two small matrices; the rank is the number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.drop = nn.Linear(CHANNELS, CLASSES), nn.Dropout(0.5)
        self.down, self.up = nn.Parameter(torch.randn(2, CHANNELS)), nn.Parameter(torch.randn(CLASSES, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (self.drop(x) @ self.down.T @ self.up.T) * 2.0


class Prototypes(nn.Module):
    """As many stored rows as images, also ones that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.randn(2, CHANNELS))
        self.weight = nn.Parameter(torch.randn(2, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight - self.weight.mean()).T - (x @ self.rows.T) ** 2


class Cosine(nn.Module):
    """A logit for each class by its cosine, with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.rows = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.randn(CLASSES, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.exp() * F.normalize(x, dim=-1) @ F.normalize(self.rows, dim=-1).T


HEADS: dict[str, Callable[[], nn.Module]] = {
    "LoRA": lambda: pooled(LoRA()),
    "prototypes": lambda: pooled(Prototypes()),
    "cosine": lambda: pooled(Cosine()),
    "prelu": lambda: pooled(nn.Linear(CHANNELS, 6), nn.PReLU(6), nn.Linear(6, CLASSES)),
    "rrelu": lambda: pooled(nn.Linear(CHANNELS, 6), nn.RReLU(), nn.Linear(6, CLASSES)),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_run_without_the_trunk_and_lift_cam_sums_to_the_difference(name: str) -> None:
    network, images = HEADS[name]().double().eval(), random_images(2)
    game = ChannelGame.of(network, images)
    found = game.value(ROWS, 1)
    assert game.head.module is not None
    right = torch.stack([masked_logits(network, image, ROWS)[:, 1] for image in images])
    assert torch.allclose(found, right, atol=1e-9)
    if name == "prototypes":  # a square of the activations that captum has no rule for
        return
    ends = torch.tensor([[1], [0]]).expand(2, CHANNELS)
    moved = torch.stack([masked_logits(network, image, ends)[:, 1] for image in images])
    lifted = explain(network, images, 1, "lift_cam").weights["lift_cam"]
    assert torch.allclose(lifted.sum(1), moved[:, 0] - moved[:, 1], atol=1e-9)


def test_a_batch_that_changes_logits_is_run_image_by_image() -> None:
    """Batch statistics, and a hook that acts on large batches alone: the right value is that of each image alone."""
    statistics = Net(nn.BatchNorm2d(CHANNELS, track_running_stats=False), nn.Flatten(), nn.Linear(36 * CHANNELS, 3))
    hooked = pooled(nn.Linear(CHANNELS, 3))
    hooked.tail[2].register_forward_hook(lambda _m, _i, output: output * 2 if len(output) > 1 else output)
    images = random_images(2, dtype=torch.float32)
    maps = images.mean(1).sigmoid()
    for network in (statistics.eval(), hooked.eval()):
        with torch.no_grad():
            alone = torch.cat([network(image[None]).softmax(1)[:, 1] for image in images])
            seen = [network(image[None] * m).softmax(1)[0, 1] for image, m in zip(images, maps, strict=True)]
        found = confidence(network, images, maps, torch.tensor([1, 1]))
        assert torch.allclose(found.original, alone, atol=1e-6)
        assert torch.allclose(found.explanation, torch.stack(seen), atol=1e-6)
        curves = insertion_deletion(network, images, maps, torch.tensor([1, 1]), step=200)
        assert torch.allclose(curves.insertion_curve[:, -1], alone, atol=1e-6)
        score_cam = explain(network, images[:1], 1, "score_cam").weights["score_cam"][0]
        small = ChannelGame.of(network, images[:1]).activations[0]
        big = F.interpolate(small[:, None], (24, 24), mode="bilinear")
        low, high = big.amin((2, 3), keepdim=True), big.amax((2, 3), keepdim=True)
        with torch.no_grad():
            right = [float(network(images[:1] * mask).softmax(1)[0, 1]) for mask in (big - low) / (high - low)]
        assert torch.allclose(score_cam, torch.tensor(right), atol=1e-5)


def test_signs_are_for_one_output_alone() -> None:
    for sign in ("higher", "lower"):
        with pytest.raises(ValueError, match=f"'{sign}' is for networks of one output; this one has 5"):
            explain(pooled(nn.Linear(CHANNELS, CLASSES)), random_images(1, dtype=torch.float32), sign, "grad_cam")


def test_parameters_made_in_inference_mode_have_gradients() -> None:
    images = random_images(2, dtype=torch.float32)
    with torch.inference_mode():
        made = pooled(nn.Linear(CHANNELS, 6), nn.ReLU(), nn.Linear(6, CLASSES)).eval()
    plain = pooled(nn.Linear(CHANNELS, 6), nn.ReLU(), nn.Linear(6, CLASSES)).eval()
    plain.load_state_dict(made.state_dict())
    for method in ("grad_cam", "fd_cam", "lrp_cam"):
        found, right = (explain(network, images, 1, method).weights[method] for network in (made, plain))
        assert torch.allclose(found, right, atol=1e-6)


def test_another_default_device_changes_nothing() -> None:
    """As ``torch.set_default_device("cuda")`` with a network on the CPU; the meta device shows each forgotten one."""
    network, images = pooled(nn.Linear(CHANNELS, CLASSES)).eval(), random_images(2, dtype=torch.float32)
    methods = {
        "grad_cam": {}, "fd_cam": {}, "lift_cam": {}, "ablation_cam": {}, "shap_cam": {"orderings": 4}, "score_cam": {},
        "group_cam": {}, "rise": {"masks": 8}, "cameras": {"sizes": (24, 33)}, "xrai": {},
        "smooth_grad": {"samples": 2},
    }  # fmt: skip
    layered = Net(nn.Conv2d(CHANNELS, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    maps, targets = images.mean(1).sigmoid(), [1, 2]

    def everything() -> list[Tensor]:
        found = [
            explain(network, images, targets, method, **options).maps[method] for method, options in methods.items()
        ]
        found.append(explain(layered, images, targets, "shap_cam", orderings=4).maps["shap_cam"])
        found.append(explain(layered, images, targets, "lift_cam").maps["lift_cam"])
        curves = insertion_deletion(network, images, maps, targets, step=200)
        return [*found, curves.insertion, curves.deletion, confidence(network, images, maps, targets).add]

    right = everything()
    with torch.device("meta"):
        found = everything()
    assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))


def test_features_that_a_network_keeps_hold_no_graph() -> None:
    class Keeps(Net):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.target(self.stem(x))
            self.several.append(maps)
            self.named["maps"], self.pair = maps, (maps, 1)
            return self.tail(maps)

    network = Keeps(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).eval()
    own = network.stem.weight * 2  # the caller's, for a backward pass of theirs
    network.several, network.named = [own], {}
    explain(network, random_images(1, dtype=torch.float32), 1, ("grad_cam", "fd_cam"))
    assert network.several[0] is own
    assert own.grad_fn is not None
    assert all(kept.grad_fn is None for kept in (*network.several[1:], network.named["maps"], network.pair[0]))


def test_graph_modules_of_torch_fx_are_copied() -> None:
    """As ``torchvision.models.feature_extraction.create_feature_extractor`` returns them."""
    plain = pooled(nn.Linear(CHANNELS, CLASSES)).eval()
    traced, images = torch.fx.symbolic_trace(plain), random_images(1, dtype=torch.float32)
    found, right = (explain(n, images, 1, ("score_cam", "fd_cam"), "target") for n in (traced, plain))
    assert all(torch.allclose(found.maps[m], right.maps[m], atol=1e-6) for m in right.maps)


def test_a_layer_with_more_rows_than_images_is_refused() -> None:
    class Flipped(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.tail(self.target(self.stem(torch.cat([x, x.flip(3)])))).view(2, len(x), -1).mean(0)

    network = Flipped(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))
    with pytest.raises(ValueError, match="one row for each"):
        explain(network, random_images(2, dtype=torch.float32), 1, "grad_cam")


def test_channels_before_pixels_are_no_tokens() -> None:
    class Rows(Net):
        def forward(self, x: Tensor) -> Tensor:
            rows = self.target(self.stem(x).flatten(2))  # [B, K, pixels]
            return self.tail(rows.mean(2) if len(self.tail[0].weight) == 3 else rows.mT)

    images = random_images(1, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"may be \[B, tokens, K\] or \[B, K, tokens\]"):
        explain(Rows(nn.Linear(CHANNELS, 3)).eval(), images, 1, "grad_cam")


def test_a_loss_beside_the_logits_is_no_logit() -> None:
    class Losses(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.tail(self.target(self.stem(x)))
            return logits.logsumexp(1).mean(), logits

    network = Losses(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).eval()
    plain = pooled(nn.Linear(CHANNELS, CLASSES)).eval()
    plain.load_state_dict(network.state_dict())
    for count in (1, 2):
        images = random_images(count, dtype=torch.float32)
        found, right = (explain(n, images, 1, "fd_cam").weights["fd_cam"] for n in (network, plain))
        assert torch.allclose(found, right)


class Keeper:
    """A hook that is an object."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, _module: object, _inputs: object, output: Tensor) -> None:
        self.network.kept = output


class Keeps(Net):
    """It keeps maps by a hook bound to itself, as feature extractors do, and reads them after the trunk has run."""

    def __init__(self, hook: Callable) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))
        self.stem.register_forward_hook(hook(self))

    def keep(self, _module: object, _inputs: object, output: Tensor) -> None:
        self.kept = output

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.target(self.stem(x)) + self.kept.sigmoid())


HOOKS = [
    lambda network: network.keep,
    lambda network: partial(network.keep),
    lambda network: lambda *call: network.keep(*call),
    Keeper,
]


@pytest.mark.parametrize("hook", HOOKS, ids=["method", "partial", "closure", "object"])
@pytest.mark.parametrize("count", [1, 2])
def test_what_a_bound_hook_keeps_is_of_the_image_at_hand(count: int, hook: Callable) -> None:
    """Regression: an inference copy read what the original had kept, so that masked images had another's maps."""

    class Plain(Keeps):
        def forward(self, x: Tensor) -> Tensor:
            stem = self.stem(x)
            return self.tail(self.target(stem) + stem.sigmoid())

    torch.manual_seed(3)
    network, images = Keeps(hook).eval(), random_images(count, dtype=torch.float32)
    plain = Plain(hook).eval()
    plain.load_state_dict(network.state_dict())
    network(images)
    maps = images.mean(1).sigmoid()
    found, right = (
        [
            explain(n, images, 1, ("score_cam", "group_cam")).raw,
            confidence(n, images, maps, 1).explanation,
            insertion_deletion(n, images, maps, 1, step=200).insertion_curve,
        ]
        for n in (network, plain)
    )
    assert all(torch.allclose(found[0][m], right[0][m], rtol=1e-4, atol=1e-7) for m in right[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[1:], right[1:], strict=True))


def test_modules_in_a_list_are_not_randomised_in_vain() -> None:
    network = pooled(nn.Linear(CHANNELS, CLASSES))
    network.order = [network.stem, network.target]
    with pytest.raises(ValueError, match="holds modules in a list or hook"):
        next(randomised(network))


def test_a_norm_of_the_batch_takes_one_image() -> None:
    """Regression: behind such a norm, also gradients and coalitions were those of the whole batch, without a word."""
    torch.manual_seed(3)
    network, images = pooled(nn.Linear(CHANNELS, CLASSES)), random_images(2, dtype=torch.float32)
    network.stem = nn.Sequential(network.stem, nn.BatchNorm2d(CHANNELS, track_running_stats=False))
    for method in ("grad_cam", "ablation_cam", "score_cam"):
        assert not explain(network, images[:1], 1, method).degenerate[method].any()
        with pytest.raises(ValueError, match=r"without running statistics .* explain one at a time"):
            explain(network, images, 1, method)


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["random", "numpy"])
def test_numbers_that_python_or_numpy_draws_are_no_constants(draw: Callable[[], float]) -> None:
    network = pooled(nn.Linear(CHANNELS, CLASSES)).eval()
    network.tail[1].register_forward_hook(lambda _m, _i, output: output * (1 + draw()))
    with pytest.raises(ValueError, match="change from pass to pass"):
        explain(network, random_images(1, dtype=torch.float32), 1, "ablation_cam")


def test_a_function_of_a_dictionary_is_given_the_dictionary(recwarn: pytest.WarningsRecorder) -> None:
    """Regression: it was given the logits first, whose indexing by a word PyTorch warned of."""

    class Named(Net):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": super().forward(x)}

    torch.manual_seed(3)
    network = Named(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).eval()
    images = random_images(2, dtype=torch.float32)
    whole = explain(network, images, lambda y: y["out"][:, 1], "grad_cam").maps["grad_cam"]
    alone = explain(network, images, lambda y: y[:, 1], "grad_cam").maps["grad_cam"]
    assert torch.equal(whole, alone)
    assert not len(recwarn)


class Shuffle(nn.Module):
    """Groups of channels change places, as in ShuffleNet: a view after a transposition."""

    def forward(self, x: Tensor) -> Tensor:
        count, channels, *size = x.shape
        return x.view(count, 2, channels // 2, *size).transpose(1, 2).contiguous().view(count, channels, *size)


def test_a_view_after_a_transposition_runs_without_the_trunk() -> None:
    torch.manual_seed(3)
    mixed = nn.Conv2d(CHANNELS, 4, 3)
    network = Net(mixed, Shuffle(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    network, images = network.double().eval(), random_images(2)
    game = ChannelGame.of(network, images)
    found = game.value(ROWS, 1)
    assert game.head.module is not None
    assert torch.allclose(found, torch.stack([masked_logits(network, x, ROWS)[:, 1] for x in images]), atol=1e-9)

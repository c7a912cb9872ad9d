"""Ablation-, SHAP-, LIFT-, LRP- and LIME-CAM against captum, grad-cam, brute force and plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from campanion import explain
from campanion.game.game import ChannelGame
from captum.attr import DeepLift, FeatureAblation
from nets import CHANNELS, CLASSES, Net, all_coalitions, masked_logits, net, random_images, shapley_of
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

EVERY = ["linear", "linear_flat", "linear_norm", "mlp", "mlp_norm", "pixel", "pixel_norm", "convolutions", "residual"]
MASK = torch.arange(CHANNELS)[None, :, None, None].repeat(1, 1, 6, 6)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize("name", EVERY)
def test_ablation_is_captums_feature_ablation_of_the_head(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    ours = explain(game.parts.model, game.images, [1, 3], "ablation_cam").weights["ablation_cam"]
    theirs = FeatureAblation(game.head.module).attribute(
        game.activations, target=torch.tensor([1, 3]), feature_mask=MASK, perturbations_per_eval=1
    )
    assert torch.allclose(ours, theirs[:, :, 0, 0], atol=1e-12)


@pytest.mark.parametrize("name", ["branches", "around"])
def test_ablation_of_networks_that_cannot_be_cut(name: str) -> None:
    model, images = net(name), random_images()
    ours = explain(model, images, 2, "ablation_cam").weights["ablation_cam"]
    rows = torch.cat([torch.ones(1, CHANNELS), 1 - torch.eye(CHANNELS)])
    for b in range(2):
        values = masked_logits(model, images[b], rows)[:, 2]
        assert torch.allclose(ours[b], values[0] - values[1:], atol=1e-12)


def test_ablation_and_grad_cams_ablation_where_the_logit_is_positive_or_negative() -> None:
    """Grad-cam divides by the logit, which turns the whole map upside down where the logit is negative; we do not."""
    images = random_images(1, dtype=torch.float32)
    for shift, sign in ((30, 1), (-30, -1)):
        model = net("mlp", dtype=torch.float32)
        model.fc3.bias.data.fill_(shift)
        model.fc3.weight.data.mul_(30)
        ours = explain(model, images, 1, "ablation_cam")
        assert float(ours.scores[0]) * sign > 0
        # Channels are removed by setting them to 0 only if the layer has a 0 somewhere: so it has, after a ReLU.
        with pytorch_grad_cam.AblationCAM(model, [model.target]) as cam:
            activations = ChannelGame.of(model, images).activations.numpy()
            theirs = cam.get_cam_weights(images, model.target, [ClassifierOutputTarget(1)], activations, None)
        theirs = torch.as_tensor(np.asarray(theirs, dtype=np.float32)).reshape(1, CHANNELS)
        assert cosine(ours.weights["ablation_cam"], theirs) * sign > 0.9999


@pytest.mark.filterwarnings("ignore:Input Tensor", "ignore:Setting forward")
@pytest.mark.parametrize("name", EVERY)
def test_lift_is_captums_deep_lift_and_sums_to_the_difference(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    target = torch.tensor([1, 3])
    ours = explain(game.parts.model, game.images, target, "lift_cam").weights["lift_cam"]
    everything = game.score(target) - game.value(torch.zeros(1, CHANNELS), target)[:, 0]
    assert torch.allclose(ours.sum(1), everything, atol=1e-10)
    theirs = DeepLift(game.head.module).attribute(
        game.activations.clone(), torch.zeros_like(game.activations), target=target
    )
    assert torch.allclose(ours, theirs.sum((2, 3)).detach(), atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "linear_flat", "linear_norm"])
def test_linear_heads_give_one_answer(name: str) -> None:
    model, images = net(name), random_images()
    e = explain(model, images, 2, ("ablation_cam", "shap_cam", "lift_cam"), orderings=1)
    truth = torch.stack([shapley_of(masked_logits(model, x, all_coalitions())[:, 2]) for x in images])
    for method, weights in e.weights.items():
        assert torch.allclose(weights, truth, atol=1e-12), method


class Mixed(Net):
    """A generic head of one more convolution and ``step``."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.conv, self.step, self.fc = nn.Conv2d(8, 8, 3, padding=1), step, nn.Linear(8, CLASSES)
        self.conv.weight.data.mul_(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.step(self.conv(self.target(self.stem(x)))).mean((2, 3)))


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.sigmoid()


class Added(nn.Module):
    """A residual unit whose ReLU comes first: two read its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 2 * x.relu()


CHAINS = [
    nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
    nn.Sequential(nn.Hardswish(), nn.ReLU6(), nn.Tanh()),
    nn.Sequential(Added(), nn.Tanh()),
]


@pytest.mark.parametrize(
    "step", [nn.SiLU(), nn.ReLU6(), nn.GELU(), nn.Hardswish(), nn.Tanh(), nn.MaxPool2d(2), *CHAINS]
)
def test_lift_sums_to_the_difference_for_activations_that_captum_does_not_know(step: nn.Module) -> None:
    torch.manual_seed(0)
    model, images = Mixed(step).double().eval(), random_images()
    game = ChannelGame.of(model, images)
    assert game.head.kind == "generic"
    lifted = explain(model, images, 1, "lift_cam").weights["lift_cam"]
    everything = game.score(1) - game.value(torch.zeros(1, CHANNELS), 1)[:, 0]
    assert torch.allclose(lifted.sum(1), everything, atol=1e-10)


@pytest.mark.parametrize("step", [Gate(), nn.MaxPool2d(3, 1)])
def test_lift_refuses_what_it_cannot_attribute(step: nn.Module) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="do not sum to"):
        explain(Mixed(step).double().eval(), random_images(), 1, "lift_cam")


def test_shap_cam_is_the_games_shapley_value_with_its_options() -> None:
    model, images = net("mlp"), random_images()
    game = ChannelGame.of(model, images)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    ours = explain(model, images, [1, 2], "shap_cam", orderings=10, antithetic=True, generator=generators[0])
    expected = game.shapley([1, 2], 10, generators[1], antithetic=True).values
    assert torch.equal(ours.weights["shap_cam"], expected)


def test_a_head_that_cannot_be_cut_out_is_said() -> None:
    for method in ("lift_cam", "lrp_cam"):
        with pytest.raises(ValueError, match="'target' cannot be cut out of this network"):
            explain(net("branches"), random_images(), 1, method)


@pytest.mark.parametrize("name", ["linear", "mlp", "mlp_view", "pixel", "convolutions"])
def test_lrp_is_input_times_gradient_for_relu_networks(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    ours = explain(game.parts.model, game.images, [0, 1], "lrp_cam").weights["lrp_cam"]
    expected = (game.gradient([0, 1]) * game.activations).sum((2, 3))
    assert torch.allclose(ours, expected, atol=1e-6 * expected.abs().max())


def test_lrp_says_what_captum_cannot_take() -> None:
    torch.manual_seed(0)
    model = Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, CLASSES))
    for _ in range(2):
        with pytest.raises(ValueError, match="captum's LRP cannot take the head after 'target'"):
            explain(model.double().eval(), random_images(), 1, "lrp_cam")


def test_lime_cam_follows_the_shapley_values_of_a_linear_head() -> None:
    model, images = net("linear"), random_images()
    model.tail[2].weight.data.mul_(100)  # LIME's lasso has a fixed penalty: logits must not be tiny
    truth = explain(model, images, 1, "lift_cam").weights["lift_cam"]
    first, again = (
        explain(model, images, 1, "lime_cam", samples=300, generator=torch.Generator().manual_seed(2)) for _ in range(2)
    )
    for b in range(2):
        assert cosine(first.weights["lime_cam"][b], truth[b]) > 0.95
    assert torch.equal(first.weights["lime_cam"], again.weights["lime_cam"])
    few = explain(model, images, 1, "lime_cam").weights["lime_cam"]
    assert not torch.equal(few, first.weights["lime_cam"])


def test_nothing_of_captums_notices_reaches_the_user(recwarn: pytest.WarningsRecorder) -> None:
    for name, method in (("convolutions", "lift_cam"), ("mlp", "lrp_cam"), ("mlp", "gradient"), ("mlp", "lime_cam")):
        explain(net(name), random_images(), 1, method)
    assert not [str(w.message) for w in recwarn]

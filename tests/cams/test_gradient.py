"""CAMs from gradients against grad-cam, torchcam and their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
from campanion import explain
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, Net, net, random_images
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

KINDS = ["linear", "mlp", "pixel", "convolutions", "residual"]


def whole_gradient(model: nn.Module, images: torch.Tensor, targets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A and dF^c/dA in float64 from one pass through the whole network."""
    kept = []
    handle = model.target.register_forward_hook(lambda _m, _i, out: kept.append(out) or out.clone())
    logits = model(images)
    handle.remove()
    (slope,) = torch.autograd.grad(sum(logits[b, c] for b, c in enumerate(targets)), kept[0])
    return kept[0].detach().numpy(), slope.numpy()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("method", "theirs"), [("grad_cam", "GradCAM"), ("xgrad_cam", "XGradCAM"), ("layer_cam", "LayerCAM")]
)
def test_pytorch_grad_cam(name: str, method: str, theirs: str) -> None:
    model, images = net(name, dtype=torch.float32), random_images(3, dtype=torch.float32)
    ours = explain(model, images, [0, 2, 3], method).maps[method].numpy()
    with getattr(pytorch_grad_cam, theirs)(model, [model.target]) as cam:
        expected = cam(images, [ClassifierOutputTarget(c) for c in (0, 2, 3)])
    # It scales to 0..1 before enlarging, we after: the range of the enlarged map is smaller.
    low, high = expected.min((1, 2), keepdims=True), expected.max((1, 2), keepdims=True)
    scaled = (expected - low) / np.maximum(high - low, 1e-6)
    assert np.abs(ours - scaled).max() < 2e-3
    assert ours.max() == 1


@pytest.mark.parametrize("name", KINDS)
def test_torchcam(name: str) -> None:
    model, images = net(name), random_images(3)
    ours = explain(model, images, [0, 2, 3], ("grad_cam", "layer_cam"))
    for method, theirs in (("grad_cam", "GradCAM"), ("layer_cam", "LayerCAM")):
        with getattr(torchcam.methods, theirs)(model, "target") as cam:
            (expected,) = cam([0, 2, 3], model(images), normalized=False)
        assert torch.allclose(ours.raw[method], expected, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_formulas_in_float64(name: str) -> None:
    model, images, targets = net(name), random_images(), [1, 3]
    e = explain(model, images, targets, ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam"))
    activations, slope = whole_gradient(model, images, targets)
    expected = {"grad_cam": slope.mean((2, 3)), "xgrad_cam": np.zeros((2, 8)), "grad_cam_pp": np.zeros((2, 8))}
    for b in range(2):
        for k in range(8):
            a, g = activations[b, k], slope[b, k]
            expected["xgrad_cam"][b, k] = (g * a).sum() / (a.sum() + 1e-6)
            for g_ij in g.flat:
                if g_ij > 0:
                    expected["grad_cam_pp"][b, k] += g_ij**2 / (2 * g_ij**2 + a.sum() * g_ij**3) * g_ij
    for method, weights in expected.items():
        assert np.allclose(e.weights[method], weights, atol=1e-12), method
        maps = np.maximum(np.einsum("bk,bkhw->bhw", weights, activations), 0)
        assert np.allclose(e.raw[method], maps, atol=1e-12), method
    layer = np.maximum(np.maximum(slope, 0) * activations, 0).sum(1)
    assert np.allclose(e.raw["layer_cam"], layer, atol=1e-12)
    game = ChannelGame.of(model, images)
    lifted = explain(model, images, targets, "xgrad_cam", variant="lift").weights["xgrad_cam"]
    assert torch.allclose(lifted, (game.gradient(targets) * game.activations).sum((2, 3)), atol=1e-12)


def test_grad_cam_pp_of_pytorch_grad_cam_where_its_epsilon_is_negligible() -> None:
    model, images = net("mlp"), random_images()
    model.fc3.weight.data.mul_(1e4)  # it adds 1e-6 to alpha's denominator, which g^2 must exceed by far
    slope = whole_gradient(model, images, [1, 3])[1]
    assert np.abs(slope[slope != 0]).min() > 1e-2
    ours = explain(model, images, [1, 3], "grad_cam_pp").raw["grad_cam_pp"].numpy()
    with pytorch_grad_cam.GradCAMPlusPlus(model, [model.target]) as cam:
        game = ChannelGame.of(model, images)
        weights = cam.get_cam_weights(None, None, None, game.activations.numpy(), slope)
    expected = np.maximum(np.einsum("bk,bkhw->bhw", weights, game.activations.numpy()), 0)
    assert np.allclose(ours, expected, rtol=1e-3)


def test_cam_grad_cam_and_xgrad_cam_agree_for_average_pooling() -> None:
    model, images = net("linear", dtype=torch.float32), random_images(4, dtype=torch.float32)
    model.tail[2].weight.data.abs_()  # otherwise CAM, which is not rectified, is another map
    e = explain(model, images, 2, ("cam", "grad_cam", "xgrad_cam"))
    assert torch.allclose(e.maps["cam"], e.maps["grad_cam"], atol=1e-5)
    assert torch.allclose(e.maps["xgrad_cam"], e.maps["grad_cam"], atol=1e-3)


def test_cam_uses_the_classifiers_weights() -> None:
    model, images = net("linear"), random_images()
    e = explain(model, images, [1, 4], "cam")
    assert torch.equal(e.weights["cam"], model.tail[2].weight[[1, 4]])
    with torchcam.methods.CAM(model, "target", "tail.2") as cam:
        model(images)
        (expected,) = cam([1, 4], normalized=False)
    assert torch.allclose(e.raw["cam"], expected)  # not rectified: it has negative values
    assert e.raw["cam"].amin() < 0
    half = explain(model.bfloat16(), images.bfloat16(), [1, 4], "cam")
    assert torch.equal(half.weights["cam"].double(), model.tail[2].weight[[1, 4]].double())
    for other in ("mlp", "pixel", "residual", "linear_flat"):
        with pytest.raises(ValueError, match="cam needs a head of global average pooling"):
            explain(net(other), images, 1, "cam")
    # Linear in the channels, and no average of them.
    for *pooling, layer in ((nn.AdaptiveMaxPool2d(1),), (nn.Sigmoid(), nn.AdaptiveAvgPool2d(1))):
        other = Net(*pooling, layer, nn.Flatten(), nn.Linear(CHANNELS, CLASSES)).double().eval()
        with pytest.raises(ValueError, match="cam needs a head of global average pooling"):
            explain(other, images, 1, "cam")


def test_negative_logits_and_zero_gradients_are_no_trouble() -> None:
    model, images = net("mlp"), random_images()
    model.fc3.bias.data.fill_(-50)
    lowered = explain(model, images, 1, ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam"))
    assert (lowered.scores < 0).all()
    model.fc3.bias.data.fill_(50)
    raised = explain(model, images, 1, ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam"))
    for method in raised.maps:
        assert torch.equal(lowered.maps[method], raised.maps[method])
    model.fc3.weight.data.zero_()
    flat = explain(model, images, 1, ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam"))
    for method in flat.maps:
        assert flat.degenerate[method].all()
        assert not flat.maps[method].any()

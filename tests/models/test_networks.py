"""Every classification network of torchvision has a layer that is explained, and the documentation says which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion import explain
from campanion.game import ChannelGame
from campanion.models import load_model
from network_table import NAMES, PAGE, START, build, row
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

#: The smallest network of each family, the side of its images, and how grad-cam is told where its channels are.
SMALLEST = {
    "alexnet": (64, None), "convnext_tiny": (64, None), "densenet121": (64, None), "efficientnet_b0": (64, None),
    "googlenet": (64, None), "inception_v3": (96, None), "maxvit_t": (224, None), "mnasnet0_5": (64, None),
    "mobilenet_v2": (64, None), "mobilenet_v3_small": (64, None), "regnet_y_400mf": (64, None), "resnet18": (64, None),
    "shufflenet_v2_x0_5": (64, None), "squeezenet1_1": (64, None), "swin_t": (64, "last"), "swin_v2_t": (64, "last"),
    "vgg11": (32, None), "vit_b_32": (224, "tokens"),
}  # fmt: skip
PLACES = {
    None: None,
    "last": lambda out: out.permute(0, 3, 1, 2),
    "tokens": lambda out: out[:, 1:].reshape(len(out), 7, 7, -1).permute(0, 3, 1, 2),
}


def test_the_page_says_what_is_explained_of_every_network():
    stored = PAGE.read_text(encoding="utf-8").split(START)[1].splitlines()
    assert len(stored) == len(NAMES)
    assert stored == [row(name) for name in NAMES]


@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_of_each_family_explains_as_grad_cam_does(name: str) -> None:
    torch.manual_seed(0)
    side, place = SMALLEST[name]
    model = build(name, classes=5)
    last = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    nn.init.normal_(last.weight, std=0.5)  # ViT's classifier is made of zeros
    images = torch.randn(2, 3, side, side)
    game = ChannelGame.of(model, images)
    e = explain(model, images, [1, 2], ("grad_cam", "layer_cam", "xgrad_cam"))
    for maps in e.maps.values():
        assert maps.shape == (2, side, side)
        assert maps.isfinite().all()
    with GradCAM(model, [model.get_submodule(game.parts.name)], reshape_transform=PLACES[place]) as cam:
        theirs = cam(input_tensor=images, targets=[ClassifierOutputTarget(1), ClassifierOutputTarget(2)])
    if name == "densenet121":  # its next ReLU changes the output in place, and so what grad-cam has kept of it
        theirs = by_hand(model, game.parts.name, images)
    for ours, their, dead in zip(e.maps["grad_cam"], theirs, e.degenerate["grad_cam"], strict=True):
        assert dead or np.abs(ours.numpy() - (their - their.min()) / np.ptp(their)).max() < 1e-4
    rows = (torch.rand(3, game.channels) < 0.5).float()
    expected = torch.stack([masked(model, game, images, r, place) for r in rows], 1)
    assert torch.allclose(game.value(rows, [1, 2]), expected, atol=1e-4 * float(game.logits.detach().abs().max() + 1))


def by_hand(model: nn.Module, layer: str, images: Tensor) -> np.ndarray:
    """Grad-CAM's maps at the images' size, from a copy of the layer's output."""
    kept = []

    def keep(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        kept.extend((out, out.detach().clone()))
        return out.clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(images)
    handle.remove()
    (slope,) = torch.autograd.grad(logits[0, 1] + logits[1, 2], kept[0])
    maps = (slope.mean((2, 3), keepdim=True) * kept[1]).sum(1, keepdim=True).relu()
    return nn.functional.interpolate(maps, images.shape[2:], mode="bilinear")[:, 0].numpy()


@torch.no_grad()
def masked(model: nn.Module, game: ChannelGame, images: Tensor, present: Tensor, place: str | None) -> Tensor:
    """Logits [2] of the network with some channels of the map set to zero by a hook; a class token stays."""

    def change(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        if place is None:
            return out * present[:, None, None]
        masked = out * present
        return torch.cat([out[:, :1], masked[:, 1:]], 1) if place == "tokens" else masked

    handle = model.get_submodule(game.parts.name).register_forward_hook(change)
    logits = model(images)
    handle.remove()
    return logits[[0, 1], [1, 2]]


def test_load_model_knows_every_family():
    for name in ("swin_t", "vit_b_32", "maxvit_t"):
        with torch.device("cpu"):
            model = load_model(name, weights="random", num_classes=3)
        assert model.target_layer in dict(model.named_modules())

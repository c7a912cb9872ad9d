"""Networks of timm, against masked passes of the whole network, autograd, grad-cam and torchcam."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchcam.methods
from campanion import explain
from campanion.game.game import ChannelGame
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

SMALL = {"img_size": 64, "depth": 2}
# name -> (options, layer, side of the map, class tokens and registers or None (no tokens), channels last)
NETWORKS = {
    "vit_tiny_patch16_224": (SMALL, "blocks.1.norm1", 4, 1, False),
    "deit_tiny_distilled_patch16_224": (SMALL, "blocks.1.norm1", 4, 2, False),
    "vit_small_patch14_reg4_dinov2": ({"img_size": 56, "depth": 1}, "blocks.0.norm1", 4, 5, False),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1)}, "layers.3", 2, None, True
    ),
    "convnext_atto": ({}, "stages.3", 2, None, False),
    "efficientnet_lite0": ({"drop_path_rate": 0.2}, "bn2", 2, None, False),
}  # fmt: skip


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, **NETWORKS[name][0]).train()  # dropped paths are switched off


def as_maps(output: Tensor, side: int, prefix: int | None, last: bool) -> Tensor:
    if prefix is not None:
        return output[:, prefix:].transpose(1, 2).reshape(len(output), -1, side, side)
    return output.permute(0, 3, 1, 2) if last else output


def masked(net: nn.Module, images: Tensor, row: Tensor, layer: str, prefix: int | None, last: bool) -> Tensor:
    def mask(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        shape = (-1,) if last or prefix is not None else (-1, 1, 1)
        return torch.cat([output[:, : prefix or 0], output[:, prefix or 0 :] * row.view(shape)], 1)

    handle = net.get_submodule(layer).register_forward_hook(mask)
    with torch.no_grad():
        logits = net(images)
    handle.remove()
    return logits


@pytest.mark.parametrize("name", NETWORKS)
def test_the_game_and_grad_cam_are_those_of_the_whole_network(name: str) -> None:
    _, layer, side, prefix, last = NETWORKS[name]
    size = NETWORKS[name][0].get("img_size", 64)
    net, images = network(name), torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    game = ChannelGame.of(net, images, layer)
    assert game.activations.shape[2:] == (side, side)
    rows = (torch.rand(3, game.channels, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    found, weights = game.value(rows, 1)[0], explain(net, images, 1, "grad_cam", layer).weights["grad_cam"]
    assert game.head.module is not None  # nothing was run again from the image on
    assert net.training
    net.eval()
    right = torch.stack([masked(net, images, row, layer, prefix, last)[0, 1] for row in rows])
    assert torch.allclose(found, right, atol=1e-5 * float(right.abs().max()) + 1e-6)
    kept = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.append(output))
    logit = net(images)[0, 1]
    handle.remove()
    slope = as_maps(torch.autograd.grad(logit, kept[0])[0], side, prefix, last)
    assert torch.allclose(weights, slope.mean((2, 3)), rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "convnext_atto"])
def test_grad_cam_is_that_of_other_libraries(name: str) -> None:
    _, layer, side, prefix, last = NETWORKS[name]
    net, images = network(name).eval(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for target in range(5):
        e = explain(net, images, target, "grad_cam", layer)
        if e.degenerate["grad_cam"].any():  # they divide such a map by a small number
            continue
        with GradCAM(
            net, [net.get_submodule(layer)], reshape_transform=lambda output: as_maps(output, side, prefix, last)
        ) as cam:
            theirs = cam(images, [ClassifierOutputTarget(target)])[0]
        theirs = (theirs - theirs.min()) / (theirs.max() - theirs.min())
        assert np.abs(e.maps["grad_cam"][0].numpy() - theirs).max() < 1e-4
        if name == "convnext_atto":
            with torchcam.methods.GradCAM(net, layer) as extractor:
                raw = extractor(target, net(images), normalized=False)[0]
            assert torch.allclose(e.raw["grad_cam"], raw, rtol=1e-4, atol=1e-5 * float(raw.max()))


def test_lift_cam_of_an_efficientnet_sums_to_what_its_channels_change() -> None:
    net, images = network("efficientnet_lite0").eval(), torch.randn(2, 3, 64, 64)
    e = explain(net, images, 1, "lift_cam", "bn2")
    with torch.no_grad():
        moved = net(images)[:, 1] - masked(net, images, torch.zeros(1280), "bn2", None, False)[:, 1]
    assert torch.allclose(e.weights["lift_cam"].sum(1), moved, rtol=1e-3, atol=1e-5)

"""The cut of a network: torchvision's heads are recognised and answer as the networks do; bad layers are named."""

from __future__ import annotations

import pytest
import torch
import torchvision
from campanion import load_model
from campanion.game.game import ChannelGame
from campanion.game.split import split
from nets import NETS, masked_logits, net, random_images
from torch import nn

KINDS = {
    "alexnet": "mlp",
    "squeezenet1_1": "pixel",
    "resnet18": "linear",
    "mobilenet_v2": "linear",
    "densenet121": "linear",
}


@pytest.mark.parametrize("name", KINDS)
def test_torchvision_heads_answer_as_the_network_does(name: str) -> None:
    model = load_model(name, weights="random", num_classes=20)
    images = random_images(2, size=64, dtype=torch.float32)
    game = ChannelGame.of(model, images)
    assert game.head.kind == KINDS[name]
    rows = torch.rand(4, game.channels, generator=torch.Generator().manual_seed(0)) < 0.5
    naive = torch.stack([masked_logits(model, x, rows, model.target_layer)[:, 7] for x in images])
    assert (game.value(rows, 7) - naive).abs().max() <= 2e-6 * game.logits.abs().max()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vgg16", "mlp"), ("resnet50", "linear"), ("resnext50_32x4d", "linear"), ("mobilenet_v3_small", "mlp")],
)
def test_heads_are_recognised_without_weights(name: str, kind: str) -> None:
    with torch.device("meta"):
        model = load_model(name, weights="random", device="meta")
    game = ChannelGame.of(model, torch.zeros(1, 3, 224, 224, device="meta"))
    assert game.head.kind == kind
    assert game.parts.name == model.target_layer
    assert split(model, model.get_submodule(model.target_layer)).name == model.target_layer


def test_an_earlier_layer_of_a_resnet_has_a_generic_head() -> None:
    model = torchvision.models.resnet18(num_classes=6).double().eval()
    images = random_images(1, size=48)
    for layer in ("layer3", "layer2.1.conv1"):  # the second is inside a block: the shortcut goes around it
        game = ChannelGame.of(model, images, layer)
        assert game.head.kind == "generic"
        assert game.head.module is not None
        rows = torch.rand(3, game.channels, generator=torch.Generator().manual_seed(0)) < 0.7
        assert torch.allclose(game.value(rows, 2)[0], masked_logits(model, images[0], rows, layer)[:, 2], atol=1e-10)


def test_in_place_layers_after_the_target_do_not_change_what_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), *net("linear").tail).double().eval()
    images = random_images()
    played = split(model, "0").play(images)
    activations, logits = played.activations, played.logits
    assert torch.equal(activations, model[0](images))
    assert activations.amin() < 0
    assert torch.equal(logits, model(images))


@pytest.mark.parametrize("name", NETS)
def test_a_head_shares_parameters_and_leaves_hooks_and_flags(name: str) -> None:
    model = net(name).train()
    model.tail.training = False
    calls = []
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    before = [(m, m.training, dict(m._forward_hooks)) for m in model.modules()]
    game = ChannelGame.of(model, random_images())
    assert [(m, m.training, dict(m._forward_hooks)) for m in model.modules()] == before
    assert game.head.kind == NETS[name][1]
    calls.clear()
    if game.head.module is not None:
        own = {p.data_ptr() for p in model.parameters()}
        assert all(p.data_ptr() in own for p in game.head.module.parameters())
        game.head(torch.randn(2, 8, 6, 6).double())
        assert not calls
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU) and m is not model.target]
    assert all(r.inplace for r in relus)


class Positive(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x > 0


def test_unknown_and_unfit_layers_are_named() -> None:
    model = net("mlp")
    with pytest.raises(ValueError, match=r"Unknown layer 'targt'. Did you mean 'target'"):
        split(model, "targt")
    with pytest.raises(ValueError, match="Unknown layer ''"):
        split(model, "")
    with pytest.raises(ValueError, match="no module of this model"):
        split(model, nn.ReLU())
    with pytest.raises(ValueError, match=r"no \.target_layer"):
        split(nn.Sequential(nn.Conv2d(3, 2, 1)))
    with pytest.raises(ValueError, match=r"Layer 'fc1' gives \(2, 16\)"):
        ChannelGame.of(model, random_images(), "fc1")
    with pytest.raises(ValueError, match=r"Layer 'relu' ran 2 times in a pass"):
        ChannelGame.of(net("convolutions"), random_images(), "relu")
    with pytest.raises(ValueError, match="must return logits"):
        ChannelGame.of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), random_images(dtype=torch.float32), "0")
    with pytest.raises(ValueError, match="must return floating-point logits"):
        ChannelGame.of(nn.Sequential(model, Positive()), random_images(), "0.target")
    with pytest.raises(ValueError, match=r"cannot take images of shape \(2, 4, 24, 24\)"):
        ChannelGame.of(model, torch.zeros(2, 4, 24, 24).double())
    assert all(not m._forward_hooks for m in model.modules())

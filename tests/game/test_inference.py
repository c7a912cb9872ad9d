"""The inference copy gives the network's own logits, and the network is left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from campanion.inference import FastNetwork, eval_mode, fast
from nets import NETS, net, random_images
from torch import nn


def _with_statistics(model: nn.Module) -> nn.Module:
    """Random running statistics: with the initial ones, folding could go wrong unnoticed."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_torchvision_networks_folded(name: str) -> None:
    model = _with_statistics(torchvision.models.get_model(name, num_classes=10).double())
    images, copied = random_images(2, 64), fast(model)
    for _ in range(3):  # the first batch runs unfolded
        assert torch.allclose(copied(images), model(images), rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in copied.modules())
    single, images = model.float(), images.float()
    copied = fast(single)
    for _ in range(2):
        assert (copied(images) - single(images)).abs().max() <= 1e-5 * single(images).abs().max()


@pytest.mark.parametrize("name", NETS)
def test_small_networks(name: str) -> None:
    model, images = _with_statistics(net(name)), random_images()
    copied = fast(model)
    for _ in range(3):
        assert torch.allclose(copied(images), model(images), atol=1e-10)


class Shared(nn.Module):
    """Batch norms that must stay: their convolution is read twice or called twice, or they are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(3) for _ in range(3))
        self.lonely = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lonely(x)
        first = self.conv1(x)
        x = self.norm1(first) + first
        x = self.norm2(self.conv2(self.norm2(self.conv4(x))))
        return self.conv3(self.norm3(self.conv3(x))).mean((2, 3))


def test_shared_modules_are_not_folded() -> None:
    model, images = _with_statistics(Shared().double()), random_images()
    copied = fast(model)
    for _ in range(3):
        assert torch.allclose(copied(images), model(images), atol=1e-12)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in copied.modules()) == 4


class Chooses(nn.Module):
    """It normalises bright images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (self.norm(y) if x.mean() > 0.2 else y).mean((2, 3))


def test_a_norm_that_only_some_images_pass_is_not_folded() -> None:
    model, images = _with_statistics(Chooses().double()), torch.rand(2, 3, 24, 24).double()
    images[1] *= 0.1
    copied = fast(model)
    for image in images.split(1):
        assert torch.allclose(copied(image), model(image), atol=1e-12)


def test_modules_that_hold_each_other_are_folded() -> None:
    model = _with_statistics(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU()))
    model[0].owner = model[1]
    model[1].part = model[0]
    images = torch.rand(2, 3, 8, 8)
    copied = fast(model)
    for _ in range(2):
        assert torch.allclose(copied(images), model(images), atol=1e-5)


def test_the_network_is_not_touched_and_the_copy_is_frozen() -> None:
    model = _with_statistics(torchvision.models.resnet18(num_classes=4)).train()
    model.layer1.eval()
    state = copy.deepcopy(model.state_dict())
    flags = [m.training for m in model.modules()]
    images = random_images(dtype=torch.float32)
    logits = fast(model)(images)
    assert torch.equal(logits, fast(model)(images))  # eval mode: no batch statistics, no dropout
    assert not logits.requires_grad
    assert not any(p.requires_grad for p in fast(model).parameters())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert all(p.requires_grad for p in model.parameters())


def test_precision_and_plain_functions() -> None:
    model, images = net("mlp", dtype=torch.float32), random_images(dtype=torch.float32)
    half = fast(model, "bfloat16")(images)
    assert half.dtype == torch.float32
    assert 0 < (half - model(images)).abs().max() < 0.05 * model(images).abs().max()
    copied = fast(model)
    assert isinstance(copied, FastNetwork)
    assert fast(copied) is copied
    assert fast(torch.sin) is torch.sin
    with pytest.raises(ValueError, match=r"precision must be one of \['bfloat16', 'float32'\], not 'int8'"):
        fast(model, "int8")


def test_eval_mode_restores_mixed_flags_even_after_an_error() -> None:
    model = net("mlp").train()
    model.drop.eval()
    flags = {n: m.training for n, m in model.named_modules()}

    def fail() -> None:
        with eval_mode(model):
            assert not any(m.training for m in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {n: m.training for n, m in model.named_modules()} == flags


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "squeezenet1_1", "convnext_tiny"])
def test_a_processor_without_bfloat16_rounds_to_it(name: str, monkeypatch) -> None:
    """In place of autocast, which takes many times as long there: the same numbers but for sums' order."""
    torch.manual_seed(0)
    model = _with_statistics(torchvision.models.get_model(name, num_classes=10))
    images = random_images(2, 64).float()
    exact = model(images)
    shift = {}
    for knows in (True, False):
        monkeypatch.setattr("campanion.inference._knows_bfloat16", lambda knows=knows: knows)
        copied = fast(model, "bfloat16")
        logits = copied(images)
        assert torch.equal(logits, logits.bfloat16().float())
        shift[knows] = logits - exact
        assert not any(isinstance(m, nn.BatchNorm2d) for m in copied.modules())
    assert shift[False].abs().max() > 0
    # The rounding error of one is that of the other, up to what another order of summing flips.
    assert (shift[False] - shift[True]).norm() < 1.2 * shift[True].norm()
    assert 0.5 < shift[False].norm() / shift[True].norm() < 2
    assert torch.equal(model(images), exact)  # the network keeps its own weights

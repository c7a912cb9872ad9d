"""Score-CAM, Group-CAM, RISE and CAMERAS against plain loops and torchcam."""

from __future__ import annotations

import pytest
import torch
import torchcam.methods
from campanion import explain
from campanion.game.game import ChannelGame
from nets import CLASSES, Net, net, random_images
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur


def shown(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """Logits [C] of one image times one mask."""
    with torch.no_grad():
        return model((image * mask)[None])[0]


def scaled(values: Tensor) -> Tensor:
    return (values - values.min()) / (values.max() - values.min())


def enlarged(maps: Tensor, size: int = 24) -> Tensor:
    return F.interpolate(maps[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("variant", ["authors", "cic"])
@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_score_cam_is_the_plain_loop(name: str, variant: str) -> None:
    model, images = net(name), random_images()
    model.stem.weight.data[6] = 0  # a constant channel, alive
    model.stem.bias.data[6] = 2.0
    model.stem.weight.data[2] = 0  # and a dead one
    model.stem.bias.data[2] = -1.0
    ours = explain(model, images, [1, 3], "score_cam", variant=variant).weights["score_cam"]
    activations = ChannelGame.of(model, images).activations
    for b, c in enumerate((1, 3)):
        weights, live = torch.zeros(8).double(), [0, 1, 3, 4, 5, 7]
        logits = torch.stack([shown(model, images[b], scaled(enlarged(activations[b, k]))) for k in live])
        weights[live] = logits.softmax(1)[:, c] if variant == "authors" else logits[:, c].softmax(0)
        assert torch.allclose(ours[b], weights, atol=1e-9)


def test_channel_softmax_is_torchcams_where_nothing_is_enlarged() -> None:
    """torchcam scales a channel before enlarging it and we after, as the paper: equal at the image's own size."""
    torch.manual_seed(0)
    trunk, pool = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), nn.AvgPool2d(4)
    model = nn.Sequential(*trunk, pool, nn.Flatten(), nn.Linear(288, CLASSES))
    model[4].weight.data.mul_(20)
    model, images = model.double().eval(), random_images()
    with torchcam.methods.ScoreCAM(model, "1") as cam, torch.no_grad():
        model(images)
        theirs = cam._get_weights([1, 3])[0]
    ours = explain(model, images, [1, 3], "score_cam", layer="1", variant="cic").weights["score_cam"]
    assert torch.allclose(ours, theirs, atol=1e-6)  # it adds 1e-8 to a channel's range
    assert ours.std() > 0.01


@pytest.mark.parametrize("groups", [3, 8, 32])
def test_group_cam_is_the_plain_loop(groups: int) -> None:
    model, images = net("mlp"), random_images(size=32)
    model.fc3.weight.data.mul_(30)
    model.pool = nn.AdaptiveMaxPool2d(3)
    ours = explain(model, images, [1, 3], "group_cam", groups=groups).raw["group_cam"]
    game = ChannelGame.of(model, images)
    weights, blurred = game.gradient([1, 3]).mean((2, 3)), gaussian_blur(images, [51, 51], [50.0, 50.0])
    size = {3: 3, 8: 1, 32: 1}[groups]
    for b, c in enumerate((1, 3)):
        before, total = model(blurred[b : b + 1]).softmax(1)[0, c], torch.zeros(8, 8).double()
        for start in range(0, 8, size):
            some = slice(start, start + size)
            part = (weights[b, some, None, None] * game.activations[b, some]).sum(0).relu()
            if part.max() == part.min():
                continue
            mask = scaled(enlarged(part, 32))
            after = model((images[b] * mask + blurred[b] * (1 - mask))[None]).softmax(1)[0, c]
            total += (after - before).relu() * part
        assert torch.allclose(ours[b], total.detach(), atol=1e-9)
        assert ours[b].any()
    with pytest.raises(ValueError, match=r"group_cam: groups must be .* at least 1, not 0"):
        explain(model, images, 1, "group_cam", groups=0)


def test_group_cam_of_images_smaller_than_its_blur() -> None:
    model, images = net("convolutions"), random_images(size=20)
    e = explain(model, images, 1, "group_cam")
    assert e.maps["group_cam"].shape == (2, 20, 20)


class Corner(nn.Module):
    """Sees nothing but the brightness of a square: rows 4 to 11, columns 12 to 19."""

    def __init__(self) -> None:
        super().__init__()
        self.target = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        bright = self.target(x)[:, 0, 4:12, 12:20].mean((1, 2))
        return torch.stack([bright, -bright], 1)


def test_rise_finds_the_informative_square() -> None:
    torch.manual_seed(0)
    model = Corner().double()
    model.target.weight.data.fill_(1.0)
    model.target.bias.data.fill_(-1.5)  # half of the square shown: both classes alike
    images = torch.ones(2, 3, 24, 24).double()
    options = {"layer": "target", "masks": 1500, "cells": 3}
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    first, again = (explain(model, images, [0, 1], "rise", generator=seeded, **options) for seeded in seeds)
    assert torch.equal(first.maps["rise"], again.maps["rise"])
    inside = torch.zeros(24, 24, dtype=torch.bool)
    inside[4:12, 12:20] = True
    positive, negative = first.maps["rise"]
    assert positive[inside].mean() > 0.8 > 0.5 > positive[~inside].mean()
    assert negative[inside].mean() < 0.2 < 0.5 < negative[~inside].mean()
    assert inside.flatten()[positive.argmax()]
    # Constant images and a constant network: the mean of the masks, 1 in expectation after the division by keep.
    model.target.weight.data.zero_()
    level = explain(model, images[:1], 0, "rise", layer="target", masks=2000, keep=0.3).raw["rise"]
    assert torch.allclose(level / model(images[:1]).softmax(1)[0, 0], torch.ones(1, 24, 24).double(), atol=0.15)
    alone = explain(model, images[1:], 1, "rise", layer="target", masks=50).raw["rise"]
    assert torch.allclose(explain(model, images, [0, 1], "rise", layer="target", masks=50).raw["rise"][1], alone[0])
    for wrong in ({"masks": 0}, {"cells": 0}, {"keep": 1.0}):
        with pytest.raises(ValueError, match=r"rise(: \w+ must be .* at least 1| needs 0 < keep < 1)"):
            explain(model, images, 0, "rise", layer="target", **wrong)


@pytest.mark.parametrize("sizes", [(24,), (24, 32, 40)])
def test_cameras_is_the_plain_formula(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Net(nn.Conv2d(8, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
    model.tail[4].bias.data = torch.tensor([0.0, 0, 5, 0, 0])  # one class at every size
    model, images = model.double().eval(), random_images()
    ours = explain(model, images, [1, 3], "cameras", sizes=sizes).raw["cameras"]
    for b, c in enumerate((1, 3)):
        maps, slopes = torch.zeros(2, 8, 24, 24).double()
        for size in sizes:
            larger = F.interpolate(images[b : b + 1], (size, size), mode="bicubic")
            game = ChannelGame.of(model, larger)
            for k in range(8):
                maps[k] += enlarged(game.activations[0, k]) / len(sizes)
                slopes[k] += enlarged(game.gradient(c)[0, k]) / len(sizes)
        expected = (maps * slopes).sum(0).relu() * len(sizes) ** 2
        assert torch.allclose(ours[b], expected, atol=1e-9)


def test_cameras_leaves_out_sizes_with_another_prediction() -> None:
    class Fickle(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits + 9 * F.one_hot(torch.tensor(1 if x.shape[-1] > 30 else 0), CLASSES)

    torch.manual_seed(0)
    model = Fickle(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)).double().eval()
    images = random_images()
    alone = explain(model, images, 2, "cameras", sizes=(24, 28)).raw["cameras"]
    assert torch.equal(explain(model, images, 2, "cameras", sizes=(24, 28, 40)).raw["cameras"], alone)


def test_unknown_variants() -> None:
    for method in ("score_cam", "xgrad_cam"):
        with pytest.raises(ValueError, match=rf"{method} variant must be one of 'authors', '\w+', not 'v3'"):
            explain(net("mlp"), random_images(), 1, method, variant="v3")

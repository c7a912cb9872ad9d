"""Attribution of pixels: formulas, completeness, draws, and what becomes of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion import explain
from nets import net, random_images
from torch import Tensor


def slope(model: torch.nn.Module, x: Tensor, c: int) -> Tensor:
    """d logit_c / d x of images [N, 3, H, W]."""
    x = x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(model(x)[:, c].sum(), x)[0]


@pytest.mark.parametrize("name", ["mlp", "residual", "branches"])
def test_gradient(name: str) -> None:
    model, images = net(name), random_images()
    e = explain(model, images, [1, 3], "gradient")
    for b, c in enumerate((1, 3)):
        assert torch.allclose(e.raw["gradient"][b], slope(model, images[b : b + 1], c)[0].abs().sum(0), atol=1e-12)
    assert e.raw["gradient"].shape == (2, 24, 24)


def test_integrated_gradients_are_complete() -> None:
    model, images = net("mlp"), random_images()
    points, weights = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(50))
    e = explain(model, images, [1, 3], "integrated_gradients", steps=50)
    for b, c in enumerate((1, 3)):
        steps = torch.stack([images[b] * (p + 1) / 2 for p in points])
        signed = images[b] * torch.einsum("n,nchw->chw", weights / 2, slope(model, steps, c))
        difference = model(images[b : b + 1])[0, c] - model(torch.zeros_like(images[:1]))[0, c]
        assert abs(signed.sum() - difference) < 0.02 * signed.abs().sum()
        assert torch.allclose(e.raw["integrated_gradients"][b], signed.abs().sum(0), rtol=1e-4, atol=1e-7)


def test_smooth_grad_is_the_mean_of_noisy_gradients() -> None:
    model, images = net("mlp_norm"), random_images()  # smooth: its gradient changes little under little noise
    little = explain(model, images, 1, "smooth_grad", samples=64, noise=0.002).raw["smooth_grad"]
    plain = explain(model, images, 1, "gradient").raw["gradient"]
    assert torch.allclose(little, plain, rtol=0.05, atol=0.01 * float(plain.max()))
    seeds = [torch.Generator().manual_seed(s) for s in (1, 1, 2)]
    first, again, other = (
        explain(model, images, 1, "smooth_grad", samples=8, noise=0.5, generator=g).raw["smooth_grad"] for g in seeds
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-3)


def test_lime_finds_the_square_that_counts() -> None:
    class Bright(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.target = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            seen = self.target(x)[:, 0, 4:12, 12:20].mean((1, 2))
            return torch.stack([seen, -seen], 1)

    model = Bright()
    model.target.weight.data.fill_(5.0)
    images = torch.full((2, 3, 24, 24), 0.1)
    images[:, :, 4:12, 12:20] = 1.0
    seeds = [torch.Generator().manual_seed(s) for s in (1, 1)]
    options = {"layer": "target", "samples": 100, "segments": 9}
    first, again = (explain(model, images, [0, 1], "lime", generator=g, **options) for g in seeds)
    assert torch.equal(first.maps["lime"], again.maps["lime"])
    inside = torch.zeros(24, 24, dtype=torch.bool)
    inside[4:12, 12:20] = True
    assert first.maps["lime"][0][inside].min() > 0.9
    assert first.maps["lime"][0][~inside].mean() < 0.2
    assert first.degenerate["lime"].tolist() == [False, True]  # nothing speaks for the other class


def test_xrai_gives_regions_and_is_deterministic() -> None:
    model, images = net("convolutions", dtype=torch.float32), random_images(2, dtype=torch.float32)
    first, again = explain(model, images, [1, 3], "xrai"), explain(model, images[:1], 1, "xrai")
    assert torch.equal(first.maps["xrai"][:1], again.maps["xrai"])
    for b in range(2):
        assert 1 < len(first.raw["xrai"][b].unique()) < 24 * 24 / 2  # regions, not pixels
    assert not torch.equal(first.raw["xrai"][0], first.raw["xrai"][1])


@pytest.mark.parametrize(
    ("method", "options"), [("smooth_grad", {"samples": 4}), ("lime", {"samples": 20}), ("lime_cam", {})]
)
def test_draws_of_one_image_do_not_depend_on_its_neighbours(method: str, options: dict) -> None:
    model, images = net("mlp"), random_images(3)
    model.fc3.weight.data.mul_(50)

    def run(some: Tensor, target: int) -> Tensor:
        seeded = torch.Generator().manual_seed(7)
        return explain(model, some, target, method, generator=seeded, **options).raw[method]

    together = run(images, 1)
    assert together.any()
    for b in range(3):
        assert torch.allclose(run(images[b : b + 1], 1)[0], together[b], atol=1e-10)


def test_the_global_generators_are_left_alone() -> None:
    model, images = net("mlp"), random_images(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the very thing that is tested
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    explain(model, images, 1, ("smooth_grad", "lime", "lime_cam", "rise", "shap_cam", "lift_cam"), samples=8, masks=8)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002

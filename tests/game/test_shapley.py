"""Shapley values by sampled orderings against brute force, shap, captum and the axioms."""

from __future__ import annotations

import numpy as np
import pytest
import shap
import torch
from campanion.game.game import ChannelGame
from captum.attr import ShapleyValueSampling
from nets import CHANNELS, Net, all_coalitions, masked_logits, net, random_images, shapley_of
from torch import nn

SAMPLED = ["mlp", "mlp_norm", "pixel", "pixel_norm", "convolutions", "residual", "branches"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(model: nn.Module, image: torch.Tensor, target: int) -> torch.Tensor:
    return shapley_of(masked_logits(model, image, all_coalitions())[:, target])


@pytest.mark.parametrize("name", SAMPLED)
def test_brute_force(name: str) -> None:
    model, images = net(name), random_images()
    game = ChannelGame.of(model, images)
    found = game.shapley([1, 2], orderings=2000, generator=generator())
    assert found.orderings == 2000
    for b, target in enumerate((1, 2)):
        difference = (found.values[b] - exact(model, images[b], target)).abs()
        assert (difference <= 4 * found.standard_error[b] + 1e-12).all()
        assert found.standard_error[b].norm() < 0.1 * found.values[b].norm()
    everything = game.score([1, 2]) - game.value(torch.zeros(1, CHANNELS), [1, 2])[:, 0]
    assert torch.allclose(found.values.sum(1), everything, atol=1e-10)  # local accuracy, for any orderings


@pytest.mark.parametrize("name", ["linear", "linear_flat", "linear_norm"])
def test_linear_heads_are_exact_with_any_number_of_orderings(name: str) -> None:
    model, images = net(name), random_images()
    for orderings in (1, 7):
        found = ChannelGame.of(model, images).shapley([1, 2], orderings=orderings)
        assert not found.standard_error.any()
        for b, target in enumerate((1, 2)):
            assert torch.allclose(found.values[b], exact(model, images[b], target), atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "pixel", "residual"])
def test_shap_and_captum_agree(name: str) -> None:
    model, images = net(name), random_images(1)
    game = ChannelGame.of(model, images)

    def value(presence: np.ndarray) -> np.ndarray:
        return game.value(torch.as_tensor(presence), 3)[0].numpy()

    explainer = shap.ExactExplainer(value, shap.maskers.Independent(np.zeros((1, CHANNELS))))
    truth = explainer(np.ones((1, CHANNELS))).values[0]
    assert np.allclose(truth, exact(model, images[0], 3).numpy(), atol=1e-10)
    ours = game.shapley(3, orderings=800, generator=generator())
    assert (np.abs(ours.values[0].numpy() - truth) <= 4 * ours.standard_error[0].numpy() + 1e-12).all()
    torch.manual_seed(0)
    mask = torch.arange(CHANNELS)[None, :, None, None].repeat(1, 1, 6, 6)
    sampled = ShapleyValueSampling(game.head.module).attribute(
        game.activations, target=3, feature_mask=mask, n_samples=50, perturbations_per_eval=8
    )
    error = ours.standard_error[0] * (800 / 50 + 1) ** 0.5
    assert ((sampled[0, :, 0, 0] - ours.values[0]).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("antithetic", [False, True])
def test_standard_error_is_calibrated(antithetic: bool) -> None:
    model, images = net("mlp"), random_images(1)
    game, truth = ChannelGame.of(model, images), exact(model, images[0], 1)
    runs = [game.shapley(1, 60, generator(seed), antithetic=antithetic) for seed in range(60)]
    scaled = torch.stack([(r.values[0] - truth) / r.standard_error[0].clamp_min(1e-15) for r in runs])
    assert 0.97 <= (scaled.abs() <= 3).double().mean() <= 1
    assert 0.7 < scaled.square().mean().sqrt() < 1.3  # neither too wide nor too narrow


class Pairwise(Net):
    """Channels that interact in pairs only: a logit is quadratic in them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, CHANNELS, CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.target(self.stem(x)).mean((2, 3))
        return torch.einsum("bk,ckl,bl->bc", x, self.weight, x)


def test_antithetic_orderings_are_exact_for_pairwise_interactions() -> None:
    torch.manual_seed(0)
    model, images = Pairwise().double().eval(), random_images(1)
    game, truth = ChannelGame.of(model, images), exact(model, images[0], 2)
    assert torch.allclose(game.shapley(2, 2, antithetic=True).values[0], truth, atol=1e-12)
    assert not torch.allclose(game.shapley(2, 2).values[0], truth, atol=1e-3)
    paired = game.shapley(2, 20, antithetic=True)
    assert paired.orderings == 20
    assert paired.standard_error.abs().max() < 1e-7


def test_tolerance_stops_early() -> None:
    game = ChannelGame.of(net("mlp"), random_images())
    full = game.shapley(0, 4096, generator())
    early = game.shapley(0, 4096, generator(), tolerance=0.05)
    assert early.orderings < full.orderings == 4096
    assert (early.standard_error.norm(dim=1) <= 0.05 * early.values.norm(dim=1)).all()
    assert torch.equal(early.values, game.shapley(0, early.orderings, generator()).values)
    assert game.shapley(0, 4096, tolerance=1e-9).orderings == 4096


@pytest.mark.parametrize("name", ["mlp", "pixel", "convolutions"])
def test_draws(name: str) -> None:
    model, images = net(name), random_images(3)
    game = ChannelGame.of(model, images)
    first, again = (game.shapley(1, 20, generator(5)) for _ in range(2))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, game.shapley(1, 20, generator(6)).values)
    assert torch.equal(game.shapley(1, 20).values, game.shapley(1, 20).values)
    for b in range(3):  # neighbours do not matter
        assert torch.allclose(game.image(b).shapley(1, 20, generator(5)).values[0], first.values[b], atol=1e-12)
    assert game.shapley(1, 1).standard_error.isinf().all()
    for wrong in ({"orderings": 0}, {"orderings": 3, "antithetic": True}):
        with pytest.raises(ValueError, match="orderings must be at least 1"):
            game.shapley(1, **wrong)


@pytest.mark.parametrize("name", ["linear_norm", "mlp", "mlp_norm", "pixel", "convolutions"])
def test_null_players_have_exactly_nothing(name: str) -> None:
    model = net(name)
    model.stem.weight.data[[2, 5]] = 0
    model.stem.bias.data[[2, 5]] = 0
    game = ChannelGame.of(model, random_images())
    assert not game.activations[:, [2, 5]].any()
    found = game.shapley(1, 12)
    assert not found.values[:, [2, 5]].any()
    assert not found.standard_error[:, [2, 5]].any()
    assert found.values[:, [0, 1, 3, 4, 6, 7]].abs().amin(0).max() > 0
    model.stem.weight.data.zero_()  # and when nobody is there at all
    model.stem.bias.data.zero_()
    assert not ChannelGame.of(model, random_images()).shapley(1, 3).values.any()

"""The channel game against naive forward passes of the whole network."""

from __future__ import annotations

import pytest
import torch
from campanion.game import game as game_module
from campanion.game.game import ChannelGame
from nets import CHANNELS, CLASSES, NETS, all_coalitions, masked_logits, net, random_images


@pytest.mark.parametrize("name", NETS)
def test_value_equals_naive_masked_forwards(name: str) -> None:
    coalitions = all_coalitions()[::5]
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-6)):
        model, images = net(name, dtype=dtype), random_images(dtype=dtype)
        game = ChannelGame.of(model, images)
        assert game.head.kind == NETS[name][1]
        kept = game.activations.clone()
        target = torch.tensor([1, 4])
        naive = torch.stack([masked_logits(model, x, coalitions)[:, c] for x, c in zip(images, target, strict=True)])
        largest = 1 if dtype is torch.float64 else naive.abs().max()
        assert (game.value(coalitions, target) - naive).abs().max() <= tolerance * largest
        assert torch.allclose(game.value(torch.ones(1, CHANNELS), target)[:, 0], game.score(target), rtol=1e-5)
        game.gradient(target)
        assert torch.equal(game.activations, kept)


@pytest.mark.parametrize("name", ["linear_norm", "mlp", "pixel", "residual", "branches"])
def test_coalitions_of_each_image(name: str) -> None:
    model, images = net(name), random_images(3)
    game = ChannelGame.of(model, images)
    rows = torch.rand(3, 11, CHANNELS, generator=torch.Generator().manual_seed(0)) < 0.5
    values = game.value(rows, [0, 1, 2])
    for b in range(3):
        assert torch.allclose(values[b], masked_logits(model, images[b], rows[b])[:, b], atol=1e-10)
        assert torch.allclose(game.image(b).value(rows[b], b)[0], values[b], atol=1e-12)
    assert torch.equal(game.value(rows[0].int(), 1), game.value(rows[0].double(), 1))


@pytest.mark.parametrize("name", ["mlp_norm", "pixel", "convolutions"])
def test_blocks_of_bounded_memory_do_not_change_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    game = ChannelGame.of(net(name), random_images())
    whole = game.value(all_coalitions(), 2)
    sizes = []
    monkeypatch.setattr(game_module, "_BLOCK_ELEMENTS", 20_000)
    inner = game_module._blocks
    monkeypatch.setattr(game_module, "_blocks", lambda *a, **k: (sizes.append(s) or s for s in inner(*a, **k)))
    blocked = game.value(all_coalitions(), 2)
    assert len(sizes) > 1
    assert max(s.stop - s.start for s in sizes) < 256
    assert torch.allclose(blocked, whole, atol=1e-12)


@pytest.mark.parametrize("name", ["linear_flat", "mlp", "pixel", "residual", "around"])
def test_gradient_is_that_of_the_whole_network(name: str) -> None:
    model, images = net(name), random_images()
    game = ChannelGame.of(model, images)
    kept = []

    def hold(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().clone().requires_grad_(True))
        return kept[0].clone()

    handle = model.target.register_forward_hook(hold)
    logits = model(images)
    handle.remove()
    (expected,) = torch.autograd.grad(logits[0, 1] + logits[1, 3], kept[0])
    assert torch.allclose(game.gradient([1, 3]), expected, atol=1e-12)
    assert game.gradient([1, 3]) is game.gradient(torch.tensor([1, 3]))
    assert not torch.equal(game.gradient(0), game.gradient(1))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["linear_norm", "mlp_norm", "pixel_norm"])
def test_contributions_sum_to_the_first_pre_activation(name: str) -> None:
    game = ChannelGame.of(net(name), random_images())
    each, offset = game.contributions([2, 3])
    assert each.shape[:2] == (2, CHANNELS)
    assert offset.shape == each.shape[::2]
    finished = game.head.finish((offset + each.sum(1)).unsqueeze(1), torch.tensor([2, 3]))
    assert torch.allclose(finished[:, 0], game.score([2, 3]), atol=1e-12)
    with pytest.raises(ValueError, match="no contribution matrix"):
        ChannelGame.of(net("residual"), random_images()).contributions(0)


def test_targets_of_every_form() -> None:
    game = ChannelGame.of(net("mlp"), random_images())
    predicted = game.logits.argmax(1)
    assert torch.equal(game.target(None), predicted)
    assert torch.equal(game.score(None), game.logits.amax(1))
    unsigned = torch.tensor([3, 3]).to(torch.uint16)
    for given in (3, torch.tensor(3), [3, 3], torch.tensor([3, 3], dtype=torch.int32), unsigned):
        assert game.target(given).tolist() == [3, 3]
    for wrong in (CLASSES, -1, [0, 99]):
        with pytest.raises(ValueError, match=rf"0\.\.{CLASSES - 1}"):
            game.value(torch.ones(1, CHANNELS), wrong)
    with pytest.raises(ValueError, match="one class for each of 2 images"):
        game.target([1, 2, 3])
    for wrong in (1.0, torch.tensor([True, False])):
        with pytest.raises(ValueError, match="integers"):
            game.target(wrong)


def test_coalitions_of_wrong_shape_are_refused() -> None:
    game = ChannelGame.of(net("mlp"), random_images())
    for rows in (torch.ones(4, 7), torch.ones(3, 4, 8), torch.ones(8), [[1, 0]]):
        with pytest.raises(ValueError, match=r"coalitions must be \[M, 8\] or \[2, M, 8\]"):
            game.value(rows, 0)

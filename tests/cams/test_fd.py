"""FD-CAM against a plain loop over channels, written from the paper's equations 4 to 11 in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion import explain
from campanion.cams.fd import cosines, similarity_groups, switching_score
from campanion.game.game import ChannelGame
from nets import CHANNELS, masked_logits, net, random_images
from torch import nn

KINDS = ["linear", "linear_norm", "mlp", "pixel", "convolutions", "branches"]


def plain_groups(activations: np.ndarray, percentile: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups [K, K] of maps [K, h, w] and how far each cosine is from its threshold (eq. 4 and 5)."""
    count = len(activations)
    flat = activations.reshape(count, -1).astype(np.float64)
    groups, margin = np.zeros((count, count), bool), np.zeros((count, count))
    for k in range(count):
        row = np.zeros(count)
        for other in range(count):
            size = np.linalg.norm(flat[k]) * np.linalg.norm(flat[other])
            row[other] = flat[k] @ flat[other] / size if size > 0 else 0
        threshold = np.quantile(row, 1 - percentile / 100)
        groups[k], margin[k] = row > threshold, np.abs(row - threshold)
    return groups, margin


def scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def plain_fd_cam(
    model: nn.Module, image: torch.Tensor, c: int, groups: np.ndarray, switch: str = "both", combination: str = "exp",
    bias: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Weights and map (eq. 6 to 11), by two forward passes of the whole network for each channel."""
    kept = []
    handle = model.target.register_forward_hook(lambda _m, _i, out: kept.append(out) or out.clone())
    logits = model(image[None])
    handle.remove()
    (slope,) = torch.autograd.grad(logits[0, c], kept[0])
    everything, on, off = float(logits[0, c].detach()), np.zeros(CHANNELS), np.zeros(CHANNELS)
    for k in range(CHANNELS):
        rows = torch.as_tensor(np.stack([groups[k], ~groups[k]]))
        on[k], without = masked_logits(model, image, rows)[:, c].tolist()
        off[k] = everything - without
    score = scaled({"on": on, "off": off, "both": on + off}[switch])
    gradient = scaled(slope[0].mean((1, 2)).numpy())
    weights = gradient * (np.exp(score) if combination == "exp" else score) - bias
    total = sum(w * a for w, a in zip(weights, kept[0][0].detach().numpy(), strict=True))
    return weights, np.maximum(total, 0)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"percentile": 40.0},
        {"switch": "on"},
        {"switch": "off", "percentile": 30.0},
        {"combination": "linear"},
        {"bias": 0.0},
    ],
)
def test_weights_and_maps_of_the_plain_loop(name: str, options: dict) -> None:
    model, images = net(name), random_images()
    e = explain(model, images, [1, 3], "fd_cam", **options)
    activations = ChannelGame.of(model, images).activations.numpy()
    rest = {k: v for k, v in options.items() if k != "percentile"}
    for b, c in enumerate((1, 3)):
        groups, margin = plain_groups(activations[b], options.get("percentile", 5.0))
        assert margin[groups].min() > 1e-9  # no membership hangs on rounding here
        weights, plain = plain_fd_cam(model, images[b], c, groups, **rest)
        assert np.allclose(e.weights["fd_cam"][b], weights, atol=1e-9)
        assert np.allclose(e.raw["fd_cam"][b], plain, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_channels_alone(name: str) -> None:
    model, images = net(name), random_images(1)
    e = explain(model, images, 2, "fd_cam", grouped=False)
    weights, _ = plain_fd_cam(model, images[0], 2, np.eye(CHANNELS, dtype=bool))
    assert np.allclose(e.weights["fd_cam"][0], weights, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [8, 20, 21, 96])  # positions between two cosines and (21) right on one
@pytest.mark.parametrize("percentile", [1.0, 5.0, 20.0, 99.0])
def test_groups(dtype: torch.dtype, channels: int, percentile: float) -> None:
    drawn = torch.rand(2, channels, 5, 5, generator=torch.Generator().manual_seed(channels), dtype=dtype)
    activations = (drawn - 0.5).relu()
    activations[:, 3] = 0
    groups = similarity_groups(activations, percentile)
    for b in range(2):
        expected, margin = plain_groups(activations[b].numpy(), percentile)
        differ = groups[b].numpy() != expected
        assert (margin[differ] < 1e-6).all()
        assert differ.sum() <= 2 * channels  # each row's cosine with the threshold's own neighbours at most
        assert not groups[b, 3].any()  # dead: an empty group
    if channels == 96 and percentile == 5.0:
        # Position 90.25 of 0..95: the 5 largest, the channel itself among them.
        assert groups.sum(2)[:, [0, 1, 2, 4]].tolist() == [[5] * 4] * 2
        assert groups.diagonal(dim1=1, dim2=2)[:, 4:].all()


@pytest.mark.parametrize("percentile", [5.0, 20.0])
def test_one_threshold_for_all_pairs(percentile: float) -> None:
    activations = torch.rand(2, 20, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    groups = similarity_groups(activations, percentile, "all")
    for b in range(2):
        flat = activations[b].flatten(1).numpy()
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        cosine = flat @ flat.T
        assert (groups[b].numpy() == (cosine > np.quantile(cosine, 1 - percentile / 100))).all()


@pytest.mark.parametrize("switch", ["on", "off", "both"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", KINDS)
def test_probabilities_instead_of_logits(name: str, activation: str, switch: str) -> None:
    model, images = net(name), random_images()
    model.activation = activation
    game, target = ChannelGame.of(model, images), torch.tensor([1, 3])
    groups = similarity_groups(game.activations, 30)
    score = switching_score(game, target, groups, switch, "probability")
    for b, c in enumerate(target):
        rows = torch.cat([groups[b], ~groups[b], torch.ones_like(groups[b, :1])])
        logits = masked_logits(model, images[b], rows)
        chance = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
        on, without, every = chance[:, c].split([CHANNELS, CHANNELS, 1])
        expected = {"on": on, "off": every - without, "both": (on + every - without) / 2}[switch]
        assert torch.allclose(score[b], expected, atol=1e-10)


def test_a_dead_channel_switches_nothing() -> None:
    model, images = net("mlp"), random_images(1)
    model.stem.weight.data[4] = 0
    model.stem.bias.data[4] = 0
    groups, _ = plain_groups(ChannelGame.of(model, images).activations[0].numpy(), 30.0)
    assert not groups[4].any()
    weights, _ = plain_fd_cam(model, images[0], 1, groups)
    assert np.allclose(explain(model, images, 1, "fd_cam", percentile=30).weights["fd_cam"][0], weights, atol=1e-9)


def test_options_are_checked() -> None:
    model, images = net("mlp"), random_images(1)
    for options, sentence in (
        ({"switch": "up"}, "fd_cam switch must be one of 'both', 'on', 'off', not 'up'"),
        ({"combination": "sum"}, "fd_cam combination must be one of 'exp', 'linear', not 'sum'"),
        ({"percentile": 0}, "percentile must lie between 0 and 100, not 0"),
        ({"percentile": 100.0}, "percentile must lie between 0 and 100"),
        ({"percentile_of": "row"}, "fd_cam percentile_of must be one of 'channel', 'all', not 'row'"),
        ({"score": "softmax"}, "fd_cam score must be one of 'logit', 'probability', not 'softmax'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            explain(model, images, 1, "fd_cam", **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("percentile", [0.5, 5.0, 40.0])
def test_thresholds_are_the_quantiles_of_each_row(dtype: torch.dtype, percentile: float) -> None:
    """Beside torch.quantile, with ties and for groups of one channel."""
    generator = torch.Generator().manual_seed(3)
    activations = torch.randn(2, 40, 3, 3, generator=generator).relu().to(dtype)
    activations[0, 5] = activations[0, 7]
    cosine = cosines(activations)
    tau = torch.quantile(cosine.double(), 1 - percentile / 100, dim=2, keepdim=True)
    decided = (cosine.double() - tau).abs() > 1e-6 if dtype != torch.bfloat16 else (cosine.double() - tau).abs() > 1e-2
    found = similarity_groups(activations, percentile)
    assert torch.equal(found[decided], (cosine > tau)[decided])
    assert decided.float().mean() > 0.8

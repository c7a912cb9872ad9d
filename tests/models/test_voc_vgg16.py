"""voc_vgg16: its head of factors answers as torchvision's own VGG16 does, in logits, weights, maps and games."""

from __future__ import annotations

import pytest
import torch
import torchvision
from campanion import explain, load_model
from campanion.game.game import ChannelGame
from campanion.models.voc_nets import build_voc_net, multiplied_out

METHODS = ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam", "ablation_cam", "lift_cam", "fd_cam")


@pytest.fixture(scope="module")
def pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The network with factors of random numbers, and the same function as torchvision's VGG16."""
    model = load_model("voc_vgg16", weights="random", seed=1)
    with torch.no_grad():  # random layers of low rank hardly answer: make the logits differ by whole numbers
        for step in (model.classifier[0], model.classifier[3]):
            step[0].weight *= 4
            step[1].weight *= 4
    return model.double(), multiplied_out(model)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_multiplied_network_is_torchvisions(pair: tuple, images: torch.Tensor) -> None:
    model, whole = pair
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in torchvision.models.vgg16(num_classes=20).state_dict().items()}
    assert {k: v.shape for k, v in whole.state_dict().items()} == shapes
    assert whole.features is model.features
    assert (whole.target_layer, whole.activation, whole.class_names) == (
        model.target_layer, model.activation, model.class_names,
    )  # fmt: skip
    with torch.no_grad():
        logits = model(images)
        assert logits.std() > 0.1
        assert torch.allclose(whole(images), logits, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="Only voc_vgg16 has factors"):
        multiplied_out(build_voc_net("voc_linear"))


def test_same_weights_and_maps(pair: tuple, images: torch.Tensor) -> None:
    found, whole = (explain(net, images, None, METHODS) for net in pair)
    for name in METHODS:
        if name in whole.weights:
            a, b = found.weights[name], whole.weights[name]
            assert torch.allclose(a, b, rtol=0, atol=1e-9 * float(b.abs().max())), name
        assert torch.allclose(found.maps[name], whole.maps[name], atol=1e-9), name
        assert not (whole.degenerate[name] | found.degenerate[name]).any(), name


def test_games_run_on_the_factors_and_agree(pair: tuple, images: torch.Tensor) -> None:
    games = [ChannelGame.of(net, images) for net in pair]
    assert [game.head.kind for game in games] == ["mlp", "mlp"]
    # 144 numbers a coalition in place of 4,096
    assert [game.contributions(3)[0].shape[2] for game in games] == [144, 4096]
    assert [game.head.width for game in games] == [4096, 4096]
    rows = torch.rand(4, 512, generator=torch.Generator().manual_seed(2)) < 0.5
    assert torch.allclose(games[0].value(rows, 3), games[1].value(rows, 3), rtol=1e-10, atol=1e-12)
    for row, value in zip(rows, games[0].value(rows, 3)[0], strict=True):
        with torch.no_grad():
            naive = pair[1].classifier(pair[1].features[30](games[1].activations * row[None, :, None, None]).flatten(1))
        assert value == pytest.approx(float(naive[0, 3]), rel=1e-9)
    values, whole = (g.shapley(3, 20, torch.Generator().manual_seed(3)).values for g in games)
    assert torch.allclose(values, whole, rtol=0, atol=1e-9 * float(whole.abs().max()))


def test_factors_fit_a_small_file() -> None:
    head = build_voc_net("voc_vgg16").classifier
    assert 2 * sum(p.numel() for p in head.parameters()) < 10e6  # bytes in float16
    assert [m.p for m in head if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]

"""The network taken apart says what the network does."""

from __future__ import annotations

import pytest
import torch
from campanion.models import build_model
from torch.nn import functional as F


@pytest.fixture(scope="module", params=["paper", "published", "table3"])
def network(request):
    return build_model("resnet20", attention="lfi", generation=request.param, num_classes=5, seed=3).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_steps_end_where_the_network_does(network, images):
    found = network.steps(images)
    logits, attention = network.forward_with_map(images)
    assert torch.equal(found["logits"], logits)
    assert torch.equal(found["attention"], attention)
    assert torch.equal(found["w"], network.importance(images))
    assert found["M"].shape == found["F"].shape == found["F'"].shape
    low, high = found["M"].aminmax()
    assert low >= found["I~"].min() - 1e-6 or low >= 0
    assert high <= found["I~"].max() + 1e-6


def test_the_masks_are_what_fin_is_given(network, images):
    given = []
    handle = network.fin.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    found = network.steps(images)
    handle.remove()
    assert torch.equal(found["M"], given[0])


def test_eq_5_is_an_average_of_the_luma(images):
    """Against torchvision's own gray of the image in 0..1."""
    from torchvision.transforms.functional import rgb_to_grayscale

    network = build_model("resnet20", attention="lfi", num_classes=5).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (network.preprocess.mean, network.preprocess.std))
    gray = network.steps((images - mean) / std)["I~"]
    assert torch.allclose(gray, F.avg_pool2d(rgb_to_grayscale(images), 4), atol=2e-3)

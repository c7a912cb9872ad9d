"""IIC, AD and ADD against closed forms and torch-cam."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from campanion.metrics import confidence, insertion_deletion
from campanion.outputs import Outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchcam.metrics import ClassificationMetric


def linear_probability(images):
    """Log probabilities of two classes; class 1 has the mean of the first channel, so softmax returns that mean."""
    p = images[:, 0].mean((1, 2))
    return torch.stack([1 - p, p], 1).log()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()


def images_and_maps(count=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=g), torch.rand(count, 8, 8, generator=g)


def test_numbers_by_hand():
    """Pixels 0.8, 0.4, 0.4, -0.8 have the mean Y = 0.2; two maps of the image."""
    images = torch.tensor([[0.8, 0.4], [0.4, -0.8]]).expand(1, 3, 2, 2)
    maps = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.25, 0.0], [0.0, 0.0]]]])
    result = confidence(linear_probability, images, maps, torch.tensor([1]))
    # First map: O = 1.2 / 4, D = -0.4 / 4 (not a probability, but here the score is whatever the function returns).
    torch.testing.assert_close(result.original, torch.tensor([[0.2, 0.2]]))
    torch.testing.assert_close(result.explanation, torch.tensor([[0.3, 0.05]]))
    assert result.iic.tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(result.average_drop, torch.tensor([[0.0, 0.75]]))
    # Second map: D = (0.6 + 0.4 + 0.4 - 0.8) / 4 = 0.15.
    torch.testing.assert_close(result.inverted[0, 1], torch.tensor(0.15))
    torch.testing.assert_close(result.add[0, 1], torch.tensor(0.25))
    summary = result.summary()
    torch.testing.assert_close(summary["AD"], torch.tensor([0.0, 75.0]))
    assert summary["IIC"].tolist() == [100.0, 0.0]


def test_add_may_be_negative():
    """Equation 14 has no maximum with zero: taking away a dark pixel raises the score."""
    images = torch.tensor([[0.9, 0.5], [0.5, -0.3]]).expand(1, 3, 2, 2)
    maps = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    result = confidence(linear_probability, images, maps, torch.tensor([1]))
    torch.testing.assert_close(result.add, torch.tensor([-0.3 / 1.6]))


def test_whole_and_empty_maps():
    images, _ = images_and_maps()
    maps = torch.stack([torch.ones(2, 8, 8), torch.zeros(2, 8, 8)], 1)
    result = confidence(network(), images, maps, torch.tensor([0, 3]))
    torch.testing.assert_close(result.explanation[:, 0], result.original[:, 0])
    torch.testing.assert_close(result.inverted[:, 1], result.original[:, 1])
    torch.testing.assert_close(result.explanation[:, 1], result.inverted[:, 0])


def test_a_score_of_zero_gives_finite_drops():
    result = confidence(
        lambda x: torch.stack([200 * x[:, 0, 0, 0], torch.zeros(len(x))], 1),
        torch.ones(1, 3, 2, 2),
        torch.zeros(1, 2, 2),
        torch.tensor([1]),
    )
    assert result.original.item() == 0
    assert result.explanation.item() == 0.5
    assert (result.average_drop.item(), result.add.item(), result.iic.item()) == (0, 0, 1)


class Given:
    """The part of a torch-cam extractor that its metrics use, answering with maps given beforehand."""

    def __init__(self, model, maps):
        self.model, self.maps = model, maps

    def __call__(self, class_idx=None, scores=None, normalized=True, *, targets=None):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def test_equals_torchcam():
    images, maps = images_and_maps(6)
    model, targets = network(), [0, 1, 2, 3, 0, 1]
    theirs = ClassificationMetric(Given(model, maps), partial(torch.softmax, dim=-1))
    theirs.update(images, targets)
    ours = confidence(model, images, maps, torch.tensor(targets)).summary()
    assert 0 < theirs.summary()["conf_increase"] < 1
    assert ours["AD"].item() == pytest.approx(100 * theirs.summary()["avg_drop"], rel=1e-5)
    assert ours["IIC"].item() == pytest.approx(100 * theirs.summary()["conf_increase"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), batch_size=st.integers(1, 20), score=st.sampled_from(["softmax", "sigmoid"]))
def test_blocks_and_many_maps_change_nothing(seed, batch_size, score):
    images, first = images_and_maps(2, seed)
    _, second = images_and_maps(2, seed + 1)
    model, targets = network().forward, torch.tensor([1, 2])
    together = confidence(model, images, torch.stack([first, second], 1), targets, score=score, batch_size=batch_size)
    for m, maps in enumerate((first, second)):
        alone = confidence(model, images, maps, targets, score=score)
        torch.testing.assert_close(together.explanation[:, m], alone.explanation)
        torch.testing.assert_close(together.inverted[:, m], alone.inverted)
        torch.testing.assert_close(together.original[:, m], alone.original)
    assert ((together.average_drop >= 0) & (together.average_drop <= 1)).all()
    assert (together.add <= 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maps": torch.rand(2, 8, 8) * 255}, "min-max normalised"),
        ({"maps": torch.rand(2, 7, 7)}, "maps must be"),
        ({"maps": torch.full((2, 8, 8), torch.nan)}, "maps holds NaN"),
        ({"targets": torch.tensor([0.5, 1.0])}, "must be integers"),
        ({"targets": torch.tensor([0, -2])}, "counted from 0"),
        ({"targets": None}, "must be integers"),
        ({"score": "logit"}, "proportions of a probability"),
        ({"score": "softmin"}, "Did you mean 'softmax'"),
    ],
)
def test_bad_input_is_refused_before_any_forward(change, words):
    def never(batch):
        raise AssertionError("the model was called")

    images, maps = images_and_maps()
    arguments = {"images": images, "maps": maps, "targets": torch.tensor([0, 1]), **change}
    with pytest.raises(ValueError, match=words):
        confidence(never, **arguments)


def test_what_a_softmax_gave_is_a_probability_already():
    images, maps = images_and_maps()
    model, targets = network(), torch.tensor([0, 1])
    ends = nn.Sequential(model, nn.Softmax(1))
    for found, expected in zip(
        confidence(ends, images, maps, targets).summary().values(),
        confidence(model, images, maps, targets).summary().values(),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_no_reason_to_take_logits_for_probabilities(dtype: torch.dtype) -> None:
    near = torch.tensor([[0.6, 0.45]], dtype=dtype)  # logits whose sum is near 1
    outputs = Outputs.of(nn.Identity(), None, None)
    assert torch.equal(outputs.probabilities(near), near.float().softmax(1))
    shares = (20 * torch.rand(50, 10, generator=torch.Generator().manual_seed(0))).to(dtype).softmax(1)
    assert torch.equal(outputs.probabilities(shares), shares)
    ends = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, -1)), Mean(), nn.Softmax(1)).to(dtype)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    curves = insertion_deletion(ends, images, torch.rand(2, 8, 8), [0, 1], step=0.5)
    assert torch.allclose(curves.insertion_curve[:, -1], ends(images).float().diagonal(), atol=0.01)


class Mean(nn.Module):
    """Of the pixels, twentyfold: the softmax of two softmaxes would be nearly even."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 20 * x.mean(2)

"""Insertion and deletion against closed forms, torch-cam and SciPy."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from campanion.metrics import insertion_deletion
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn
from torchcam.metrics import DeletionInsertionMetric
from torchvision.transforms.functional import gaussian_blur


class Brightness(nn.Module):
    """Two classes; the logit of class 1 is the mean over the pixels of the first channel."""

    def forward(self, images):
        mean = images[:, 0].mean((1, 2))
        return torch.stack([torch.zeros_like(mean), mean], 1)


class Counting:
    """A plain function that counts the images it was shown and the largest batch."""

    def __init__(self, network):
        self.network, self.seen, self.largest = network, 0, 0

    def __call__(self, batch):
        self.seen += len(batch)
        self.largest = max(self.largest, len(batch))
        return self.network(batch)


def network(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, classes),
    ).eval()


def images_and_maps(count=2, side=16, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=g), torch.rand(count, side, side, generator=g)


def test_areas_of_a_linear_score_are_the_closed_form():
    """The score of k shown pixels of a constant image is k / n: both curves are straight lines."""
    images = torch.ones(1, 3, 10, 10)
    _, maps = images_and_maps(1, 10)
    result = insertion_deletion(Brightness(), images, maps, torch.tensor([1]), step=7, baseline="zero", score="logit")
    assert result.fractions.tolist() == pytest.approx([*np.arange(0, 100, 7) / 100, 1.0])
    torch.testing.assert_close(result.insertion_curve[0], result.fractions)
    torch.testing.assert_close(result.deletion_curve[0], 1 - result.fractions)
    torch.testing.assert_close(result.insertion, torch.tensor([0.5]))
    torch.testing.assert_close(result.overall, torch.tensor([0.0]))


def test_perfect_and_worst_orders():
    """A quarter of the pixels hold all the score: perfect order 1 - 1/8, worst order 1/8 (areas of two triangles)."""
    images = torch.zeros(2, 3, 8, 8)
    images[:, :, :4, :4] = 4.0
    maps = torch.stack([images[0, 0], -images[0, 0]])
    result = insertion_deletion(
        Brightness(), images, maps, torch.tensor([1, 1]), step=1, baseline="zero", score="logit"
    )
    torch.testing.assert_close(result.insertion, torch.tensor([7 / 8, 1 / 8]))
    torch.testing.assert_close(result.deletion, torch.tensor([1 / 8, 7 / 8]))
    torch.testing.assert_close(result.overall, torch.tensor([0.75, -0.75]))


def test_ties_keep_raster_order():
    images = torch.arange(1.0, 7.0).view(1, 1, 2, 3).expand(1, 3, 2, 3)
    maps = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]])
    result = insertion_deletion(Brightness(), images, maps, torch.tensor([1]), step=1, baseline="zero", score="logit")
    shown_in_order = (result.insertion_curve[0].diff() * 6).round().int().tolist()
    assert shown_in_order == [2, 4, 6, 1, 3, 5]


def test_area_is_the_formula_of_rise_when_the_step_divides():
    images, maps = images_and_maps()
    result = insertion_deletion(network(), images, maps, torch.tensor([0, 3]), step=32)
    curve = result.insertion_curve
    assert curve.shape == (2, 9)
    rise = (curve.sum(1) - curve[:, 0] / 2 - curve[:, -1] / 2) / 8
    torch.testing.assert_close(result.insertion, rise)


def test_the_step_of_fd_cam_and_of_lift_cam():
    images, maps = torch.zeros(1, 3, 224, 224), torch.rand(1, 224, 224)
    few = insertion_deletion(Brightness(), images, maps, torch.tensor([1]), batch_size=8)
    assert few.fractions.shape == (29,)
    assert few.fractions[1].item() == pytest.approx(1792 / 224**2)
    images, maps = images_and_maps(1, 20)
    percent = insertion_deletion(Brightness(), images, maps, torch.tensor([1]), step=0.025)
    torch.testing.assert_close(percent.fractions, torch.linspace(0, 1, 41))


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


@pytest.mark.parametrize("steps", [4, 5])
def test_equals_torchcam(steps):
    """torch-cam's step is the pixels over ``steps``, rounded up; 256 / 5 leaves a shorter last step."""
    images, maps = images_and_maps()
    maps = (maps * 5).round()  # many ties
    model, targets = network(), [2, 1]
    theirs = DeletionInsertionMetric(Given(model, maps), partial(torch.softmax, dim=-1), steps=steps)
    theirs.update(images, targets)
    step = -(-256 // steps)
    ours = insertion_deletion(model, images, maps, torch.tensor(targets), step=step, baseline="zero")
    assert ours.insertion.mean().item() == pytest.approx(theirs.summary()["insertion_auc"], abs=1e-6)
    assert ours.deletion.mean().item() == pytest.approx(theirs.summary()["deletion_auc"], abs=1e-6)


def test_equals_torchcam_from_a_blurred_start():
    """torch-cam has one baseline for both curves: its insertion from the blur is ours, our deletion ends in zeros."""
    images, maps = images_and_maps()
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse, 5)).float().expand(3, 1, 11, 11)
    blurred = torch.nn.functional.conv2d(images, kernel, padding=5, groups=3)
    model = network()
    for baseline, start in (("blur", blurred), ("zero", torch.zeros_like(images))):
        theirs = DeletionInsertionMetric(Given(model, maps), partial(torch.softmax, dim=-1), steps=8, baseline=start)
        theirs.update(images, [0, 1])
        ours = insertion_deletion(model, images, maps, torch.tensor([0, 1]), step=32, baseline=baseline)
        assert ours.insertion.mean().item() == pytest.approx(theirs.summary()["insertion_auc"], abs=1e-6)
    blur = insertion_deletion(model, images, maps, torch.tensor([0, 1]), step=32, baseline="blur")
    torch.testing.assert_close(blur.deletion_curve, ours.deletion_curve)


def test_group_cams_blur_is_torchvisions():
    images, maps = images_and_maps(2, 32)
    model = network()
    ours = insertion_deletion(model, images, maps, torch.tensor([0, 1]), step=512, baseline="blur51")
    with torch.no_grad():
        start = model(gaussian_blur(images, [51, 51], [50.0, 50.0])).softmax(1)
    torch.testing.assert_close(ours.insertion_curve[:, 0], start[[0, 1], [0, 1]])


@pytest.mark.parametrize("baseline", ["blur", "zero"])
def test_many_maps_equal_separate_calls_and_share_the_end_points(baseline):
    images, _ = images_and_maps()
    maps = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    counted = Counting(network())
    targets = torch.tensor([1, 2])
    together = insertion_deletion(counted, images, maps, targets, step=50, baseline=baseline, batch_size=7)
    assert together.insertion.shape == (2, 3)
    assert together.deletion_curve.shape == (2, 3, 7)
    ends = 3 if baseline == "blur" else 2
    assert counted.seen == 2 * (ends + 3 * 2 * 5)
    assert counted.largest == 7
    for m in range(3):
        alone = insertion_deletion(network(), images, maps[:, m], targets, step=50, baseline=baseline)
        torch.testing.assert_close(together.insertion_curve[:, m], alone.insertion_curve)
        torch.testing.assert_close(together.deletion_curve[:, m], alone.deletion_curve)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch_size=st.integers(1, 40),
    step=st.one_of(st.integers(1, 64), st.floats(0.02, 0.99)),
    baseline=st.sampled_from(["blur", "zero"]),
)
def test_areas_are_probabilities_and_depend_on_the_order_alone(seed, batch_size, step, baseline):
    images, maps = images_and_maps(2, 8, seed)
    targets, model = torch.tensor([3, 0]), network().forward  # a function: no inference copy for every example
    result = insertion_deletion(model, images, maps, targets, step=step, baseline=baseline, batch_size=batch_size)
    for area in (result.insertion, result.deletion):
        assert ((area >= 0) & (area <= 1)).all()
    assert result.fractions[0] == 0
    assert result.fractions[-1] == 1
    assert (result.fractions.diff() > 0).all()
    torch.testing.assert_close(result.insertion_curve[:, -1], result.deletion_curve[:, 0])
    # Doubles, so that a monotone transform keeps distinct values distinct.
    moved = insertion_deletion(
        model, images, (maps.double() * 3).exp() - 7, targets, step=step, baseline=baseline, batch_size=64
    )
    torch.testing.assert_close(result.insertion_curve, moved.insertion_curve)
    torch.testing.assert_close(result.deletion_curve, moved.deletion_curve)


def test_scores_and_flags_and_gradients():
    images, maps = images_and_maps()
    model, targets = network(), torch.tensor([0, 1])
    model[1].train()
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    results = {s: insertion_deletion(model, images, maps, targets, step=128, score=s) for s in ("logit", "sigmoid")}
    torch.testing.assert_close(results["sigmoid"].deletion_curve, results["logit"].deletion_curve.sigmoid())
    assert model[1].training
    assert not model[0].training
    assert all(torch.equal(frozen[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not results["logit"].insertion.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu():
    images, maps = images_and_maps()
    targets, model = torch.tensor([0, 1]), network()
    here = insertion_deletion(model, images, maps, targets, step=20)
    there = insertion_deletion(model.cuda(), images.cuda(), maps, targets, step=20)
    assert there.insertion.is_cuda
    torch.testing.assert_close(there.insertion_curve.cpu(), here.insertion_curve, atol=1e-4, rtol=1e-3)


GOOD = {"step": 64, "baseline": "blur", "batch_size": 4, "score": "softmax"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": torch.zeros(2, 16, 16)}, "images must be"),
        ({"images": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)}, "images must be"),
        ({"images": torch.zeros(0, 3, 16, 16)}, "empty"),
        ({"images": torch.full((2, 3, 16, 16), torch.nan)}, "images holds NaN"),
        ({"maps": torch.zeros(2, 14, 14)}, "upsample"),
        ({"maps": torch.zeros(1, 16, 16)}, "maps must be"),
        ({"maps": torch.full((2, 16, 16), torch.inf)}, "maps holds NaN or infinite"),
        ({"targets": torch.tensor([0.0, 1.0])}, "must be integers"),
        ({"targets": torch.tensor([0])}, "one class for each of 2 images"),
        ({"targets": torch.tensor([0, -1])}, "counted from 0"),
        ({"step": 0}, "step must be"),
        ({"step": 257}, "step must be"),
        ({"step": 1.0}, "step as a fraction"),
        ({"step": 0.001}, "one pixel at least"),
        ({"step": float("nan")}, "step as a fraction"),
        ({"step": "all"}, "step must be"),
        ({"baseline": "blurr"}, "Did you mean 'blur'"),
        ({"baseline": "blur51"}, "26 x 26"),
        ({"score": "prob"}, "Unknown score"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_input_is_refused_before_any_forward(change, words):
    images, maps = images_and_maps()
    arguments = {"images": images, "maps": maps, "targets": torch.tensor([0, 1]), **GOOD, **change}
    counted = Counting(network())
    with pytest.raises(ValueError, match=words):
        insertion_deletion(counted, **arguments)
    assert counted.seen == 0


def test_a_class_beyond_the_network_is_refused():
    images, maps = images_and_maps()
    with pytest.raises(ValueError, match="class 4, but the model has 4 classes"):
        insertion_deletion(network(), images, maps, torch.tensor([0, 4]), step=64)

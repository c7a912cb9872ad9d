"""Cosine with Shapley values and stability IoU, by hand and by their invariants."""

from __future__ import annotations

import pytest
import torch
from campanion.metrics import shap_cosine, stability_iou
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F


def test_cosine_by_hand():
    weights = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    reference = torch.tensor([[4.0, 3.0], [0.0, 2.0], [1.0, 1.0], [-2.0, -2.0]])
    torch.testing.assert_close(shap_cosine(weights, reference), torch.tensor([0.96, 0.0, 0.0, -1.0]).double())


def test_cosine_survives_tiny_weights():
    """float32 squares of 1e-30 underflow; the cosine must not."""
    weights = torch.tensor([[3.0, 4.0]]) * 1e-30
    assert shap_cosine(weights, torch.tensor([[4.0, 3.0]])).item() == pytest.approx(0.96)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_cosine_is_torchs_and_ignores_scale(seed, scale):
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 4, 16, generator=g).double()
    torch.testing.assert_close(shap_cosine(a, b), F.cosine_similarity(a, b))
    torch.testing.assert_close(shap_cosine(a * scale, b), shap_cosine(b, a))


def test_cosine_refuses_bad_input():
    with pytest.raises(ValueError, match="must both be"):
        shap_cosine(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="NaN"):
        shap_cosine(torch.full((1, 2), torch.nan), torch.ones(1, 2))


A = torch.tensor([[[1.0, 0.6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
B = torch.tensor([[[0.0, 0.6, 0.6, 1.0], [0.0, 0.0, 0.0, 0.0]]])


def test_iou_by_hand():
    """Paper: masks 1100 and 0111 share 1 of 4 pixels. Official: the peaks wrap to 0, so the first rows are 0100 and
    0110 (one half) and the second rows, both empty, count as 1."""
    assert stability_iou(A, B).tolist() == [0.25]
    assert stability_iou(A, B, variant="official").item() == pytest.approx(0.75, abs=1e-6)


def test_the_paper_counts_127_and_the_official_code_does_not():
    """0, 127 and 255 of 255: 127 is stretched to 127.498 and cut to 127, which is not above 127; the peak wraps."""
    maps = torch.tensor([[[0.0, 127.0, 255.0]]]) / 255
    marked = torch.tensor([[[0.0, 1.0, 1.0]]])
    assert stability_iou(maps, marked).tolist() == [1.0]
    other = torch.tensor([[[0.0, 128.0, 255.0]]]) / 255
    assert stability_iou(maps, other, variant="official").item() == pytest.approx(1e-6 / 3, rel=1e-3)
    assert stability_iou(other, other, variant="official").tolist() == [1.0]


def test_empty_and_constant_maps_agree():
    empty = torch.zeros(1, 3, 3)
    assert stability_iou(empty, empty).tolist() == [1.0]
    assert stability_iou(empty, empty + 1).tolist() == [0.0]
    assert stability_iou(empty, empty + 1, variant="official").tolist() == [1.0]


def test_the_official_value_is_above_the_papers_for_blobs():
    """Two equal discs in different rows: nothing shared, yet the rows that both leave empty count as agreement."""
    grid = torch.arange(32.0)
    blob = lambda y: torch.exp(-((grid[:, None] - y) ** 2 + (grid - 16) ** 2) / 20)[None]  # noqa: E731
    a, b = blob(8), blob(24)
    assert stability_iou(a, b).tolist() == [0.0]
    assert stability_iou(a, b, variant="official").item() > 0.4


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0, 1), variant=st.sampled_from(["paper", "official"]))
def test_iou_is_symmetric_and_bounded(seed, threshold, variant):
    a, b = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(seed))
    value = stability_iou(a, b, threshold=threshold, variant=variant)
    assert ((value >= 0) & (value <= 1)).all()
    torch.testing.assert_close(value, stability_iou(b, a, threshold=threshold, variant=variant))
    assert (stability_iou(a, a, threshold=threshold, variant=variant) == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maps_b": torch.zeros(1, 4, 2)}, "must be"),
        ({"maps_a": B * 255}, "normalised to 0..1"),
        ({"maps_a": B * torch.nan}, "normalised to 0..1"),
        ({"threshold": 127}, "127 / 255"),
        ({"variant": "oficial"}, "Did you mean 'official'"),
    ],
)
def test_iou_refuses_bad_input(change, words):
    with pytest.raises(ValueError, match=words):
        stability_iou(**{"maps_a": A, "maps_b": B, **change})

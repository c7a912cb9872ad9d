"""Pointing games by hand and against Quantus; boxes and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from campanion.metrics import box_masks, energy_pointing_game, macro, micro, pointing_game
from hypothesis import given, settings
from hypothesis import strategies as st
from quantus import PointingGame, RelevanceMassAccuracy


def peak(row, column, side=40):
    maps = torch.zeros(1, side, side)
    maps[0, row, column] = 1
    return maps


def box(*corners):
    return torch.tensor([corners], dtype=torch.float32)


def test_plain_game_by_hand():
    """Row 10, column 20: the centre is x 20.5, y 10.5; swapping x and y would answer otherwise."""
    maps = peak(10, 20)
    assert pointing_game(maps, [box(18, 9, 25, 12)]).tolist() == [True]
    assert pointing_game(maps, [box(9, 18, 12, 25)]).tolist() == [False]
    assert pointing_game(maps, [box(20.5, 10.5, 30, 30)]).tolist() == [True]
    assert pointing_game(maps, [box(20.6, 10, 30, 30)]).tolist() == [False]
    assert pointing_game(maps, [torch.cat([box(0, 0, 2, 2), box(20, 10, 21, 11)])]).tolist() == [True]
    assert pointing_game(maps, [torch.zeros(0, 4)]).tolist() == [False]


def test_tolerance_is_a_disc_around_the_maximum():
    """The nearest pixel of a box that starts at column 34 is 14 columns from column 20; at column 35 it is 15."""
    maps = peak(10, 20)
    assert pointing_game(maps, [box(34, 0, 40, 40)], tolerance=15).tolist() == [True]
    assert pointing_game(maps, [box(35, 0, 40, 40)], tolerance=15).tolist() == [False]
    # Corner at 11 rows and 11 columns: 242 > 225; at 10 and 11: 221 < 225.
    assert pointing_game(maps, [box(31, 21, 40, 40)], tolerance=15).tolist() == [False]
    assert pointing_game(maps, [box(31, 20, 40, 40)], tolerance=15).tolist() == [True]


def test_first_of_equal_maxima_counts():
    maps = torch.zeros(2, 6, 6)
    maps[0, 1, 4] = maps[0, 3, 0] = 2
    assert pointing_game(maps, [box(4, 1, 5, 2), box(0, 0, 1, 1)]).tolist() == [True, True]
    assert pointing_game(maps, [box(0, 3, 1, 4), box(5, 5, 6, 6)]).tolist() == [False, False]


def test_micro_and_macro():
    hits, classes = torch.tensor([True, True, False, False, True]), torch.tensor([7, 7, 7, 7, 2])
    assert micro(hits) == pytest.approx(0.6)
    assert macro(hits, classes) == pytest.approx((0.5 + 1) / 2)
    with pytest.raises(ValueError, match="alike"):
        macro(hits, classes[:3])
    with pytest.raises(ValueError, match="at least one"):
        micro(hits[:0])


def test_energy_by_hand():
    """A 2 x 3 map of sum 10; the boxes overlap in the middle of the top row, which counts once."""
    maps = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 4.0, 0.0]]]).expand(2, 2, 3).clone()
    maps[1] = 0
    overlapping = torch.cat([box(0, 0, 2, 1), box(1, 0, 3, 1)])
    torch.testing.assert_close(energy_pointing_game(maps, [overlapping] * 2), torch.tensor([0.6, 0.0]))


def test_box_masks_by_hand():
    mask = box_masks([torch.cat([box(0.5, 1.0, 1.6, 2.0), box(2, 2, 3, 3)])], 3, 3)[0]
    assert mask.int().tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]


def random_case(seed, count=5, side=12):
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, 2, generator=g) * side
    low, high = corners.amin(1), corners.amax(1)
    boxes = list(torch.cat([low, high], -1))
    return torch.rand(count, side, side, generator=g), boxes


def test_equal_quantus():
    maps, boxes = random_case(3, count=30)
    masks = box_masks(boxes, 12, 12)
    kept = masks.flatten(1).any(1)
    arrays = {
        "model": None,
        "x_batch": np.zeros((int(kept.sum()), 1, 12, 12), dtype=np.float32),
        "y_batch": np.zeros(int(kept.sum()), dtype=int),
        "a_batch": maps[kept].numpy()[:, None],
        "s_batch": masks[kept].numpy()[:, None],
    }
    options = {"abs": False, "normalise": False, "disable_warnings": True, "return_aggregate": False}
    hits = pointing_game(maps, boxes)[kept]
    assert 0 < micro(hits) < 1
    assert hits.tolist() == [bool(h) for h in PointingGame(**options)(**arrays)]
    proportions = energy_pointing_game(maps, boxes)[kept]
    np.testing.assert_allclose(proportions.numpy(), RelevanceMassAccuracy(**options)(**arrays), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), tolerance=st.floats(0, 8), scale=st.floats(0.01, 100))
def test_proportions_and_hits_keep_their_bounds(seed, tolerance, scale):
    maps, boxes = random_case(seed)
    proportion = energy_pointing_game(maps, boxes)
    assert ((proportion >= 0) & (proportion <= 1)).all()
    torch.testing.assert_close(proportion, energy_pointing_game(maps * scale, boxes))
    torch.testing.assert_close(energy_pointing_game(maps, [box(0, 0, 12, 12)] * 5), torch.ones(5))
    assert pointing_game(maps, [box(0, 0, 12, 12)] * 5).all()
    # A wider disc never loses a hit.
    assert (pointing_game(maps, boxes) <= pointing_game(maps, boxes, tolerance=tolerance)).all()


GAMES = [pointing_game, energy_pointing_game]


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(
    ("maps", "boxes", "words"),
    [
        (torch.rand(6, 6), [box(0, 0, 1, 1)], "maps must be"),
        (torch.full((1, 6, 6), torch.nan), [box(0, 0, 1, 1)], "NaN"),
        (torch.rand(2, 6, 6), [box(0, 0, 1, 1)], "for each of the 2 maps"),
        (torch.rand(1, 6, 6), [torch.zeros(4)], r"boxes\[0\] must be"),
        (torch.rand(1, 6, 6), [box(3, 0, 1, 1)], "x2 < x1"),
        (torch.rand(1, 6, 6), [box(0, 0, float("nan"), 1)], "x2 < x1"),
        (torch.rand(1, 6, 6), [box(7, 0, 9, 1)], "outside the map"),  # in the pixels of a larger image
        (torch.rand(1, 6, 6), [box(0, -9, 6, -1)], "outside the map"),
    ],
)
def test_bad_input_is_refused(game, maps, boxes, words):
    with pytest.raises(ValueError, match=words):
        game(maps, boxes)


def test_negative_energy_and_tolerance_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        energy_pointing_game(-torch.ones(1, 4, 4), [box(0, 0, 1, 1)])
    with pytest.raises(ValueError, match="tolerance"):
        pointing_game(torch.ones(1, 4, 4), [box(0, 0, 1, 1)], tolerance=-1)

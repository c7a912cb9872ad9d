"""The grid pointing game: pairs, the half that is asked about, and what maps of known places score."""

from __future__ import annotations

import pytest
import torch
from campanion import load_model
from campanion.data.voc import CLASS_NAMES
from campanion.experiments import grid_pointing
from campanion.models.preprocess import Preprocess
from torch import nn


class Redness(nn.Module):
    """Two channels, one bright on the left of a wide image and one on the right, and 20 classes on their means."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.head = nn.Linear(2, 20, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[CLASS_NAMES.index("cat"), 0] = 1.0
            self.head.weight[CLASS_NAMES.index("dog"), 1] = 1.0

    def forward(self, images):
        ramp = torch.zeros(len(images), 2, 4, 8)
        ramp[:, 0, :, :4] = 1.0
        ramp[:, 1, :, 4:] = 1.0
        return self.head(self.layer(ramp * images.mean().sigmoid()).mean((2, 3)))


@pytest.fixture
def network():
    model = Redness().eval()
    model.class_names, model.target_layer = list(CLASS_NAMES), "layer"
    model.preprocess = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return model


def test_a_map_of_the_right_half_scores_100_and_of_the_wrong_half_0(network):
    right = grid_pointing.measure(network, ["grad_cam"], [("cat", "dog")])
    assert list(right["side"]) == ["left", "right"]
    assert list(right["class_name"]) == ["cat", "dog"]
    # enlarging a map of 4 x 8 cells to 32 x 64 pixels blurs its edge by less than one cell
    assert (right["grid_energy"] > 94).all()
    assert (right["grid_hit"] == 100).all()
    assert (right["rank"] <= 2).all()
    wrong = grid_pointing.measure(network, ["grad_cam"], [("dog", "cat")])
    assert (wrong["grid_energy"] < 6).all()
    assert (wrong["grid_hit"] == 0).all()


def test_pairs_have_two_classes():
    imagenet = load_model("squeezenet1_1", weights="random").class_names
    assert len(grid_pointing.pairs(imagenet)) == 36
    found = grid_pointing.pairs(CLASS_NAMES)
    assert len(found) == 25
    assert ("chicken", "duck") not in found
    assert not [pair for pair in found if "pig" in pair]


def test_a_quick_run_is_refused():
    with pytest.raises(ValueError, match="no animals"):
        grid_pointing.study("quick", ["scenes_vgg"], ["grad_cam"])

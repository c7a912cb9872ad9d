"""The grid pointing game: pairs, the half that is asked about, and what maps of known places score."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from campanion.data.photographs import PhotographPairs
from campanion.data.voc import CLASS_NAMES
from campanion.experiments.subject import Subject
from campanion.models.preprocess import Preprocess
from campanion.results.rows import read_rows, rows_path
from cells import study
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


def measured(model, pair):
    data = PhotographPairs()
    subject = Subject(model, data, "layer")
    rows = [row for row in study(20).measure(subject, data[data.ids.index(pair)]) if row["method"] == "grad_cam"]
    return pd.DataFrame(rows, columns=["class_name", "side", "rank", "grid_energy", "grid_hit"])


def test_a_map_of_the_right_half_scores_100_and_of_the_wrong_half_0(network):
    right = measured(network, "cat + dog")
    assert list(right["side"]) == ["left", "right"]
    assert list(right["class_name"]) == ["cat", "dog"]
    # enlarging a map of 4 x 8 cells to 32 x 64 pixels blurs its edge by less than one cell
    assert (right["grid_energy"] > 94).all()
    assert (right["grid_hit"] == 100).all()
    assert (right["rank"] <= 2).all()
    with torch.no_grad():
        network.head.weight.copy_(network.head.weight.flip(1))  # now each class looks at the other half
    wrong = measured(network, "cat + dog")
    assert (wrong["grid_energy"] < 6).all()
    assert (wrong["grid_hit"] == 0).all()


def test_a_pair_needs_two_classes_that_the_network_knows(network):
    assert not len(measured(network, "chicken + duck"))  # both are VOC's bird
    assert not len(measured(network, "cow + pig"))  # VOC has no pig


@pytest.mark.parametrize(("model", "pairs"), [("voc_mlp", 25), ("voc_vgg16", 25)])
def test_every_pair_that_a_network_knows_is_in_its_rows(model, pairs):
    rows, settings = read_rows(rows_path("photographs", model, "grid"))
    assert rows["image"].nunique() == pairs
    assert set(rows["image"]) <= set(PhotographPairs().ids)
    assert settings["model"] == model

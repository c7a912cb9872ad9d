"""Figures of one image's idea: what is drawn is what was given."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from campanion.report import idea_figures as idea

IMAGE = np.zeros((8, 8, 3))


@pytest.fixture(autouse=True)
def _close():
    mpl.use("agg")
    yield
    plt.close("all")


def titles(fig):
    return [ax.get_title() for ax in fig.axes if ax.get_title()]


def test_a_network_has_a_box_for_each_text_and_an_arrow_for_each_pair():
    fig = idea.network_figure([["a", None, "b"], ["c", "d"]], "01-21 01-00 00-10")
    (ax,) = fig.axes
    boxes = {t.get_text(): t.get_position() for t in ax.texts if t.get_text()}
    assert boxes == {"a": (0, 1), "b": (2, 1), "c": (0, 0), "d": (1, 0)}
    assert [(t.xyann, t.xy) for t in ax.texts if not t.get_text()] == [
        ((0, 1), (2, 1)), ((0, 1), (0, 0)), ((0, 0), (1, 0)),
    ]  # fmt: skip


def test_steps_show_the_chosen_channels_and_their_weights():
    maps = torch.arange(5 * 4).reshape(1, 5, 2, 2).float()
    found = {"F": maps, "M": maps, "F'": 2 * maps, "I~": torch.ones(1, 1, 2, 2), "L": torch.ones(1, 2, 2)}
    weights = torch.tensor([[0.1, 0.4, 0.2, 0.2, 0.1]])
    fig = idea.steps_figure(IMAGE, {**found, "w": weights}, [1, 4])
    assert titles(fig)[1:3] == ["$F_k$, k = 1", "$F_k$, k = 4"]
    assert [bar.get_width() for bar in fig.axes[-1].patches] == pytest.approx([0.4, 0.1])
    np.testing.assert_array_equal(fig.axes[1].images[0].get_array(), maps[0, 1])


def test_an_absent_channel_of_the_game_is_dark():
    activations = torch.rand(3, 4, 4) + 0.1
    present = torch.tensor([[True, False, True], [False, True, True]])
    fig = idea.game_figure(IMAGE, activations, present, torch.tensor([1.0, 2.5]), [0, 1], "t")
    assert titles(fig) == ["0: present", "1: absent", "0: absent", "1: present"]
    assert not fig.axes[2].images[0].get_array().any()
    assert "2.50" in fig.axes[7].texts[0].get_text()


def test_agreement_is_drawn_against_the_line_of_equality():
    x, y = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 3.0])
    fig = idea.agreement_figure({"a": {"x": x, "y": y, "error": x}, "b": {"x": x, "y": y, "error": x}}, "x", "y")
    assert titles(fig) == ["a", "b"]
    line = fig.axes[0].lines[-1]
    assert list(line.get_xdata()) == list(line.get_ydata()) == [0, 3]
    coloured = idea.agreement_figure({"a": {"x": x, "y": y, "colour": x}}, "x", "y", 1, "share")
    assert coloured.axes[-1].get_ylabel() == "share"


def test_contributions_add_up_to_the_map_that_is_drawn():
    activations, weights = torch.rand(4, 3, 3), torch.tensor([1.0, -2.0, 0.5, 0.0])
    fig = idea.contributions_figure(IMAGE, activations, activations, weights, [0, 1], torch.rand(8, 8))
    drawn = fig.axes[6].images[0].get_array()
    np.testing.assert_allclose(drawn, torch.einsum("k,khw->hw", weights, activations).relu(), rtol=1e-5)
    assert "-2.00" in fig.axes[5].get_title()


def test_the_channels_that_are_missed_most_are_named():
    pairs, missed = torch.eye(6), torch.tensor([0.0, 0.5, 0.1, 0.4, 0.0, 0.3])
    fig = idea.interactions_figure({"a": pairs, "b": 0 * pairs}, missed, "error")
    assert [t.get_text() for t in fig.axes[2].texts] == ["channel 1", "channel 3", "channel 5"]
    assert fig.axes[0].images[0].get_clim() == fig.axes[1].images[0].get_clim() == (-1, 1)

"""Figures of one image's idea: what is drawn is what was given."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from campanion.report import method_figures as idea


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


def test_agreement_is_drawn_against_the_line_of_equality():
    x, y = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 3.0])
    fig = idea.agreement_figure({"a": {"x": x, "y": y, "error": x}, "b": {"x": x, "y": y, "error": x}}, "x", "y")
    assert titles(fig) == ["a", "b"]
    line = fig.axes[0].lines[-1]
    assert list(line.get_xdata()) == list(line.get_ydata()) == [0, 3]
    coloured = idea.agreement_figure({"a": {"x": x, "y": y, "colour": x}}, "x", "y", 1, "share")
    assert coloured.axes[-1].get_ylabel() == "share"


def test_the_channels_that_are_missed_most_are_named():
    pairs, missed = torch.eye(6), torch.tensor([0.0, 0.5, 0.1, 0.4, 0.0, 0.3])
    fig = idea.interactions_figure({"a": pairs, "b": 0 * pairs}, missed, "error")
    assert [t.get_text() for t in fig.axes[2].texts] == ["channel 1", "channel 3", "channel 5"]
    assert fig.axes[0].images[0].get_clim() == fig.axes[1].images[0].get_clim() == (-1, 1)

"""Seconds per image: every method alone, in units that can be checked."""

from __future__ import annotations

import time

import pytest
import torch
from campanion.cams import METHODS
from campanion.cams.gradient import grad_cam
from campanion.cams.methods import Method
from campanion.data import open_dataset
from campanion.experiments.subject import Subject
from campanion.experiments.timing import _once, median_seconds, seconds_per_image
from campanion.game import ChannelGame
from campanion.models import load_model


def test_a_method_that_waits_is_seen_to_wait(monkeypatch):
    def waiting(game, target):
        time.sleep(0.05)
        return grad_cam(game, target)

    monkeypatch.setitem(METHODS, "waiting", Method("waiting", "Waiting", "here", waiting, "weights"))
    data, model = open_dataset("scenes", n=3), load_model("scenes_vgg")
    rows = seconds_per_image(Subject(model, data), ["waiting", "xgrad_cam:lift"], limit=2)
    assert list(rows.image.unique()) == [data.ids[i] for i in data.order(0)[:2]]
    table = rows.pivot(index="image", columns="method", values="seconds_per_image")
    assert (table["waiting"] >= 0.05).all()
    assert (table["xgrad_cam:lift"] > 0).all()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="lift_cam"):
        seconds_per_image(Subject(load_model("scenes_vgg"), open_dataset("scenes", n=1)), ["lift_kam"])


def test_a_slow_network_is_timed_on_two_images_at_least_and_no_further(monkeypatch):
    monkeypatch.setattr("campanion.experiments.timing.PATIENCE", 0.0)
    data, model = open_dataset("scenes", n=4), load_model("scenes_vgg")
    rows = seconds_per_image(Subject(model, data), ["grad_cam", "lift_cam"], limit=4)
    assert list(rows.image.unique()) == [data.ids[i] for i in data.order(0)[:2]]


def test_a_long_call_is_made_once():
    calls = []
    seconds = median_seconds(lambda: calls.append(time.sleep(0.02)), block=0.001)
    assert len(calls) == 1
    assert 0.02 <= seconds < 0.2


def test_the_pass_that_all_methods_share_is_not_timed():
    """A method that takes a gradient takes it in the graph of that pass, and runs the trunk no second time."""
    model, passes = load_model("scenes_resnet"), []
    subject = Subject(model, open_dataset("scenes", n=1))
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    game = ChannelGame.of(subject.parts, subject.image(subject.data[0]))
    handle = first.register_forward_hook(lambda *_: passes.append(1))
    for name in ("grad_cam", "fd_cam", "lift_cam", "ablation_cam"):
        _once(game, subject, name)
    handle.remove()
    assert passes == []

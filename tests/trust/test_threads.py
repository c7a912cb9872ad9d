"""Explaining in threads: own networks, one shared network, and threads that only run theirs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from campanion import explain
from campanion.inference import eval_mode
from nets import net, random_images
from torch import nn

METHODS = ("grad_cam", "fd_cam", "lift_cam", "score_cam", "gradient")
NAMES = ("linear", "mlp", "pixel", "residual")


def together(*work: Callable[[], str]) -> Counter:
    """What the functions say, each run by a thread of its own."""
    said, start = [], threading.Barrier(len(work))

    def run(function: Callable[[], str]) -> None:
        start.wait()
        try:
            said.append(function())
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(said)


@pytest.mark.parametrize("shared", [False, True], ids=["own networks", "one network"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_four_threads_and_a_bystander_get_what_they_would_alone(shared: bool, training: bool) -> None:
    before = nn.Module.__call__, nn.Module.__getattr__
    one = net("mlp")
    models = [one if shared else net(name) for name in NAMES]
    images = [random_images(1, seed=seed) for seed in range(4)]
    alone = [explain(m, x, 1, METHODS).maps for m, x in zip(models, images, strict=True)]
    for model in models:
        model.train(training)
    bystander, shown = net("convolutions"), random_images()
    expected = bystander(shown)

    def explained(i: int) -> str:
        for _ in range(3):
            maps = explain(models[i], images[i], 1, METHODS).maps
            if not all(torch.allclose(maps[name], alone[i][name], atol=1e-6) for name in METHODS):
                return "another map"
        return "right"

    def passed() -> str:
        for _ in range(100):
            with torch.no_grad():
                if not torch.equal(bystander(shown), expected):
                    return "other logits"
        return "right"

    assert together(*(lambda i=i: explained(i) for i in range(4)), passed) == {"right": 5}
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
    assert all(m.training == training for model in models for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for model in models for m in model.modules())


def test_the_last_thread_restores_the_flags() -> None:
    model, inside, leave = net("mlp").train(), threading.Event(), threading.Event()

    def hold() -> str:
        with eval_mode(model):
            inside.set()
            leave.wait(20)
            return "eval" if not any(m.training for m in model.modules()) else "train"

    def visit() -> str:
        inside.wait(20)
        with eval_mode(model):
            pass
        leave.set()
        return "left"

    assert together(hold, visit) == {"eval": 1, "left": 1}
    assert all(m.training for m in model.modules())

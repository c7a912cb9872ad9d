"""What a recipe's numbers become: the optimiser, the learning rate of each step, the seeds of each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from campanion.training.recipe import Recipe


def make_optimiser(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, at its highest learning rate; the loop sets the rate of each step."""
    shared = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, **shared)
    return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **shared)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    r"""The learning rate of step ``step`` of 0 .. ``steps`` - 1: a function of the step alone, with no state to keep.

    ``"steps"``: lr / 10^d after d of the drops. ``"one_cycle"``: half a cosine from lr / 25 up to lr, then half a
    cosine down to lr / 250,000, as torch's ``OneCycleLR``. ``"cosine"``: half a cosine from lr down to 0.
    """
    if recipe.schedule == "steps":
        return recipe.lr * 0.1 ** sum(step >= math.ceil(drop * steps) for drop in recipe.drops)
    if recipe.schedule == "cosine":
        return _cosine(recipe.lr, 0.0, step / steps)
    low, end, top = recipe.lr / 25, recipe.lr / 25e4, recipe.warm_up * steps - 1
    if step < top:
        return _cosine(low, recipe.lr, step / top)
    return _cosine(recipe.lr, end, (step - top) / max(steps - 1 - top, 1e-12))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def seed_of(*numbers: int) -> int:
    """A seed of 63 bits that differs for different numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)

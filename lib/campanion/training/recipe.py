"""The numbers of one training run, and what they become: the optimiser, each step's learning rate, each epoch's seeds.

``docs/training.md`` has the recipes side by side. ``batch`` counts the images of a step over all
processes: more machines change the time, not the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator
from torch import Tensor

from campanion.errors import one_of, sentence_of

Share = Annotated[float, Field(ge=0, lt=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]


class Checked(BaseModel):
    """Frozen settings; a wrong one is a ``ValueError`` that says what it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as problem:
            raise ValueError(sentence_of(problem)) from problem


class Recipe(Checked):
    """The numbers of one training run."""

    epochs: StrictInt = Field(ge=1)  #: passes over the training images
    batch: StrictInt = Field(ge=2)  #: images of a step, over all processes
    lr: float = Field(0.1, gt=0, allow_inf_nan=False)  #: highest learning rate
    schedule: Literal["steps", "one_cycle", "cosine"] = "steps"  #: ``"steps"``: divided by 10 at ``drops``
    drops: tuple[InnerShare, ...] = (0.5, 0.75)  #: shares of all steps
    warm_up: InnerShare = 0.25  #: share of all steps in which a cycle's learning rate rises
    momentum: Share = 0.9  #: of SGD
    nesterov: StrictBool = False  #: of SGD
    weight_decay: float = Field(1e-4, ge=0)  #: of all parameters; AdamW's is decoupled from the gradient
    label_smoothing: Share = 0.0  #: share of the target that is spread over all classes
    #: see :func:`campanion.training.batches.draw`
    augment: Literal["none", "shift_flip", "resized_crop_flip"] = "shift_flip"
    padding: float = Field(1 / 8, ge=0, le=1)  #: of ``shift_flip``, as a share of the image's side
    min_area: float = Field(0.08, gt=0, le=1)  #: of ``resized_crop_flip``
    optimiser: Literal["sgd", "adamw"] = "sgd"  #: ``"adamw"``: Loshchilov and Hutter 2019; betas 0.9 and 0.999

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov must be false without momentum, not True.")
        return self

    def as_dict(self) -> dict[str, object]:
        """The numbers as JSON has them."""
        return self.model_dump(mode="json")


SETTINGS = tuple(Recipe.model_fields)


def recipe(name: str, size: int, imagenet: bool = False, **changes: object) -> Recipe:
    """The recipe ``"paper"``, ``"short"`` or ``"fine_tune"`` for images of ``size`` pixels, with single ``changes``.

    With ``imagenet`` the paper's epochs are 90. ValueError: unknown name, or a value that makes no sense.
    """
    small = size <= 32
    augment = "shift_flip" if small else "resized_crop_flip"
    one_cycle = {"schedule": "one_cycle"}
    recipes = {
        "paper": {
            "epochs": 90 if imagenet else 300, "batch": 128 if small else 256, "weight_decay": 5e-4 if small else 1e-4,
            "augment": augment,
        },
        "short": {
            "epochs": 30, "batch": 128 if small else 64, "lr": 0.1 if small else 0.05, **one_cycle, "nesterov": True,
            "weight_decay": 5e-4, "label_smoothing": 0.0 if small else 0.1, "augment": augment, "min_area": 0.35,
        },
        "fine_tune": {
            "epochs": 5, "batch": 32, "lr": 5e-4, **one_cycle, "optimiser": "adamw", "weight_decay": 0.05,
            "padding": 1 / 12,
        },
    }  # fmt: skip
    one_of("recipe", name, recipes)
    return Recipe(**{**recipes[name], **changes})


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

"""How a network is trained: the paper's recipe, a short one, one for fine-tuning, and the rate of each step.

=====================  ==============================================  ==============================================
                       ``paper`` (LFI-CAM, section 4.1)                ``short``
=====================  ==============================================  ==============================================
epochs                 300; 90 on ImageNet                             30
learning rate          0.1, divided by 10 at 50 % and 75 %             one cycle: up for a quarter, down to about zero
batch                  128 at 32 pixels, 256 otherwise                 128 at 32 pixels, 64 otherwise
SGD                    momentum 0.9                                    momentum 0.9, Nesterov
weight decay           1e-4; 5e-4 at 32 pixels (the authors' code)     5e-4
augmentation           padding 4 and random crop at 32 pixels, random  the same; a random part is at least 35 % of the
                       resized crop otherwise; mirroring               picture; label smoothing 0.1 above 32 pixels
=====================  ==============================================  ==============================================

``batch`` counts the pictures of a step over all processes: more machines change the time, not the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor

from campanion.errors import unknown
from campanion.training.batches import AUGMENTATIONS

SCHEDULES = ("steps", "one_cycle")
NAMES = ("paper", "short", "fine_tune")
OPTIMISERS = ("sgd", "adamw")


@dataclass(frozen=True)
class Recipe:
    """The numbers of one training.

    Attributes:
        epochs: passes over the training pictures.
        batch: pictures of a step, over all processes.
        lr: highest learning rate.
        schedule: ``"steps"`` (divided by 10 at ``drops``) or ``"one_cycle"``.
        drops: shares of all steps.
        warm_up: share of all steps in which a cycle's learning rate rises.
        optimiser: ``"sgd"`` or ``"adamw"`` (Loshchilov and Hutter 2019; betas 0.9 and 0.999).
        momentum, nesterov: of SGD.
        weight_decay: of all parameters; AdamW's is decoupled from the gradient.
        label_smoothing: share of the target that is spread over all classes.
        augment: one of :data:`campanion.training.batches.AUGMENTATIONS`.
        padding: of ``shift_flip``, as a share of the picture's side.
        min_area: of ``resized_crop_flip``.

    Raises:
        ValueError: a value that makes no sense; names it.
    """

    epochs: int
    batch: int
    lr: float = 0.1
    schedule: str = "steps"
    drops: tuple[float, ...] = (0.5, 0.75)
    warm_up: float = 0.25
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    augment: str = "shift_flip"
    padding: float = 1 / 8
    min_area: float = 0.08
    optimiser: str = "sgd"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("schedule", self.schedule, SCHEDULES),
            ("augment", self.augment, AUGMENTATIONS),
            ("optimiser", self.optimiser, OPTIMISERS),
        ):
            if value not in known:
                raise ValueError(unknown(name, value, known))
        for name, good, wanted in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch", self.batch >= 2, "at least 2"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("drops", all(isinstance(d, float) and 0 < d < 1 for d in self.drops), "shares between 0 and 1"),
            ("warm_up", 0 < self.warm_up < 1, "between 0 and 1"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("nesterov", not self.nesterov or self.momentum > 0, "false without momentum"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            ("padding", 0 <= self.padding <= 1, "in 0..1"),
            ("min_area", 0 < self.min_area <= 1, "above 0 and at most 1"),
        ):
            if not good:
                raise ValueError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")

    def as_dict(self) -> dict[str, object]:
        """The numbers as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


SETTINGS = tuple(field.name for field in fields(Recipe))


def recipe(name: str, size: int, imagenet: bool = False, **changes: object) -> Recipe:
    """The recipe called ``name`` for pictures of ``size`` pixels.

    Args:
        name: ``"paper"``, ``"short"`` or ``"fine_tune"``.
        size: side of the pictures that the network is given.
        imagenet: the set is ImageNet, for which the paper's epochs are 90.
        changes: of single numbers, such as ``epochs=90``.

    Raises:
        ValueError: unknown name, or a value that makes no sense.

    >>> recipe("paper", 32).lr
    0.1
    """
    if name not in NAMES:
        raise ValueError(unknown("recipe", name, NAMES))
    small = size <= 32
    if name == "paper":
        chosen = Recipe(
            epochs=90 if imagenet else 300,
            batch=128 if small else 256,
            weight_decay=5e-4 if small else 1e-4,
            augment="shift_flip" if small else "resized_crop_flip",
        )
    elif name == "fine_tune":
        chosen = Recipe(
            epochs=5,
            batch=32,
            lr=5e-4,
            schedule="one_cycle",
            weight_decay=0.05,
            padding=1 / 12,
            optimiser="adamw",
        )
    else:
        chosen = Recipe(
            epochs=30,
            batch=128 if small else 64,
            lr=0.1 if small else 0.05,
            schedule="one_cycle",
            nesterov=True,
            weight_decay=5e-4,
            label_smoothing=0.0 if small else 0.1,
            augment="shift_flip" if small else "resized_crop_flip",
            min_area=0.35,
        )
    return replace(chosen, **changes)


def make_optimiser(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, at its highest learning rate; the loop sets the rate of each step."""
    shared = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, **shared)
    return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **shared)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    r"""The learning rate of step ``step`` of 0 .. ``steps`` - 1: a function of the step alone, with no state to keep.

    ``"steps"``: lr / 10^d after d of the drops. ``"one_cycle"``: half a cosine from lr / 25 up to lr, then half a
    cosine down to lr / 250,000, as torch's ``OneCycleLR``.
    """
    if recipe.schedule == "steps":
        return recipe.lr * 0.1 ** sum(step >= math.ceil(drop * steps) for drop in recipe.drops)
    low, end, top = recipe.lr / 25, recipe.lr / 25e4, recipe.warm_up * steps - 1
    if step < top:
        return _cosine(low, recipe.lr, step / top)
    return _cosine(recipe.lr, end, (step - top) / max(steps - 1 - top, 1e-12))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

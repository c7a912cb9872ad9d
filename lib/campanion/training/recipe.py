"""The numbers of one training run: the paper's recipe, a short one, and one for fine-tuning.

=====================  ==============================================  ==============================================
                       ``paper`` (LFI-CAM, section 4.1)                ``short``
=====================  ==============================================  ==============================================
epochs                 300; 90 on ImageNet                             30
learning rate          0.1, divided by 10 at 50 % and 75 %             one cycle: up for a quarter, down to about zero
batch                  128 at 32 pixels, 256 otherwise                 128 at 32 pixels, 64 otherwise
SGD                    momentum 0.9                                    momentum 0.9, Nesterov
weight decay           1e-4; 5e-4 at 32 pixels (the authors' code)     5e-4
augmentation           padding 4 and random crop at 32 pixels, random  the same; a random part is at least 35 % of the
                       resized crop otherwise; mirroring               image; label smoothing 0.1 above 32 pixels
=====================  ==============================================  ==============================================

``batch`` counts the images of a step over all processes: more machines change the time, not the recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from campanion.errors import sentence_of, unknown

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
    if name not in recipes:
        raise ValueError(unknown("recipe", name, recipes))
    return Recipe(**{**recipes[name], **changes})

"""Networks: torchvision's with local or downloaded weights, this project's own, and the papers' trainable ones."""

from campanion import torchvision_start  # noqa: F401 - before any import of torchvision
from campanion.models.build import build_model
from campanion.models.load import load_model

__all__ = ["build_model", "load_model"]

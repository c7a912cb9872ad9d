"""Networks: torchvision's with local or downloaded weights, and this project's own."""

from campanion.models.zoo import load_model

__all__ = ["load_model"]

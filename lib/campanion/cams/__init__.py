"""Class activation maps: one file per family, one registry, one way in."""

from campanion import torchvision_start  # noqa: F401 - before any import of torchvision
from campanion.cams import coalition, fd, gradient, learned, masking, pixels  # noqa: F401 - importing registers the methods
from campanion.cams.explain import Explanation, explain, explain_game
from campanion.cams.methods import METHODS

__all__ = ["METHODS", "Explanation", "explain", "explain_game"]

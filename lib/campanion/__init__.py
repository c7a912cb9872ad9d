"""campanion: the reproducible companion to LFI-CAM, FD-CAM and LIFT-CAM."""

from campanion.cams import METHODS, Explanation, explain
from campanion.models import load_model

__version__ = "0.1.0"
__all__ = ["METHODS", "Explanation", "explain", "load_model"]

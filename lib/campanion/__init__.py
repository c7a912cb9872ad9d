"""campanion: the reproducible companion to LFI-CAM, FD-CAM and LIFT-CAM."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campanion.cams import METHODS, Explanation, explain
    from campanion.models import load_model

__version__ = "0.1.0"
__all__ = ["METHODS", "Explanation", "explain", "load_model"]

_HOMES = {"METHODS": "cams", "Explanation": "cams", "explain": "cams", "load_model": "models"}


def __getattr__(name: str) -> object:
    """The public names on first use: importing PyTorch takes seconds, which what only runs notebooks need not wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

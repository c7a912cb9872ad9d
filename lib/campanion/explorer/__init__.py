"""Explain images by hand: the widget for notebooks, and the plain functions that it and the command line use."""

from importlib import import_module

_HOMES = {
    "bench": ("Answer", "Bench", "find_class", "search"),
    "figure": ("Look", "draw", "png"),
    "files": ("Request", "explain_files", "save"),
    "live": ("Knobs",),
    "sources": ("MODELS", "image_sources", "network", "own_network", "photograph_bench", "pictures"),
    "widget": ("Explorer",),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> object:
    """Each name on first use: the command line does without the packages of the widget."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

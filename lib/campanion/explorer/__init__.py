"""Explain one picture by hand: the widget for notebooks, and the plain functions that it and the command line use."""

from campanion.explorer.bench import Answer, Bench, find_class, search
from campanion.explorer.figure import draw, png, save
from campanion.explorer.sources import MODELS, network, pictures
from campanion.explorer.widget import Explorer

__all__ = [
    "MODELS",
    "Answer",
    "Bench",
    "Explorer",
    "draw",
    "find_class",
    "network",
    "pictures",
    "png",
    "save",
    "search",
]

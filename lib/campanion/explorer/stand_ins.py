"""The image and the network of a knob: a photograph in VGG16 where its weights are here, else a generated scene."""

from __future__ import annotations

from campanion.data.photographs import photograph
from campanion.data.scenes import scene
from campanion.errors import MissingData
from campanion.explorer.bench import Bench
from campanion.explorer.sources import network
from campanion.models import load_model

STAND_IN = ("scenes_vgg", 28)  # a network of this repository, and the seed of a scene that it knows


def photograph_bench(name: str, model: str, mode: str = "cached", stand_in: tuple[str, int] = STAND_IN) -> Bench:
    """Photograph ``name`` in network ``model``; in a quick run, or without its weights, a scene (network and seed)."""
    if mode != "quick":
        try:
            return Bench(network(model), photograph(name), name)
        except MissingData:
            pass  # the stored images were made with the weights, and the controls work all the same
    other, seed = stand_in
    return Bench(load_model(other), scene(seed, size=224, n_objects=2).image, f"scene {seed}")

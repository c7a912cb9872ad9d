"""Photographs that anybody may show, and two of them side by side, where the place of each object is known.

Nine are in ``data/pictures``, in the public domain, with a table of authors and sources; the others come inside
scikit-image and matplotlib, public domain or CC0. The figures of this project show these and generated scenes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from campanion import paths
from campanion.data.samples import Dataset, Sample
from campanion.errors import one_of
from campanion.pictures import open_picture

# What each photograph shows, in ImageNet's and in VOC's classes; "+" stands between two that are side by side.
_SHOWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cat": (("Egyptian cat",), ("cat",)),
    "chicken": (("hen",), ("bird",)),
    "cow": (("ox",), ("cow",)),
    "dog": (("German shepherd",), ("dog",)),
    "duck": (("goose",), ("bird",)),
    "horse": (("sorrel",), ("horse",)),
    "owl": (("great grey owl",), ("bird",)),
    "pig": (("hog",), ()),
    "sheep": (("ram",), ("sheep",)),
    "dog + cat": (("German shepherd", "Egyptian cat"), ("dog", "cat")),
    "dog + chelsea": (("German shepherd", "Egyptian cat"), ("dog", "cat")),
    "grace hopper": (("military uniform", "Windsor tie"), ("person",)),
    "camera": (("tripod", "trench coat"), ("person",)),
    "astronaut": (("crash helmet", "space shuttle"), ("person",)),
    "rocket": (("missile",), ()),
    "chelsea": (("Egyptian cat",), ("cat",)),
    "coffee": (("espresso",), ()),
}
#: The photographs of ``data/pictures``.
ANIMALS = tuple(_SHOWS)[:9]
#: All photographs, with the ImageNet classes of what they show.
PHOTOGRAPHS: dict[str, tuple[str, ...]] = {name: imagenet for name, (imagenet, _) in _SHOWS.items()}
#: The same in the 20 classes of Pascal VOC; photographs of other things are left out.
VOC: dict[str, tuple[str, ...]] = {name: voc for name, (_, voc) in _SHOWS.items() if voc}
_BESIDE = " + "
_CELL = (360, 480)  # width and height in pixels of one of two photographs side by side


@lru_cache(maxsize=8)
def photograph(name: str) -> Image.Image:
    """The photograph called ``name``, RGB; ValueError where it is not among :data:`PHOTOGRAPHS`."""
    one_of("photograph", name, PHOTOGRAPHS)
    if _BESIDE in name:
        return beside(*name.split(_BESIDE))
    if name in ANIMALS:
        return open_picture(paths.pictures_dir() / f"{name}.webp")
    if name == "grace hopper":
        from matplotlib.cbook import get_sample_data

        with get_sample_data("grace_hopper.jpg") as file:
            return open_picture(file.read())
    import skimage.data  # takes a while, for five of the images

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def classes_of(name: str, class_names: Sequence[str]) -> tuple[str, ...]:
    """Those classes of a network that name what photograph ``name`` shows; empty where it has none."""
    fits = VOC if len(class_names) == 20 else PHOTOGRAPHS
    return tuple(c for c in fits.get(name, ()) if c in class_names)


def beside(left: str, right: str) -> Image.Image:
    """Two photographs side by side, 720 x 480 pixels, each cropped in its middle to an upright half."""
    whole = Image.new("RGB", (2 * _CELL[0], _CELL[1]))
    for i, name in enumerate((left, right)):
        image = photograph(name)  # its middle, in the proportions of a cell
        width = min(image.width, image.height * _CELL[0] / _CELL[1])
        box = ((image.width - width) / 2, 0, (image.width + width) / 2, image.height)
        whole.paste(image.resize(_CELL, Image.Resampling.LANCZOS, box=box), (i * _CELL[0], 0))
    return whole


class PhotographPairs(Dataset):
    """Every two of the nine photographs of ``data/pictures`` side by side: ``"cat + dog"`` and 35 more."""

    name, card, class_names = "photographs", "pairs of public domain photographs", ()

    def __init__(self) -> None:
        self.ids = [_BESIDE.join(pair) for pair in combinations(ANIMALS, 2)]
        self.labels = [None] * len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], beside(*self.ids[index].split(_BESIDE)))


def halves(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Boxes [1, 4] of the left and the right photograph of :func:`beside`, in pixels of a map of that size.

    They are known by construction. In a map of an odd width the column in the middle belongs to both.
    """
    middle = width / 2
    return torch.tensor([[0.0, 0.0, middle, height]]), torch.tensor([[middle, 0.0, width, height]])


def sources() -> str:
    """``cat: Loliloli; chicken: Tranquilles; ...``: photographs of ``data/pictures`` and their authors, for a foot."""
    table = np.loadtxt(paths.pictures_dir() / "SOURCES.csv", str, delimiter=",", quotechar='"', skiprows=1)
    return "; ".join(f"{row[0].removesuffix('.webp')}: {row[2]}" for row in table)

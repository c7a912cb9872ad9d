"""What can be explored: images to pick from, image files, and networks whose weights are here."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from pkgutil import resolve_name

from PIL import Image
from torch import nn

from campanion import paths
from campanion.data.photographs import PHOTOGRAPHS, photograph
from campanion.data.registry import find_entry
from campanion.data.scenes import scene
from campanion.errors import MissingData
from campanion.explorer.bench import Bench
from campanion.models import load_model
from campanion.pictures import open_picture

#: Networks offered: two that this project trained on generated scenes, and four of torchvision's.
MODELS = ("scenes_vgg", "scenes_resnet", "squeezenet1_1", "resnet18", "resnet50", "vgg16")
SCENES = (28, 12, 7, 3)  # seeds
STAND_IN = ("scenes_vgg", 28)  # a network of this repository, and the seed of a scene that it knows
MOST_FILES = 500  # of a folder that are listed
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")


def pictures(folder: str | Path | None = None) -> dict[str, Callable[[], Image.Image]]:
    """Functions that open an image, by the image's name: scenes, photographs, then the files of ``folder`` by name, the
    first :data:`MOST_FILES` of them; MissingData where there is no such folder, or no image file in it.

    >>> pictures()["chelsea"]().size
    (451, 300)
    """
    images: dict[str, Callable[[], Image.Image]] = {f"scene {seed}": partial(_scene, seed) for seed in SCENES}
    images |= {name: partial(photograph, name) for name in PHOTOGRAPHS}
    if folder is None:
        return images
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise MissingData(f"There is no folder {place}.")
    return images | {path.name: partial(open_picture, path) for path in image_files(place)[:MOST_FILES]}


@lru_cache(maxsize=2)  # going back and forth between two networks loads none; more would fill the memory
def network(name: str) -> nn.Module:
    """:func:`campanion.load_model`, except that nothing is downloaded, for a click should not fetch 500 MB: MissingData
    says how to get weights that are not here."""
    if name in MODELS and not name.startswith("scenes_"):
        root = paths.data_dir()
        if find_entry(f"weights/{name}").find(root) is None:
            raise MissingData(
                f"The weights of {name} are not in {root / 'weights'}: run `python -m campanion data fetch "
                f"weights/{name}`, or point CAMPANION_DATA at the folder that holds weights/{name}.npz."
            )
    return load_model(name)


def photograph_bench(name: str, model: str, mode: str = "cached", stand_in: tuple[str, int] = STAND_IN) -> Bench:
    """Photograph ``name`` in network ``model``; in a quick run, or without its weights, a scene (network and seed)."""
    if mode != "quick":
        try:
            return Bench(network(model), photograph(name), name)
        except MissingData:
            pass  # the stored images were made with the weights, and the controls work all the same
    other, seed = stand_in
    return Bench(load_model(other), _scene(seed), f"scene {seed}")


def _scene(seed: int) -> Image.Image:
    return scene(seed, size=224, n_objects=2).image


def own_network(place: str) -> nn.Module:
    """What ``module:function`` returns, or a network of that name, of the current folder too; ValueError where there
    is no such function, it fails, or it gives no network."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        made = resolve_name(place)
        return (made if isinstance(made, nn.Module) else made()).eval()
    except Exception as problem:  # whatever somebody else's module raises
        raise ValueError(
            f"The network {place} cannot be made: {type(problem).__name__}: {str(problem).rstrip('. ')}. Give a module "
            "and a function: mine:network is the torch.nn.Module that network() of mine.py in this folder returns."
        ) from problem


@dataclass(frozen=True)
class Source:
    """An image to explain: its path, or the bytes that came from standard input, and the names it may have."""

    path: str
    content: bytes | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The file's name without its ending; and for a namesake the folder and the ending with it."""
        if self.content is not None:
            return "stdin", "stdin"
        path = Path(self.path)
        return clean(path.stem), clean("-".join((path.resolve().parent.name, path.name.replace(".", "-"))))

    def read(self) -> tuple[Image.Image, str]:
        """The image, and the SHA-256 of its file."""
        image = open_picture(self.path if self.content is None else self.content)
        content = Path(self.path).read_bytes() if self.content is None else self.content
        return image, hashlib.sha256(content).hexdigest()


def image_sources(words: Sequence[str]) -> list[Source]:
    """The images that paths, folders and ``-`` (standard input) name, each once; of a folder those directly in it."""
    listed: dict[str, Source] = {}
    for word in words:
        if word == "-":
            listed[word] = Source("-", sys.stdin.buffer.read())
        elif Path(word).is_dir():
            listed |= {str(path.resolve()): Source(str(path)) for path in image_files(Path(word))}
        else:
            listed[str(Path(word).resolve())] = Source(word)
    return list(listed.values())


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name; MissingData where it has none."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise MissingData(f"The folder {folder} holds no image file ({', '.join(SUFFIXES)}).")
    return files


def clean(text: object) -> str:
    """``text`` as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", str(text)).strip("-.") or "image"

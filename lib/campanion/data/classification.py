"""Sets of images with one label each, to train on: CIFAR, STL-10, Imagenette, cats and dogs, any folder.

============================  ==================================================================================
layout                        where below the data folder
============================  ==================================================================================
torchvision's CIFAR, STL-10   ``cifar10/cifar-10-batches-py``, ``cifar100/cifar-100-python``, ``stl10/stl10_binary``
JPEG bytes in one file        ``cifar10/cifar10-jpeg.npz``: ``{split}_jpeg``, ``_offsets``, ``_labels``
a folder for each class       ``imagenette/imagenette2-160``, ``imagenette96``, ``cats-dogs``: ``train`` and ``val``
                              or ``test``; any other such folder as ``folder:PATH``
============================  ==================================================================================
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision import datasets as tv

from campanion.data.imagenet import CLASS_NAMES as IMAGENET_NAMES
from campanion.data.imagenet import CLASS_OF_WNID
from campanion.data.samples import Dataset, Sample
from campanion.errors import MissingData, one_of
from campanion.pictures import open_picture

SPLITS = {None: "test", "val": "test", "test": "test", "train": "train"}
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_IMAGENETTE = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042", "n03425413", "n03445777",
    "n03888257",
)  # fmt: skip
IMAGENETTE_NAMES = tuple(IMAGENET_NAMES[CLASS_OF_WNID[wnid]] for wnid in _IMAGENETTE)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class LabelledImages(Dataset):
    """Images with one label each, one id each; ``read`` opens the image at an index, the card gets the counts."""

    def __init__(
        self,
        name: str,
        card: str,
        class_names: Sequence[str],
        ids: Sequence[str],
        labels: Sequence[int],
        read: Callable[[int], Image.Image],
    ) -> None:
        self.name, self.class_names = name, tuple(class_names)
        self.ids, self.labels = list(ids), [int(label) for label in labels]
        self.card = f"{card}: {len(self):,} images of {len(self.class_names)} classes"
        self._read = read

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        return Sample(self.ids[index], self._read(index), self.labels[index])


def open_cifar10(root: Path, split: str | None = None) -> LabelledImages:
    """CIFAR-10's ``"train"`` (50,000) or ``"test"`` images (10,000, the default); the original before a JPEG copy."""
    packed = root / "cifar10" / "cifar10-jpeg.npz"
    if packed.is_file() and not (root / "cifar10" / tv.CIFAR10.base_folder).is_dir():
        split = SPLITS[split]
        return read_packed(packed, split, "cifar10", CIFAR10_NAMES, f"CIFAR-10 {split}, a lossy copy in JPEG")
    return _published(tv.CIFAR10, root, split)


def _published(kind: type[tv.CIFAR10 | tv.STL10], root: Path, split: str | None = None) -> LabelledImages:
    """A set as torchvision reads it: only with the published MD5, since CIFAR's files are pickles."""
    split, stl10 = SPLITS[split], kind is tv.STL10
    name = kind.__name__.lower()
    title = kind.__name__.replace("10", "-10")
    place = root / name / kind.base_folder
    if not place.is_dir():
        raise _missing(title, name, root / name)
    try:
        data = kind(str(root / name), **({"split": split} if stl10 else {"train": split == "train"}))
    except RuntimeError as problem:
        raise ValueError(f"{place} is damaged or not whole: {problem}") from problem
    pixels = data.data.transpose(0, 2, 3, 1) if stl10 else data.data
    names, labels = (STL10_NAMES, data.labels) if stl10 else (data.classes, data.targets)
    ids = _numbered(split, len(pixels))
    return LabelledImages(name, f"{title} {split}", names, ids, labels, lambda i: Image.fromarray(pixels[i]))


#: CIFAR-100, as :func:`open_cifar10`; STL-10's labelled images: 5,000 to train with, 8,000 to test.
open_cifar100, open_stl10 = partial(_published, tv.CIFAR100), partial(_published, tv.STL10)


def _numbered(split: str, count: int) -> list[str]:
    return [f"{split}-{i:05d}" for i in range(count)]


def read_packed(file: Path, split: str, name: str, class_names: Sequence[str], card: str) -> LabelledImages:
    """Images that lie as JPEG bytes behind each other in one ``.npz``, from ``offsets[i]`` to ``offsets[i + 1]``."""
    try:
        with np.load(file, allow_pickle=False) as parts:
            stored, offsets, labels = (parts[f"{split}_{part}"] for part in ("jpeg", "offsets", "labels"))
        if len(offsets) != len(labels) + 1 or offsets[-1] != len(stored) or (np.diff(offsets) <= 0).any():
            raise ValueError("offsets, labels and bytes do not fit together")
        if labels.max() >= len(class_names):
            raise ValueError(f"a label is {labels.max()}, but there are {len(class_names)} classes")
    except Exception as problem:  # zip, zlib and NumPy each raise their own
        raise ValueError(f"{file} cannot be read: {problem}.") from problem

    def read(index: int) -> Image.Image:
        stream = io.BytesIO(stored[offsets[index] : offsets[index + 1]].tobytes())
        stream.name = f"{file}, image {index}"  # for the sentence that says which one is damaged
        return open_picture(stream)

    return LabelledImages(name, card, class_names, _numbered(split, len(labels)), labels, read)


def open_imagenette(root: Path, split: str | None = None) -> LabelledImages:
    """Imagenette's ``"train"`` or ``"test"`` images (its ``val``; the default); the full set before a 96 px sample."""
    split = SPLITS[split]
    for place, source in (
        (root / "imagenette" / "imagenette2-160", "Imagenette (160 px)"),
        (root / "imagenette96", "Imagenette at 96x96, a sample"),
    ):
        if place.is_dir():
            data = read_folder(place, split, "imagenette", source)
            if data.class_names != _IMAGENETTE:
                raise ValueError(f"{place} does not have Imagenette's ten folders of WordNet ids: {data.class_names}.")
            data.class_names = IMAGENETTE_NAMES
            return data
    raise _missing("Imagenette", "imagenette", root / "imagenette")


def open_cats_dogs(root: Path, split: str | None = None) -> LabelledImages:
    """Kaggle's cats and dogs: ``"train"`` or ``"test"`` (the default)."""
    if not (root / "cats-dogs").is_dir():
        raise _missing("Cats and dogs", "cats-dogs", root / "cats-dogs")
    return read_folder(root / "cats-dogs", SPLITS[split], "cats-dogs", "Kaggle cats and dogs")


def open_folder(root: Path, path: str, split: str | None = None) -> LabelledImages:
    """Any folder ``PATH/{train,val|test}/CLASS/*.jpg``, such as ImageNet's; PATH may be relative to the data folder."""
    one_of("split", split or "test", [name for name in SPLITS if name])
    place = root / Path(path).expanduser()
    return read_folder(place, SPLITS[split], place.name, f"folder {place.name}")


def read_folder(place: Path, split: str, name: str, source: str) -> LabelledImages:
    """One split of a folder that holds a folder for each class, in alphabetical order; ``"test"`` may be ``val``.

    Class names come from ``train`` where it is there, so that a class without test images keeps its index.
    """
    candidates = [place / "train"] if split == "train" else [place / "test", place / "val"]
    folder = next((f for f in candidates if f.is_dir()), None)
    if folder is None:
        raise MissingData(f"There is no folder {' or '.join(map(str, candidates))}: it holds a folder for each class.")
    classes = _class_folders(folder)
    names = _class_folders(place / "train") if (place / "train").is_dir() else classes
    if extra := sorted(set(classes) - set(names)):
        raise ValueError(f"{folder / extra[0]} is a class that {place / 'train'} does not have.")
    paths = [p for c in classes for p in sorted((folder / c).rglob("*")) if p.suffix.lower() in _SUFFIXES]
    ids = [i for p in paths if "/." not in (i := p.relative_to(folder).as_posix())]  # editors keep copies in .folders
    if not ids:
        raise MissingData(f"There are no images in class folders under {folder}.")
    labels = [names.index(i.split("/", 1)[0]) for i in ids]
    return LabelledImages(name, f"{source}, {split}", names, ids, labels, lambda i: open_picture(folder / ids[i]))


def _class_folders(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _missing(title: str, name: str, place: Path) -> MissingData:
    return MissingData(
        f"{title} is not in {place}: `python -m campanion data fetch {name}` brings it or says how to obtain it."
    )

"""What every data set hands out: images with labels, boxes and masks, in an order that is the same for everyone."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from campanion.errors import MissingData
from campanion.pictures import open_picture

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Object:
    """One annotated object; ValueError where the box is not finite or its corners are swapped."""

    label: int  #: class index
    box: Box  #: ``(x0, y0, x1, y1)`` in pixels of the sample's image
    difficult: bool = False  #: marked as hard to recognise (VOC), or a crowd (COCO)
    #: bool ``[height, width]`` at the image's size, where the set has segmentations
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not all(math.isfinite(v) for v in self.box) or x1 < x0 or y1 < y0:
            raise ValueError(
                f"The box {self.box} of class {self.label} is not (x0, y0, x1, y1) with x0 <= x1, y0 <= y1."
            )


@dataclass(frozen=True)
class Sample:
    """An image and what is known of it; ``label`` is None in sets that only list objects."""

    id: str
    image: Image.Image = field(compare=False, repr=False)
    label: int | None = None
    objects: tuple[Object, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """The distinct classes in the image, sorted."""
        classes = {o.label for o in self.objects} | {self.label}
        return tuple(sorted(classes - {None}))

    def boxes(self, label: int, difficult: bool = True) -> torch.Tensor:
        """Boxes of one class, float ``[n, 4]`` (xyxy, image pixels); ``difficult=False`` drops the difficult ones."""
        boxes = [o.box for o in self.objects if o.label == label and (difficult or not o.difficult)]
        return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


class Dataset(ABC):
    """A data set: ``len``, ``[i]`` gives a :class:`Sample`, and a fixed shuffled :meth:`order`.

    Readers set the five attributes and define ``__getitem__``.

    >>> data = open_dataset("imagenet-val")
    >>> first_500 = [data[i] for i in data.order()[:500]]
    """

    name: str
    card: str  # source, licence and count, for provenance lines
    class_names: tuple[str, ...]
    ids: list[str]  # one per sample, unique, the same wherever the set lies
    labels: list[int | None]  # class index per sample, known without opening the image

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``; raises ``ValueError`` naming the file when the image cannot be read."""

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def order(self, seed: int = 0) -> list[int]:
        """A fixed permutation: a run over the first N is contained in every longer run.

        Samples are sorted by the SHA-256 of ``seed:id``, so the order depends on no library's random stream, and a
        folder with only some of the images visits those in the same order as the whole set does.
        """
        return sorted(range(len(self)), key=lambda i: hashlib.sha256(f"{seed}:{self.ids[i]}".encode()).digest())


# The objects of one image, and the size (width, height) of the image that they were drawn on.
Annotation = tuple[list[Object], tuple[int, int]]
# File name of an image and its annotation: what a table of annotations says of it.
Row = tuple[str, Annotation]


class Annotated(Dataset):
    """Image files with objects; ``annotation(i)`` is what is known of image i, None where it has no boxes."""

    def __init__(
        self,
        name: str,
        class_names: Sequence[str],
        paths: Sequence[Path],
        annotation: Callable[[int], Annotation | None],
        card: str,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.name, self.class_names = name, tuple(class_names)
        self.paths, self.card, self._annotation = list(paths), card, annotation
        self.ids = [path.stem for path in self.paths]
        self.labels = [None] * len(self.ids) if labels is None else list(labels)

    def objects(self, index: int) -> tuple[Object, ...]:
        """The objects of one image in pixels of the size that was annotated, without opening the image."""
        annotation = self._annotation(range(len(self))[index])
        return () if annotation is None else tuple(annotation[0])

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        image = open_picture(self.paths[index], rotate=False)
        objects, drawn_on = self._annotation(index) or ((), image.size)
        fitted = tuple(replace(o, box=fit_box(o.box, drawn_on, image.size)) for o in objects)
        return Sample(self.ids[index], image, self.labels[index], fitted)


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Make one sentence, which names ``source``, of whatever a damaged or foreign file of annotations raises."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, ElementTree.ParseError) as problem:
        raise ValueError(f"{source} cannot be read: {problem!r}.") from problem


def read_xml(xml: Path, make: Callable[[str, Box, bool], Object]) -> Annotation:
    """The annotation in an XML file of VOC's form; ``make`` turns name, box and ``difficult`` into an object."""
    with reading(f"The annotations {xml}"):
        top = ElementTree.parse(xml).getroot()
        size = int(top.findtext("size/width", "")), int(top.findtext("size/height", ""))
        objects = []
        for item in top.iter("object"):
            box = to_box([item.findtext(f"bndbox/{c}", "") for c in ("xmin", "ymin", "xmax", "ymax")])
            difficult = item.findtext("difficult", "0").strip() == "1"
            objects.append(make(item.findtext("name", ""), box, difficult))
    return objects, size


def size_of(row: dict) -> tuple[int, int]:
    """Width and height, in pixels, of a row of annotations."""
    return int(row["width"]), int(row["height"])


def to_box(values: Sequence[object]) -> Box:
    """Four numbers as a box; ValueError or TypeError where they are not four numbers."""
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1


def class_index(name: str, names: Sequence[str], known: str) -> int:
    """Place of ``name`` among ``names``; ValueError says that it is not ``known``, such as one of VOC's 20 classes."""
    if name not in names:
        raise ValueError(f"{name!r} is not {known}")
    return names.index(name)


def present(folder: Path, names: Sequence[str], table: Path) -> list[Path]:
    """The files ``names`` of ``folder``; MissingData where ``table`` names one that does not lie in ``folder`` itself."""
    there = {path.name for path in folder.glob("*")}
    if absent := [name for name in names if name not in there]:
        raise MissingData(f"{len(absent)} of the files that {table} names are not in {folder}, such as {absent[0]}.")
    return [folder / name for name in names]


def fit_box(box: Box, drawn_on: tuple[int, int], size: tuple[int, int]) -> Box:
    """Scale a box to an image that was resized after annotation, and keep it inside; sizes are (width, height)."""
    if min(drawn_on) < 1:
        raise ValueError(f"The annotations give the image a size of {drawn_on[0]} x {drawn_on[1]} pixels.")
    sx, sy = size[0] / drawn_on[0], size[1] / drawn_on[1]
    x0, x1 = (min(max(x * sx, 0.0), float(size[0])) for x in (box[0], box[2]))
    y0, y1 = (min(max(y * sy, 0.0), float(size[1])) for y in (box[1], box[3]))
    return x0, y0, x1, y1

"""Pascal VOC 2007: images with boxes of 20 classes; the devkit's folder, or a compact sample of it.

Two layouts are read below ``voc2007`` of the data folder:

- ``VOCdevkit/VOC2007`` (torchvision's): ``ImageSets/Main/<split>.txt``, ``Annotations/*.xml``, ``JPEGImages/*.jpg``;
- ``annotations.json`` beside ``JPEGImages/``, a list of images: image, split (train or val), width, height, objects
  (name, box_xyxy in pixels of that width and height) and difficult_only, the classes all of whose objects in the
  image are difficult.

What ``Object.difficult`` means: in the devkit, the object's own mark. The sample keeps marks for classes, not for
objects: the objects of a difficult_only class are difficult, and all others are taken as not difficult, even where
the devkit marks some of them. Which classes are surely in an image, and which are left out of an evaluation, is the
same in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from torchvision.models.segmentation import FCN_ResNet50_Weights

from campanion.data.samples import Annotated, Annotation, Object, check_present, class_index, to_box
from campanion.errors import MissingData, unknown

#: The 20 classes in VOC's order (alphabetical), as torchvision lists them after the background.
CLASS_NAMES: tuple[str, ...] = tuple(FCN_ResNet50_Weights.DEFAULT.meta["categories"][1:])
LICENCE = "pictures: their Flickr owners' terms"


class VOC2007(Annotated):
    """Images of Pascal VOC 2007 with their objects; see :func:`open_voc2007`."""

    name = "voc2007"
    class_names = CLASS_NAMES

    def __init__(self, paths: Sequence[Path], annotation: Callable[[int], Annotation], source: str) -> None:
        super().__init__(paths, annotation, f"{source}: {len(paths):,} pictures of 20 classes; {LICENCE}")


def open_voc2007(root: Path, split: str | None = None) -> VOC2007:
    """Open Pascal VOC 2007 below ``root``; the devkit is preferred to a sample of it.

    Args:
        root: the data folder; ``voc2007`` lies in it.
        split: ``"train"``, ``"val"``, ``"trainval"`` or (devkit only) ``"test"``; by default ``"test"`` of the devkit,
            on which results are published, and ``"val"`` of a sample, which has no test images.

    Raises:
        MissingData: neither layout is there, or its images, annotations or split are missing.
        ValueError: another split, or annotations that cannot be read (named).

    >>> open_voc2007(Path("data"), "val").class_names[14]
    'person'
    """
    folder = root / "voc2007"
    devkit = folder / "VOCdevkit" / "VOC2007"
    if devkit.is_dir():
        return read_devkit(devkit, split or "test")
    if (folder / "annotations.json").is_file():
        return read_sample(folder, split or "val")
    raise MissingData(
        f"Pascal VOC 2007 is neither in {devkit} nor in {folder}. "
        "`python -m campanion data fetch voc2007` downloads it (0.9 GB)."
    )


def read_devkit(folder: Path, split: str) -> VOC2007:
    """Read one split of ``VOCdevkit/VOC2007``; annotations are read with each image."""
    _check_split(split, ("train", "val", "trainval", "test"))
    listed = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        raise MissingData(f"There is no {listed}; `python -m campanion data fetch voc2007` brings trainval and test.")
    ids = listed.read_text(encoding="utf-8").split()
    check_present(folder / "JPEGImages", [f"{i}.jpg" for i in ids], listed)
    check_present(folder / "Annotations", [f"{i}.xml" for i in ids], listed)
    paths = [folder / "JPEGImages" / f"{i}.jpg" for i in ids]

    def annotation(index: int) -> Annotation:
        return read_annotation(folder / "Annotations" / f"{ids[index]}.xml")

    return VOC2007(paths, annotation, f"Pascal VOC 2007 {split}")


def read_annotation(xml: Path) -> Annotation:
    """Objects of one VOC annotation file; VOC counts pixels from 1 and includes the last, so boxes become edges.

    Raises:
        ValueError: the file is damaged, or a class is not VOC's; names the file.
    """
    try:
        top = ElementTree.parse(xml).getroot()
        size = int(top.findtext("size/width", "")), int(top.findtext("size/height", ""))
        objects = []
        for item in top.iter("object"):
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin", "xmax", "ymax"))
            difficult = item.findtext("difficult", "0").strip() == "1"
            objects.append(Object(_class_of(item.findtext("name", "")), (x0 - 1, y0 - 1, x1, y1), difficult))
    except (ElementTree.ParseError, ValueError) as problem:
        raise ValueError(f"The annotations {xml} cannot be read: {problem}") from problem
    return objects, size


def read_sample(folder: Path, split: str) -> VOC2007:
    """Read one split of a folder with ``annotations.json`` and ``JPEGImages/``."""
    _check_split(split, ("train", "val", "trainval"))
    table = folder / "annotations.json"
    names, found = [], []
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
        for row in rows:
            if row["split"] not in ("train", "val"):
                raise ValueError(f"{row['image']} is of split {row['split']!r}, not train or val")
            if split in (row["split"], "trainval"):
                names.append(str(row["image"]))
                difficult = set(row["difficult_only"])
                objects = [
                    Object(_class_of(o["name"]), to_box(o["box_xyxy"]), o["name"] in difficult) for o in row["objects"]
                ]
                found.append((objects, (int(row["width"]), int(row["height"]))))
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"The annotations {table} cannot be read: {problem!r}.") from problem
    check_present(folder / "JPEGImages", names, table)
    paths = [folder / "JPEGImages" / name for name in names]
    return VOC2007(paths, found.__getitem__, f"Pascal VOC 2007 {split}, a sample")


def _check_split(split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise ValueError(unknown("split of voc2007", split, known))


def _class_of(name: str) -> int:
    return class_index(name, CLASS_NAMES, "one of VOC's 20 classes")

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
from functools import partial
from pathlib import Path

from torchvision.models.segmentation import FCN_ResNet50_Weights

from campanion.data.samples import Annotated, Annotation, Object, class_index, present, read_xml, reading, size_of, to_box
from campanion.errors import MissingData

#: The 20 classes in VOC's order (alphabetical), as torchvision lists them after the background.
CLASS_NAMES: tuple[str, ...] = tuple(FCN_ResNet50_Weights.DEFAULT.meta["categories"][1:])
LICENCE = "pictures: their Flickr owners' terms"
_class_of = partial(class_index, names=CLASS_NAMES, known="one of VOC's 20 classes")


def open_voc2007(root: Path, split: str | None = None) -> Annotated:
    """Pascal VOC 2007 below ``root``: its devkit before a sample of it.

    ``split`` is ``"train"``, ``"val"``, ``"trainval"`` or (devkit only) ``"test"``; by default ``"test"`` of the
    devkit, on which results are published, and ``"val"`` of a sample, which has no test images.
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


def read_devkit(folder: Path, split: str) -> Annotated:
    """Read one split of ``VOCdevkit/VOC2007``; annotations are read with each image."""
    table = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not table.is_file():
        raise MissingData(f"There is no {table}; `python -m campanion data fetch voc2007` brings trainval and test.")
    ids = table.read_text(encoding="utf-8").split()
    paths = present(folder / "JPEGImages", [f"{i}.jpg" for i in ids], table)
    files = present(folder / "Annotations", [f"{i}.xml" for i in ids], table)
    card = _card(f"Pascal VOC 2007 {split}", len(ids))
    return Annotated("voc2007", CLASS_NAMES, paths, lambda i: read_annotation(files[i]), card)


def read_annotation(xml: Path) -> Annotation:
    """Objects of one VOC annotation file; VOC counts pixels from 1 and includes the last, so boxes become edges."""
    return read_xml(xml, lambda name, box, hard: Object(_class_of(name), (box[0] - 1, box[1] - 1, *box[2:]), hard))


def read_sample(folder: Path, split: str) -> Annotated:
    """Read one split of a folder with ``annotations.json`` and ``JPEGImages/``."""
    if split == "test":
        raise MissingData(f"The sample of Pascal VOC 2007 in {folder} has no test images: it has train and val.")
    table, rows = folder / "annotations.json", []
    with reading(f"The annotations {table}"):
        for row in json.loads(table.read_text(encoding="utf-8")):
            if row["split"] not in ("train", "val"):
                raise ValueError(f"{row['image']} is of split {row['split']!r}, not train or val")
            if split in (row["split"], "trainval"):
                difficult = set(row["difficult_only"])
                objects = [
                    Object(_class_of(o["name"]), to_box(o["box_xyxy"]), o["name"] in difficult) for o in row["objects"]
                ]
                rows.append((str(row["image"]), (objects, size_of(row))))
    paths = present(folder / "JPEGImages", [name for name, _ in rows], table)
    card = _card(f"Pascal VOC 2007 {split}, a sample", len(rows))
    return Annotated("voc2007", CLASS_NAMES, paths, lambda i: rows[i][1], card)


def _card(source: str, count: int) -> str:
    return f"{source}: {count:,} pictures of 20 classes; {LICENCE}"

"""COCO's validation images with boxes of 80 categories, or of the 20 that COCO shares with Pascal VOC.

Two layouts are read below ``coco`` of the data folder:

- ``val2017/*.jpg`` with ``annotations/instances_val2017.json`` (torchvision's CocoDetection), likewise ``val2014``;
- ``annotations.json`` beside ``images/``, a sample of val2017 as a list of images: image, width, height and objects
  (name, box_xyxy in pixels of that width and height, iscrowd).

Categories are numbered 0-79 without COCO's gaps, in the order of its ids. ``Object.difficult`` is COCO's iscrowd.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from campanion.data import voc
from campanion.data.samples import Annotated, Object, check_present, class_index, to_box
from campanion.errors import MissingData, unknown

LICENCE = "annotations CC BY 4.0; pictures: their Flickr owners' terms"
# torchvision lists the names at COCO's own ids, with the background first and "N/A" in the gaps.
_AT_ID = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
#: COCO's 80 category names in the order of their ids.
CLASS_NAMES: tuple[str, ...] = tuple(name for name in _AT_ID[1:] if name != "N/A")
_VOC_NAME = {
    "airplane": "aeroplane", "couch": "sofa", "dining table": "diningtable", "motorcycle": "motorbike",
    "potted plant": "pottedplant", "tv": "tvmonitor",
}  # fmt: skip
#: VOC class index of each COCO category that VOC has too.
VOC_CLASS: dict[int, int] = {
    index: voc.CLASS_NAMES.index(_VOC_NAME.get(name, name))
    for index, name in enumerate(CLASS_NAMES)
    if _VOC_NAME.get(name, name) in voc.CLASS_NAMES
}

# File name of an image, its annotated size (width, height), its objects.
Row = tuple[str, tuple[int, int], list[Object]]


class Coco(Annotated):
    """Images of COCO with their objects; see :func:`open_coco` and :func:`open_coco_voc`."""

    def __init__(self, name: str, class_names: Sequence[str], folder: Path, rows: Sequence[Row], source: str) -> None:
        self.name, self.class_names = name, tuple(class_names)
        card = f"{source}: {len(rows):,} images of {len(self.class_names)} classes; {LICENCE}"
        super().__init__([folder / file for file, _, _ in rows], lambda i: (rows[i][2], rows[i][1]), card)


def open_coco(root: Path, split: str | None = None, year: int = 2017) -> Coco:
    """Open COCO's val2017 or val2014 below ``root``; the whole set is preferred to a sample of val2017.

    Args:
        root: the data folder; ``coco`` lies in it.
        split: None or ``"val"``.
        year: 2017 or 2014.

    Raises:
        MissingData: neither layout is there, or images are missing from it.
        ValueError: another split, or annotations that cannot be read (named).

    >>> open_coco(Path("data")).class_names[0]
    'person'
    """
    name = f"coco-val{year}"
    if split not in (None, "val"):
        raise ValueError(f"{name} has one split, 'val', not {split!r}.")
    folder, rows, source = _read(root, year)
    return Coco(name, CLASS_NAMES, folder, rows, source)


open_coco_2014 = partial(open_coco, year=2014)


def open_coco_voc(root: Path, split: str | None = None) -> Coco:
    """COCO's images that show any of the 20 classes shared with VOC, labelled with those, in VOC's order.

    A classifier of VOC's classes can be evaluated on it. All other objects are left out; crowds stay, as difficult.

    Args:
        root: the data folder; ``coco`` lies in it.
        split: ``"val2017"`` (the default) or ``"val2014"``.

    Raises:
        MissingData: the images or annotations are not there.
        ValueError: another split, or annotations that cannot be read (named).

    >>> open_coco_voc(Path("data")).class_names[14]
    'person'
    """
    years = {"val2017": 2017, "val2014": 2014}
    split = split or "val2017"
    if split not in years:
        raise ValueError(unknown("split of coco-voc", split, years))
    folder, rows, source = _read(root, years[split])
    shared = [
        (file, size, [Object(VOC_CLASS[o.label], o.box, o.difficult) for o in objects if o.label in VOC_CLASS])
        for file, size, objects in rows
    ]
    return Coco("coco-voc", voc.CLASS_NAMES, folder, [row for row in shared if row[2]], f"{source}, classes of VOC")


def _read(root: Path, year: int) -> tuple[Path, list[Row], str]:
    """Folder of the images, their rows, and the words for the card."""
    base = root / "coco"
    images, instances = base / f"val{year}", base / "annotations" / f"instances_val{year}.json"
    if images.is_dir() and instances.is_file():
        folder, table, rows, source = images, instances, read_instances(instances), f"COCO val{year}"
    elif year == 2017 and (base / "annotations.json").is_file():
        table = base / "annotations.json"
        folder, rows, source = base / "images", read_sample(table), "COCO val2017, a sample"
    else:
        raise MissingData(
            f"COCO val{year} is not in {base}: it needs {images} and {instances}. "
            f"`python -m campanion data fetch coco-val{year}` downloads both."
        )
    check_present(folder, [file for file, _, _ in rows], table)
    return folder, rows, source


def read_instances(table: Path) -> list[Row]:
    """Rows of COCO's own instances file, sorted by file name; its boxes are (x, y, width, height).

    Raises:
        ValueError: not such a file, or a category that COCO does not have; names the file.
    """
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        rows = {p["id"]: (p["file_name"], (int(p["width"]), int(p["height"])), []) for p in content["images"]}
        named = {category["id"]: _class_of(category["name"]) for category in content["categories"]}
        for item in content["annotations"]:
            x, y, width, height = (float(v) for v in item["bbox"])
            box = (x, y, x + width, y + height)
            rows[item["image_id"]][2].append(Object(named[item["category_id"]], box, bool(item["iscrowd"])))
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"The annotations {table} cannot be read: {problem!r}.") from problem
    return sorted(rows.values(), key=lambda row: row[0])


def read_sample(table: Path) -> list[Row]:
    """Rows of a sample's ``annotations.json``.

    Raises:
        ValueError: not such a file, or a category that COCO does not have; names the file.
    """
    try:
        return [
            (
                str(row["image"]),
                (int(row["width"]), int(row["height"])),
                [Object(_class_of(o["name"]), to_box(o["box_xyxy"]), bool(o["iscrowd"])) for o in row["objects"]],
            )
            for row in json.loads(table.read_text(encoding="utf-8"))
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"The annotations {table} cannot be read: {problem!r}.") from problem


def _class_of(name: str) -> int:
    return class_index(name, CLASS_NAMES, "one of COCO's 80 categories")

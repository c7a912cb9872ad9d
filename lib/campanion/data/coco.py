"""COCO's validation images with boxes of 80 categories, or of the 20 that COCO shares with Pascal VOC.

Two layouts are read below ``coco`` of the data folder:

- ``val2017/*.jpg`` with ``annotations/instances_val2017.json`` (torchvision's CocoDetection), likewise ``val2014``;
- ``annotations.json`` beside ``images/``, a sample of val2017 as a list of images: image, width, height and objects
  (name, box_xyxy in pixels of that width and height, iscrowd).

Categories are numbered 0-79 without COCO's gaps, in the order of its ids. ``Object.difficult`` is COCO's iscrowd.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from campanion.data import voc
from campanion.data.samples import Annotated, Object, Row, class_index, present, reading, size_of, to_box
from campanion.errors import MissingData

LICENCE = "annotations CC BY 4.0; pictures: their Flickr owners' terms"
# torchvision lists the names at COCO's own ids, with the background first and "N/A" in the gaps.
_AT_ID = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
#: COCO's 80 category names in the order of their ids.
CLASS_NAMES: tuple[str, ...] = tuple(name for name in _AT_ID[1:] if name != "N/A")
_class_of = partial(class_index, names=CLASS_NAMES, known="one of COCO's 80 categories")
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


def open_coco(root: Path, split: str | None = None, year: int = 2017) -> Annotated:
    """COCO's val2017 or val2014, whose one split is ``"val"``, below ``root``; the whole set before a sample of it."""
    return _dataset(f"coco-val{year}", CLASS_NAMES, *_read(root, year))


open_coco_2014 = partial(open_coco, year=2014)


def open_coco_voc(root: Path, split: str | None = None) -> Annotated:
    """COCO's images that show any of the 20 classes shared with VOC, labelled with those, in VOC's order.

    A classifier of VOC's classes can be evaluated on it. All other objects are left out; crowds stay, as difficult.
    ``split`` is ``"val2017"`` (the default) or ``"val2014"``.
    """
    rows, folder, source = _read(root, 2014 if split == "val2014" else 2017)
    shared = []
    for file, (objects, size) in rows:
        if common := [Object(VOC_CLASS[o.label], o.box, o.difficult) for o in objects if o.label in VOC_CLASS]:
            shared.append((file, (common, size)))
    return _dataset("coco-voc", voc.CLASS_NAMES, shared, folder, f"{source}, classes of VOC")


def _dataset(name: str, class_names: tuple[str, ...], rows: list[Row], folder: Path, source: str) -> Annotated:
    card = f"{source}: {len(rows):,} images of {len(class_names)} classes; {LICENCE}"
    return Annotated(name, class_names, [folder / file for file, _ in rows], lambda i: rows[i][1], card)


def _read(root: Path, year: int) -> tuple[list[Row], Path, str]:
    """The rows, the folder of their images, and the words for the card."""
    base = root / "coco"
    images, instances = base / f"val{year}", base / "annotations" / f"instances_val{year}.json"
    if images.is_dir() and instances.is_file():
        rows, folder, table, source = read_instances(instances), images, instances, f"COCO val{year}"
    elif year == 2017 and (table := base / "annotations.json").is_file():
        rows, folder, source = read_sample(table), base / "images", "COCO val2017, a sample"
    else:
        raise MissingData(
            f"COCO val{year} is not in {base}: it needs {images} and {instances}. "
            f"`python -m campanion data fetch coco-val{year}` downloads both."
        )
    present(folder, [file for file, _ in rows], table)
    return rows, folder, source


def read_instances(table: Path) -> list[Row]:
    """Rows of COCO's own instances file, sorted by file name; its boxes are (x, y, width, height)."""
    with reading(f"The annotations {table}"):
        content = json.loads(table.read_text(encoding="utf-8"))
        rows = {image["id"]: (image["file_name"], ([], size_of(image))) for image in content["images"]}
        classes = {category["id"]: _class_of(category["name"]) for category in content["categories"]}
        for item in content["annotations"]:
            x, y, width, height = to_box(item["bbox"])
            label, box = classes[item["category_id"]], (x, y, x + width, y + height)
            rows[item["image_id"]][1][0].append(Object(label, box, bool(item["iscrowd"])))
        return sorted(rows.values(), key=lambda row: row[0])


def read_sample(table: Path) -> list[Row]:
    """Rows of a sample's ``annotations.json``."""
    rows = []
    with reading(f"The annotations {table}"):
        for row in json.loads(table.read_text(encoding="utf-8")):
            objects = [Object(_class_of(o["name"]), to_box(o["box_xyxy"]), bool(o["iscrowd"])) for o in row["objects"]]
            rows.append((str(row["image"]), (objects, size_of(row))))
    return rows

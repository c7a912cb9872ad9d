"""ImageNet's validation images with class labels and boxes: the ILSVRC2012 folder, or a compact sample of it.

Two layouts are read below the data folder:

- ``ILSVRC2012/val/<wnid>/*.JPEG`` (torchvision's and ImageFolder's), or all images flat in ``ILSVRC2012/val`` with
  the devkit's ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat``; boxes: ``ILSVRC2012/val_boxes/val/*.xml``;
- ``imagenet-val/labels.csv`` beside ``imagenet-val/images/``: image, class_index, width, height, boxes_xyxy (JSON).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from torchvision.models import VGG16_Weights

from campanion.data.samples import Annotated, Annotation, Object, present, read_xml, reading, size_of, to_box
from campanion.errors import MissingData

CLASS_NAMES: tuple[str, ...] = tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"])
#: ImageNet-1k's WordNet ids, sorted: a class index of torchvision's networks is a place in this list.
WNIDS = Path(__file__).with_name("imagenet_wnids.txt").read_text(encoding="utf-8").split()
CLASS_OF_WNID: dict[str, int] = {wnid: index for index, wnid in enumerate(WNIDS)}
LICENCE = "non-commercial research and education only (image-net.org)"
DEVKIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", ".")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def open_imagenet_val(root: Path, split: str | None = None) -> Annotated:
    """ImageNet's validation set, its one split, below ``root``; the whole set before a sample of it."""
    if (root / "ILSVRC2012" / "val").is_dir():
        return read_ilsvrc(root / "ILSVRC2012")
    if (root / "imagenet-val" / "labels.csv").is_file():
        return read_sample(root / "imagenet-val")
    raise MissingData(
        f"ImageNet's validation images are neither in {root / 'ILSVRC2012' / 'val'} nor in {root / 'imagenet-val'}. "
        "`python -m campanion data fetch imagenet-val` says how to obtain them."
    )


def read_sample(folder: Path) -> Annotated:
    """Read ``labels.csv`` and ``images/``; boxes are in pixels of the stated width and height."""
    table, rows, labels = folder / "labels.csv", [], []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"The table {table} cannot be read: {problem}.") from problem
    for number, row in enumerate(lines, start=2):
        with reading(f"Line {number} of {table}"):
            label = int(row["class_index"])
            if not 0 <= label < len(CLASS_NAMES):
                raise ValueError(f"class_index {label} is not in 0..999")
            objects = [Object(label, to_box(box)) for box in json.loads(row["boxes_xyxy"])]
            rows.append((row["image"], (objects, size_of(row))))
            labels.append(label)
    paths = present(folder / "images", [name for name, _ in rows], table)
    return _dataset(paths, labels, lambda i: rows[i][1], "ILSVRC2012 validation, a sample")


def read_ilsvrc(folder: Path) -> Annotated:
    """Read an ILSVRC2012 folder: ``val`` sorted into WordNet folders, or flat with the devkit or the box files."""
    val = folder / "val"
    xml_folder = next((f for f in (folder / "val_boxes" / "val", folder / "val_boxes") if any(f.glob("*.xml"))), None)
    paths = sorted((p for p in val.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg")), key=lambda p: p.name)
    if not paths:
        raise MissingData(f"There are no JPEG images in {val}.")
    if all(p.parent == val for p in paths):
        labels = _labels_of_flat_folder(folder, paths, xml_folder)
    else:
        labels = [_class_of(p.parent.name, p) for p in paths]

    def boxes(index: int) -> Annotation | None:
        xml = xml_folder / f"{paths[index].stem}.xml" if xml_folder else None
        return read_boxes(xml) if xml and xml.is_file() else None

    return _dataset(paths, labels, boxes, "ILSVRC2012 validation" + ("" if xml_folder else ", without boxes"))


def _dataset(paths: list[Path], labels: list[int], boxes: Callable[[int], Annotation | None], source: str) -> Annotated:
    card = f"{source}: {len(paths):,} images of {len(set(labels)):,} classes; {LICENCE}"
    return Annotated("imagenet-val", CLASS_NAMES, paths, boxes, card, labels)


def read_boxes(xml: Path) -> Annotation:
    """The objects of one ILSVRC bounding-box file, and the size of the image that they were drawn on."""
    return read_xml(xml, lambda name, box, _difficult: Object(_class_of(name, xml), box))


def _labels_of_flat_folder(folder: Path, paths: list[Path], xml_folder: Path | None) -> list[int]:
    devkit = next((folder / d for d in DEVKIT_FOLDERS if (folder / d / GROUND_TRUTH).is_file()), None)
    if devkit and (devkit / "meta.mat").is_file():
        return _labels_of_devkit(devkit, paths)
    if xml_folder and all((xml_folder / f"{p.stem}.xml").is_file() for p in paths):
        first = [read_boxes(xml_folder / f"{p.stem}.xml")[0] for p in paths]
        return [objects[0].label for objects in first]
    pickled = " (torchvision's meta.bin is a pickle, which is not read)" if (folder / "meta.bin").is_file() else ""
    raise MissingData(
        f"The images in {folder / 'val'} have no labels{pickled}: sort them into one folder per WordNet id, "
        f"as torchvision does, or put the devkit's {GROUND_TRUTH} and meta.mat into {folder / DEVKIT_FOLDERS[0]}."
    )


def _labels_of_devkit(devkit: Path, paths: list[Path]) -> list[int]:
    """Line n of the ground truth holds the devkit's own class number of image n; ``meta.mat`` translates it."""
    from scipy.io import loadmat

    synsets = loadmat(devkit / "meta.mat", squeeze_me=True)["synsets"]
    wnid_of = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    truth = [int(line) for line in (devkit / GROUND_TRUTH).read_text().split()]
    labels = []
    for path in paths:
        number = path.stem.rpartition("_")[2]
        if not number.isdigit() or not 1 <= int(number) <= len(truth):
            raise ValueError(f"The name of {path} does not end in an image number between 1 and {len(truth)}.")
        labels.append(_class_of(wnid_of.get(truth[int(number) - 1], ""), devkit / "meta.mat"))
    return labels


def _class_of(wnid: str, where: Path) -> int:
    if wnid not in CLASS_OF_WNID:
        raise ValueError(f"{wnid!r} at {where} is not a WordNet id of ImageNet-1k")
    return CLASS_OF_WNID[wnid]

"""ImageNet's validation images with class labels and boxes: the ILSVRC2012 folder, or a compact sample of it.

Two layouts are read below the data folder:

- ``ILSVRC2012/val/<wnid>/*.JPEG`` (torchvision's and ImageFolder's), or all images flat in ``ILSVRC2012/val`` with
  the devkit's ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat``; boxes: ``ILSVRC2012/val_boxes/val/*.xml``;
- ``imagenet-val/labels.csv`` beside ``imagenet-val/images/``: image, class_index, width, height, boxes_xyxy (JSON).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from torchvision.models import VGG16_Weights

from campanion.data.samples import Annotated, Annotation, Object, check_present, to_box
from campanion.errors import MissingData

CLASS_NAMES: tuple[str, ...] = tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"])
#: ImageNet-1k's WordNet ids, sorted: a class index of torchvision's networks is a place in this list.
WNIDS = Path(__file__).with_name("imagenet_wnids.txt").read_text(encoding="utf-8").split()
CLASS_OF_WNID: dict[str, int] = {wnid: index for index, wnid in enumerate(WNIDS)}
LICENCE = "non-commercial research and education only (image-net.org)"
DEVKIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", ".")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


class ImageNetVal(Annotated):
    """Validation images of ILSVRC2012; see :func:`open_imagenet_val`."""

    name = "imagenet-val"
    class_names = CLASS_NAMES

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], boxes: Callable[[int], Annotation | None], source: str
    ) -> None:
        card = f"{source}: {len(paths):,} images of {len(set(labels)):,} classes; {LICENCE}"
        super().__init__(paths, boxes, card, labels)


def open_imagenet_val(root: Path, split: str | None = None) -> ImageNetVal:
    """Open ImageNet's validation set below ``root``; the whole set is preferred to a sample of it.

    Args:
        root: the data folder; ``ILSVRC2012`` or ``imagenet-val`` lies in it.
        split: ``None`` or ``"val"``.

    Raises:
        MissingData: neither layout is there, or images or labels are missing from it.
        ValueError: another split, or a label file that cannot be read (named).

    >>> open_imagenet_val(Path("data"))[0].label
    65
    """
    if split not in (None, "val"):
        raise ValueError(f"imagenet-val has one split, 'val', not {split!r}.")
    if (root / "ILSVRC2012" / "val").is_dir():
        return read_ilsvrc(root / "ILSVRC2012")
    if (root / "imagenet-val" / "labels.csv").is_file():
        return read_sample(root / "imagenet-val")
    raise MissingData(
        f"ImageNet's validation images are neither in {root / 'ILSVRC2012' / 'val'} nor in {root / 'imagenet-val'}. "
        "`python -m campanion data fetch imagenet-val` says how to obtain them."
    )


def read_sample(folder: Path) -> ImageNetVal:
    """Read ``labels.csv`` and ``images/``; boxes are in pixels of the stated width and height."""
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"The table {table} cannot be read: {problem}.") from problem
    names, labels, boxes = [], [], []
    for number, row in enumerate(rows, start=2):
        try:
            name, label = row["image"], int(row["class_index"])
            size = int(row["width"]), int(row["height"])
            objects = [Object(label, to_box(b)) for b in json.loads(row["boxes_xyxy"])]
            if not 0 <= label < len(CLASS_NAMES):
                raise ValueError(f"class_index {label} is not in 0..999")
        except (KeyError, TypeError, ValueError) as problem:
            raise ValueError(f"Line {number} of {table} cannot be read: {problem}.") from problem
        names.append(name)
        labels.append(label)
        boxes.append((objects, size))
    check_present(folder / "images", names, table)
    paths = [folder / "images" / n for n in names]
    return ImageNetVal(paths, labels, boxes.__getitem__, "ILSVRC2012 validation, a sample")


def read_ilsvrc(folder: Path) -> ImageNetVal:
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

    source = "ILSVRC2012 validation" + ("" if xml_folder else ", without boxes")
    return ImageNetVal(paths, labels, boxes, source)


def read_boxes(xml: Path) -> Annotation:
    """The objects of one ILSVRC bounding-box file, and the size of the image that they were drawn on."""
    try:
        top = ElementTree.parse(xml).getroot()
        size = int(top.findtext("size/width", "")), int(top.findtext("size/height", ""))
        corners = ("xmin", "ymin", "xmax", "ymax")
        objects = [
            Object(_class_of(item.findtext("name", ""), xml), to_box([item.findtext(f"bndbox/{c}", "") for c in corners]))
            for item in top.iter("object")
        ]
    except (ElementTree.ParseError, ValueError) as problem:
        raise ValueError(f"The bounding boxes {xml} cannot be read: {problem}.") from problem
    return objects, size


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

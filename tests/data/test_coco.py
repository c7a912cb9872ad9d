"""COCO in both of its layouts, made small, and its images with VOC's classes; the real sample where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from campanion import paths
from campanion.data import open_dataset, voc
from campanion.data.coco import CLASS_NAMES, VOC_CLASS
from campanion.errors import MissingData
from PIL import Image

# Some of COCO's own ids, which have gaps: there is no category 83.
IDS = {"person": 1, "airplane": 5, "zebra": 24, "tv": 72, "vase": 86, "toothbrush": 90}


def write_image(path: Path, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "green").save(path, "JPEG")


def instances(root: Path, year: int = 2017) -> Path:
    """``instances_val<year>.json`` with three images: two objects and a crowd, a zebra, nothing."""
    files = [f"{'COCO_val2014_' if year == 2014 else ''}{number:012d}.jpg" for number in (885, 139, 632)]
    for file in files:
        write_image(root / "coco" / f"val{year}" / file)
    objects = [(885, "tv", [1, 2, 3, 4], 0), (139, "zebra", [0, 0, 4, 4], 0), (885, "person", [0, 0, 20, 10.5], 1),
               (885, "toothbrush", [5, 5, 1, 1], 0)]  # fmt: skip
    table = {
        "images": [
            {"id": int(f[-10:-4]), "file_name": f, "width": 20, "height": 10} for f in files
        ],
        "categories": [{"id": number, "name": name} for name, number in IDS.items()],
        "annotations": [
            {"image_id": image, "category_id": IDS[name], "bbox": box, "iscrowd": crowd}
            for image, name, box, crowd in objects
        ],
    }  # fmt: skip
    path = root / "coco" / "annotations" / f"instances_val{year}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(table))
    return path


def sample(root: Path) -> Path:
    objects = [{"name": "airplane", "box_xyxy": [1, 1, 5, 5], "iscrowd": 0},
               {"name": "vase", "box_xyxy": [0, 0, 2, 2], "iscrowd": 0},
               {"name": "person", "box_xyxy": [0, 0, 9, 9], "iscrowd": 1}]  # fmt: skip
    rows = [{"image": f"{number:012d}.jpg", "width": 20, "height": 10, "objects": found}
            for number, found in ((139, objects), (285, objects[1:2]))]  # fmt: skip
    for row in rows:
        write_image(root / "coco" / "images" / row["image"])
    path = root / "coco" / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


def test_categories() -> None:
    assert len(CLASS_NAMES) == 80
    contiguous = {"person": 0, "airplane": 4, "zebra": 22, "tv": 62, "vase": 75, "toothbrush": 79}
    assert {name: CLASS_NAMES.index(name) for name in IDS} == contiguous
    assert sorted(VOC_CLASS.values()) == list(range(20))
    named = {CLASS_NAMES[ours]: voc.CLASS_NAMES[theirs] for ours, theirs in VOC_CLASS.items()}
    assert {ours: theirs for ours, theirs in named.items() if ours != theirs} == {
        "airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "dining table": "diningtable",
        "potted plant": "pottedplant", "tv": "tvmonitor",
    }  # fmt: skip


@pytest.mark.parametrize("year", [2017, 2014])
def test_instances(tmp_path: Path, year: int) -> None:
    instances(tmp_path, year)
    data = open_dataset(f"coco-val{year}", tmp_path)
    before = "COCO_val2014_" if year == 2014 else ""
    assert data.name == f"coco-val{year}"
    assert data.ids == [f"{before}{n:012d}" for n in (139, 632, 885)]
    assert data.labels == [None] * 3
    assert data.card.startswith(f"COCO val{year}: 3 images of 80 classes")
    assert [one.labels for one in data] == [(22,), (), (0, 62, 79)]
    assert [(o.label, o.box, o.difficult) for o in data[2].objects] == [
        (62, (1, 2, 4, 6), False),
        (0, (0, 0, 20, 10), True),  # kept inside the image
        (79, (5, 5, 6, 6), False),
    ]
    assert data.objects(2)[1].box == (0, 0, 20, 10.5)


def test_voc_classes_on_coco(tmp_path: Path) -> None:
    instances(tmp_path)
    data = open_dataset("coco-voc", tmp_path)
    assert (data.name, data.ids, data.class_names) == ("coco-voc", ["000000000885"], voc.CLASS_NAMES)
    assert [(voc.CLASS_NAMES[o.label], o.difficult) for o in data[0].objects] == [
        ("tvmonitor", False),
        ("person", True),
    ]
    instances(tmp_path, 2014)
    assert open_dataset("coco-voc", tmp_path, split="val2014").ids == ["COCO_val2014_000000000885"]
    with pytest.raises(ValueError, match=r"Unknown split of coco-voc 'val'\. Did you mean 'val20"):
        open_dataset("coco-voc", tmp_path, split="val")


def test_sample(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    sample(tmp_path)
    data = open_dataset("coco-val2017", tmp_path, split="val")
    assert data.card.startswith("COCO val2017, a sample: 2 images of 80 classes")
    assert [(o.label, o.box, o.difficult) for o in data[0].objects] == [
        (4, (1, 1, 5, 5), False), (75, (0, 0, 2, 2), False), (0, (0, 0, 9, 9), True),
    ]  # fmt: skip
    shared = open_dataset("coco-voc", tmp_path)
    assert [(one.id, one.labels) for one in shared] == [("000000000139", (0, 14))]
    instances(tmp_path)  # the whole set is preferred
    assert len(open_dataset("coco-val2017", tmp_path)) == 3


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    for name in ("coco-val2017", "coco-val2014"):
        with pytest.raises(MissingData, match=f"fetch {name}"):
            open_dataset(name, tmp_path)
    with pytest.raises(ValueError, match="Unknown split of coco-val2014 'train'"):
        open_dataset("coco-val2014", tmp_path, split="train")
    table = instances(tmp_path)
    good = table.read_text()
    for text in ("{", "[]", good.replace("zebra", "unicorn"), good.replace('"image_id": 139', '"image_id": 1')):
        table.write_text(text)
        with pytest.raises(ValueError, match=r"instances_val2017\.json cannot be read"):
            open_dataset("coco-val2017", tmp_path)
    table.write_text(good)
    (tmp_path / "coco" / "val2017" / "000000000632.jpg").unlink()
    with pytest.raises(MissingData, match=r"1 of the files that .* such as 000000000632\.jpg"):
        open_dataset("coco-val2017", tmp_path)
    table.unlink()
    table = sample(tmp_path)
    table.write_text(table.read_text().replace("airplane", "aeroplane"))
    with pytest.raises(ValueError, match=r"annotations\.json cannot be read: .*'aeroplane' is not one of COCO's 80"):
        open_dataset("coco-val2017", tmp_path)


@pytest.mark.real_data
def test_the_real_sample() -> None:
    if not (paths.data_dir() / "coco" / "annotations.json").is_file():
        pytest.skip("real data: CAMPANION_DATA has no coco/annotations.json")
    data, shared = open_dataset("coco-val2017"), open_dataset("coco-voc")
    assert len(data) == 250
    assert set(shared.ids) < set(data.ids)
    assert {o.label for i in range(len(data)) for o in data.objects(i)} == set(range(80))
    for i in shared.order()[:10]:
        one = shared[i]
        whole = data[data.ids.index(one.id)]
        assert one.objects
        assert [o.label for o in one.objects] == [VOC_CLASS[o.label] for o in whole.objects if o.label in VOC_CLASS]

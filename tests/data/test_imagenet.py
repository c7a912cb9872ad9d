"""ImageNet's validation set in each of its layouts, made small; the real sample where it lies."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from campanion import paths
from campanion.data import open_dataset
from campanion.data.imagenet import CLASS_NAMES, CLASS_OF_WNID
from campanion.data.imagenet import WNIDS
from campanion.errors import MissingData
from PIL import Image

TENCH, GOLDFISH, TOILET_TISSUE = "n01440764", "n01443537", "n15075141"


def write_image(path: Path, size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "green").save(path, "JPEG")
    return path


def boxes(path: Path, size: tuple[int, int], *objects: tuple[str, tuple[int, int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    path.write_text(f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>")


def sample_folder(root: Path, rows: list[dict[str, object]]) -> Path:
    folder = root / "imagenet-val"
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "class_index", "width", "height", "boxes_xyxy"])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        write_image(folder / "images" / str(row["image"]))
    return folder


def row(image: str = "a.jpg", class_index: object = 1, found: object = "[[1, 2, 3, 4]]") -> dict[str, object]:
    return {"image": image, "class_index": class_index, "width": 20, "height": 10, "boxes_xyxy": found}


def devkit(folder: Path, truth: list[int]) -> None:
    from scipy.io import savemat

    folder.mkdir(parents=True)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    # The devkit numbers classes in its own order, not in that of the sorted WordNet ids.
    synsets = np.array([(1, TOILET_TISSUE, "t", 0), (2, TENCH, "t", 0), (1001, "n00001740", "entity", 9)], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, truth)) + "\n")


def test_class_list() -> None:
    assert len(set(WNIDS)) == len(CLASS_NAMES) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    assert [CLASS_NAMES[CLASS_OF_WNID[w]] for w in (TENCH, GOLDFISH, TOILET_TISSUE)] == [
        "tench",
        "goldfish",
        "toilet tissue",
    ]


def test_folders_per_class_with_boxes_scaled_to_a_resized_image(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    write_image(base / "val" / GOLDFISH / "ILSVRC2012_val_00000001.JPEG")
    write_image(base / "val" / TENCH / "ILSVRC2012_val_00000002.JPEG")
    (base / "meta.bin").write_bytes(b"a pickle that nobody needs")
    xml = base / "val_boxes" / "val" / "ILSVRC2012_val_00000001.xml"
    boxes(xml, (40, 20), (GOLDFISH, (4, 2, 20, 10)), (TENCH, (0, 0, 44, 20)))
    data = open_dataset("imagenet-val", tmp_path)
    assert data.ids == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002"]
    assert data.labels == [1, 0]
    assert data[0].label == 1
    assert data[0].labels == (0, 1)
    assert torch.equal(data[0].boxes(1), torch.tensor([[2.0, 1, 10, 5]]))
    assert data[0].objects[1].box == (0, 0, 20, 10)  # drawn beyond the border: kept inside
    assert data[1].objects == ()
    assert "2 images of 2 classes" in data.card
    assert data[-1].id == data.ids[1]
    with pytest.raises(IndexError):
        data[2]


def test_flat_folder_with_the_devkit(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    for number in (1, 3):  # a part of the images: line n of the ground truth still belongs to image n
        write_image(base / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    devkit(base / "ILSVRC2012_devkit_t12" / "data", [1, 1, 2])
    data = open_dataset("imagenet-val", tmp_path)
    assert data.labels == [999, 0]
    assert "without boxes" in data.card


def test_flat_folder_with_box_files_only(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    write_image(base / "val" / "ILSVRC2012_val_00000005.JPEG")
    boxes(base / "val_boxes" / "ILSVRC2012_val_00000005.xml", (20, 10), (GOLDFISH, (1, 1, 5, 5)))
    assert open_dataset("imagenet-val", tmp_path).labels == [1]


def test_flat_folder_without_labels_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    write_image(base / "val" / "ILSVRC2012_val_00000001.JPEG")
    (base / "meta.bin").write_bytes(b"")
    with pytest.raises(MissingData, match=r"no labels \(torchvision's meta.bin is a pickle.*meta\.mat"):
        open_dataset("imagenet-val", tmp_path)


def test_an_image_beyond_the_ground_truth_is_named(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    write_image(base / "val" / "ILSVRC2012_val_00000009.JPEG")
    devkit(base / "ILSVRC2012_devkit_t12" / "data", [1, 2])
    with pytest.raises(ValueError, match=r"00000009\.JPEG does not end in an image number between 1 and 2"):
        open_dataset("imagenet-val", tmp_path)


def test_unknown_class_folder_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "ILSVRC2012" / "val" / "n00000000" / "a.JPEG")
    with pytest.raises(ValueError, match=r"'n00000000' at .* is not a WordNet id"):
        open_dataset("imagenet-val", tmp_path)


def test_damaged_box_file_and_damaged_image_are_named(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC2012"
    write_image(base / "val" / TENCH / "one.JPEG")
    (base / "val" / TENCH / "two.JPEG").write_bytes(b"\xff\xd8\xff nothing")
    (base / "val_boxes" / "val").mkdir(parents=True)
    (base / "val_boxes" / "val" / "one.xml").write_text("<annotation><size>")
    data = open_dataset("imagenet-val", tmp_path)
    with pytest.raises(ValueError, match=r"one\.xml cannot be read"):
        data[0]
    with pytest.raises(ValueError, match=r"two\.JPEG"):
        data[1]


def test_sample_layout(tmp_path: Path) -> None:
    sample_folder(tmp_path, [row("b.jpg", 7), row("a.jpg", 3, json.dumps([[0, 0, 20, 10], [1, 1, 2, 2]]))])
    data = open_dataset("imagenet-val", tmp_path, split="val")
    assert (data.ids, data.labels) == (["b", "a"], [7, 3])
    assert data[0].objects[0].box == (1, 2, 3, 4)
    assert data[1].boxes(3).tolist() == [[0, 0, 20, 10], [1, 1, 2, 2]]


@pytest.mark.parametrize("bad", [row(class_index=1000), row(class_index="x"), row(found="[[1, 2, 3]]"), row(found="[")])
def test_bad_row_of_the_sample_is_named(tmp_path: Path, bad: dict[str, object]) -> None:
    sample_folder(tmp_path, [row("ok.jpg"), bad])
    with pytest.raises(ValueError, match=r"Line 3 of .*labels\.csv"):
        open_dataset("imagenet-val", tmp_path)


def test_image_missing_from_the_sample_is_named(tmp_path: Path) -> None:
    folder = sample_folder(tmp_path, [row("ok.jpg"), row("gone.jpg")])
    (folder / "images" / "gone.jpg").unlink()
    with pytest.raises(MissingData, match=r"1 of the files .*gone\.jpg"):
        open_dataset("imagenet-val", tmp_path)


def test_the_whole_set_is_preferred_to_the_sample(tmp_path: Path) -> None:
    sample_folder(tmp_path, [row()])
    write_image(tmp_path / "ILSVRC2012" / "val" / TENCH / "whole.JPEG")
    assert open_dataset("imagenet-val", tmp_path).ids == ["whole"]


def test_nothing_there_and_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="fetch imagenet-val"):
        open_dataset("imagenet-val", tmp_path)
    with pytest.raises(ValueError, match="Unknown split of imagenet-val 'train'"):
        open_dataset("imagenet-val", tmp_path, split="train")


@pytest.fixture
def real_rows() -> list[dict[str, str]]:
    table = paths.data_dir() / "imagenet-val" / "labels.csv"
    if "CAMPANION_DATA" not in os.environ or not table.is_file():
        pytest.skip("real data: CAMPANION_DATA has no imagenet-val/labels.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.real_data
def test_real_sample_agrees_with_its_table(real_rows: list[dict[str, str]]) -> None:
    from campanion.data.imagenet import read_sample

    data = read_sample(paths.data_dir() / "imagenet-val")
    assert len(data) == len(real_rows) == 2306
    assert len(set(data.labels)) == 741
    assert all(WNIDS[label] == r["wnid"] for label, r in zip(data.labels, real_rows, strict=True))
    for index in (0, 1, 2, 1000, 2305):
        sample, line = data[index], real_rows[index]
        assert sample.label == int(line["class_index"])
        assert sample.image.size == (int(line["width"]), int(line["height"]))
        assert [list(o.box) for o in sample.objects] == json.loads(line["boxes_xyxy"])


@pytest.mark.real_data
def test_real_boxes_lie_in_their_images(real_rows: list[dict[str, str]]) -> None:
    for line in real_rows:
        for x0, y0, x1, y1 in json.loads(line["boxes_xyxy"]):
            assert 0 <= x0 < x1 <= int(line["width"]), line["image"]
            assert 0 <= y0 < y1 <= int(line["height"]), line["image"]


@pytest.mark.real_data
@pytest.mark.usefixtures("real_rows")
def test_real_order_is_the_one_that_the_committed_results_used() -> None:
    from campanion.data.imagenet import read_sample

    order = read_sample(paths.data_dir() / "imagenet-val").order()
    assert sorted(order) == list(range(2306))
    assert order[:5] == [2134, 278, 1578, 1906, 1228]
    assert hashlib.sha256(repr(order).encode()).hexdigest()[:16] == "bce4840ae2dd1006"

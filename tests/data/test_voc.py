"""Pascal VOC 2007 in both of its layouts, made small; the real sample where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torchvision
from campanion import paths
from campanion.data import open_dataset
from campanion.data.voc import CLASS_NAMES
from campanion.errors import MissingData
from PIL import Image

CAT, DOG, PERSON = (CLASS_NAMES.index(name) for name in ("cat", "dog", "person"))


def write_image(path: Path, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "green").save(path, "JPEG")


def xml(*objects: tuple[str, tuple[int, int, int, int], int], size: tuple[int, int] = (20, 10)) -> str:
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for name, b, difficult in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>"


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """``VOCdevkit/VOC2007`` with two train images, one of val and one of test."""
    folder = tmp_path / "voc2007" / "VOCdevkit" / "VOC2007"
    annotations = {
        "000012": xml(("cat", (1, 1, 20, 10), 0), ("cat", (3, 4, 8, 9), 1), ("dog", (2, 2, 5, 5), 1)),
        "000017": xml(("person", (1, 2, 10, 10), 0), size=(40, 20)),  # drawn on an image of twice the size
        "000009": xml(("dog", (1, 1, 4, 4), 0)),
        "000001": xml(("dog", (1, 1, 4, 4), 0), ("person", (2, 1, 4, 4), 0)),
    }
    for identity, text in annotations.items():
        write_image(folder / "JPEGImages" / f"{identity}.jpg")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{identity}.xml").write_text(text)
    lists = {"train": "000012\n000017\n", "val": "000009\n", "trainval": "000009\n000012\n000017\n", "test": "000001\n"}
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for split, text in lists.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
    return tmp_path


def row(image: str, split: str, *objects: tuple[str, list[float]], difficult_only: tuple[str, ...] = ()) -> dict:
    found = [{"name": name, "box_xyxy": box} for name, box in objects]
    return {"image": image, "split": split, "width": 20, "height": 10, "objects": found,
            "difficult_only": list(difficult_only)}  # fmt: skip


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """``annotations.json`` of one train and two val images."""
    rows = [
        row("000012.jpg", "train", ("cat", [0, 0, 19.5, 9]), ("dog", [1, 1, 4, 4]), difficult_only=("dog",)),
        row("000009.jpg", "val", ("dog", [0, 0, 3, 3]), ("dog", [4, 4, 8, 8]), ("person", [1, 1, 30, 9])),
        row("000020.jpg", "val", ("person", [0, 0, 3, 3])),
    ]
    for entry in rows:
        write_image(tmp_path / "voc2007" / "JPEGImages" / entry["image"])
    (tmp_path / "voc2007" / "annotations.json").write_text(json.dumps(rows))
    return tmp_path


def test_classes_are_vocs_in_alphabetical_order() -> None:
    assert len(CLASS_NAMES) == 20
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert (CLASS_NAMES[0], CLASS_NAMES[14], CLASS_NAMES[19]) == ("aeroplane", "person", "tvmonitor")


def test_devkit(devkit: Path) -> None:
    data = open_dataset("voc2007", devkit, split="train")
    assert (data.name, data.ids, data.labels) == ("voc2007", ["000012", "000017"], [None, None])
    assert data.card.startswith("Pascal VOC 2007 train: 2 pictures")
    found = data[0]
    assert (found.label, found.labels) == (None, (CAT, DOG))
    # VOC counts pixels from 1 and a box includes its last pixel.
    assert [(o.label, o.box, o.difficult) for o in found.objects] == [
        (CAT, (0, 0, 20, 10), False),
        (CAT, (2, 3, 8, 9), True),
        (DOG, (1, 1, 5, 5), True),
    ]
    assert found.boxes(CAT, difficult=False).tolist() == [[0, 0, 20, 10]]
    assert data[1].objects[0].box == (0, 0.5, 5, 5)
    assert data.objects(1)[0].box == (0, 1, 10, 10)
    assert data[-1].id == "000017"
    with pytest.raises(IndexError):
        data[2]


def test_devkit_splits_are_torchvisions(devkit: Path) -> None:
    for split in ("train", "val", "trainval", "test"):
        theirs = torchvision.datasets.VOCDetection(str(devkit / "voc2007"), "2007", split)
        ours = open_dataset("voc2007", devkit, split=split)
        assert [Path(image).stem for image in theirs.images] == ours.ids
        for (_, target), one in zip(theirs, ours, strict=True):
            assert [o["name"] for o in target["annotation"]["object"]] == [CLASS_NAMES[o.label] for o in one.objects]
    assert open_dataset("voc2007", devkit).card.startswith("Pascal VOC 2007 test: 1 pictures")


def test_sample(sample: Path) -> None:
    data = open_dataset("voc2007", sample)
    assert data.ids == ["000009", "000020"]
    assert data.card.startswith("Pascal VOC 2007 val, a sample: 2 pictures")
    assert data[0].boxes(DOG).tolist() == [[0, 0, 3, 3], [4, 4, 8, 8]]
    assert data[0].boxes(PERSON).tolist() == [[1, 1, 20, 9]]  # kept inside the image
    assert [one.labels for one in data] == [(DOG, PERSON), (PERSON,)]
    train = open_dataset("voc2007", sample, split="train")
    assert [(o.label, o.difficult) for o in train[0].objects] == [(CAT, False), (DOG, True)]
    assert len(open_dataset("voc2007", sample, split="trainval")) == 3


def test_the_order_does_not_depend_on_the_layout(devkit: Path, sample: Path) -> None:
    whole = open_dataset("voc2007", devkit, split="trainval")
    (devkit / "voc2007" / "VOCdevkit").rename(devkit / "away")
    part = open_dataset("voc2007", sample, split="trainval")
    shared = set(whole.ids) & set(part.ids)
    assert len(shared) == 2
    visits = [[d.ids[i] for i in d.order() if d.ids[i] in shared] for d in (whole, part)]
    assert visits[0] == visits[1]


def test_wrong_splits(devkit: Path, sample: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown split of voc2007 'tests'\. Did you mean 'test'"):
        open_dataset("voc2007", devkit, split="tests")
    (devkit / "voc2007" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(MissingData, match=r"There is no .*test\.txt.*fetch voc2007"):
        open_dataset("voc2007", devkit)
    (devkit / "voc2007" / "VOCdevkit").rename(devkit / "away")
    with pytest.raises(MissingData, match="has no test images"):
        open_dataset("voc2007", sample, split="test")


def test_missing_or_damaged_files_are_named(devkit: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"neither in .*fetch voc2007"):
        open_dataset("voc2007", tmp_path / "nothing")
    folder = devkit / "voc2007" / "VOCdevkit" / "VOC2007"
    for text in ("<annotation><si", xml(("unicorn", (1, 1, 2, 2), 0)), xml(("cat", (9, 9, 2, 2), 0)), "<annotation/>"):
        (folder / "Annotations" / "000012.xml").write_text(text)
        with pytest.raises(ValueError, match=r"000012\.xml cannot be read"):
            open_dataset("voc2007", devkit, split="train")[0]
    (folder / "JPEGImages" / "000017.jpg").unlink()
    with pytest.raises(MissingData, match=r"1 of the files .* such as 000017\.jpg"):
        open_dataset("voc2007", devkit, split="train")


@pytest.mark.parametrize(
    "broken", [{"split": "test"}, {"objects": [{"name": "unicorn", "box_xyxy": [0, 0, 1, 1]}]}, {"width": None}]
)
def test_a_damaged_sample_is_named(sample: Path, broken: dict) -> None:
    table = sample / "voc2007" / "annotations.json"
    rows = json.loads(table.read_text())
    table.write_text(json.dumps([*rows[:-1], rows[-1] | broken]))
    with pytest.raises(ValueError, match=r"annotations\.json cannot be read"):
        open_dataset("voc2007", sample)


@pytest.mark.real_data
def test_the_real_sample() -> None:
    if not (paths.data_dir() / "voc2007" / "annotations.json").is_file():
        pytest.skip("real data: CAMPANION_DATA has no voc2007/annotations.json")
    sets = {split: open_dataset("voc2007", split=split) for split in ("train", "val", "trainval")}
    assert [len(data) for data in sets.values()] == [2334, 1000, 3334]
    assert not set(sets["train"].ids) & set(sets["val"].ids)
    data = sets["val"]
    for i in data.order()[:20]:
        one = data[i]
        assert one.objects
        assert all(0 <= o.box[0] < o.box[2] <= one.image.width for o in one.objects)
        assert [o.label for o in one.objects] == [o.label for o in data.objects(i)]
    assert {k for i in range(len(data)) for k in (o.label for o in data.objects(i))} == set(range(20))

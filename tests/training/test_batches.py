"""Readers of classification sets, and the batched augmentations against torchvision's, one image at a time."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from campanion.data import open_dataset
from campanion.data.classification import open_folder
from campanion.errors import MissingData
from campanion.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from campanion.training.batches import (
    Draw,
    MemoryImages,
    StreamedImages,
    augment,
    draw,
    normalise,
)
from PIL import Image
from torchvision import datasets as tv
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as T


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of images of unlike shapes in ``pets/train``, one of them in ``pets/val``."""
    for i, (place, shape) in enumerate(
        {"train/cat/a": (40, 30), "train/cat/b": (25, 50), "train/dog/a": (33, 33), "val/dog/a": (60, 20)}.items()
    ):
        file = tmp_path / "pets" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, 60, i)[0, : shape[0], : shape[1]]).save(file)
    return tmp_path


def test_shift_and_flip_are_torchvisions() -> None:
    pixels = torch.from_numpy(noise(40, 16))
    drawn = draw(torch.arange(40), "shift_flip", 16, generator())
    assert drawn.padding == 2
    ours = augment(pixels, drawn)
    for i, (top, left) in enumerate(drawn.shifts.tolist()):
        one = T.crop(T.pad(pixels[i].permute(2, 0, 1), 2), top, left, 16, 16)
        one = T.hflip(one) if drawn.mirrored[i] else one
        assert torch.equal(ours[i], one.permute(1, 2, 0))
    assert {tuple(s) for s in drawn.shifts.tolist()} >= {(0, 4)} or drawn.shifts.max() == 4
    assert drawn.shifts.min() == 0
    assert 5 < drawn.mirrored.sum() < 35


def test_enlarged_parts_are_torchvisions() -> None:
    pixels = torch.from_numpy(noise(3, 24))
    corners = torch.tensor([[0, 0, 12, 8], [5, 7, 24, 20], [0, 0, 24, 24]])
    mirrored = torch.tensor([False, True, False])
    ours = augment(pixels, Draw(torch.arange(3), boxes=corners / 24, mirrored=mirrored))
    for i, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        # torchvision enlarges the part alone, roi_align reads one pixel beyond its edges: compare inside
        one = T.resized_crop(pixels[i].permute(2, 0, 1).float(), y0, x0, y1 - y0, x1 - x0, [24, 24], antialias=False)
        one = (T.hflip(one) if mirrored[i] else one).permute(1, 2, 0)
        torch.testing.assert_close(ours[i, 3:-3, 3:-3], one[3:-3, 3:-3], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(ours[2], pixels[2].float(), atol=1e-3, rtol=0)


def test_parts_are_drawn_as_torchvision_draws_them() -> None:
    boxes = draw(torch.arange(4000), "resized_crop_flip", 64, generator(), min_area=0.2).boxes
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    torch.manual_seed(0)
    square = torch.zeros(3, 1000, 1000)
    theirs = torch.tensor([RandomResizedCrop.get_params(square, (0.2, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
    theirs = theirs / 1000  # top, left, height, width
    for ours, other in (
        (width * height, theirs[:, 2] * theirs[:, 3]),
        (width / height, theirs[:, 3] / theirs[:, 2]),
        (boxes[:, 0], theirs[:, 1]),
        (boxes[:, 1], theirs[:, 0]),
    ):
        at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
        torch.testing.assert_close(ours.quantile(at), other.quantile(at), atol=0.03, rtol=0)


def test_processes_share_a_batch_without_changing_it() -> None:
    pixels = torch.from_numpy(noise(11, 16))
    whole = draw(torch.arange(11), "shift_flip", 16, generator(3))
    parts = [whole.part(i, 3) for i in range(3)]
    assert [len(p.indices) for p in parts] == [4, 4, 3]
    together = torch.cat([augment(pixels[p.indices], p) for p in parts])
    assert torch.equal(together, augment(pixels, whole))


def test_memory_is_what_preprocess_does(folder: Path) -> None:
    data = open_folder(folder, "pets", "train")
    preprocess = Preprocess(24, IMAGENET_MEAN, IMAGENET_STD)
    memory = MemoryImages(data, 24, indices=[2, 0, 1])
    (pixels,) = memory.batches([Draw(torch.tensor([0, 1, 2]))])
    images = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, torch.stack([preprocess(data[i].image) for i in (2, 0, 1)]))


def test_streamed_images_are_those_in_memory(folder: Path) -> None:
    data = open_folder(folder, "pets", "train")
    draws = [draw(torch.tensor(i), "shift_flip", 24, generator()) for i in ([0, 1], [2, 1], [0], [2])]
    memory, streamed = (kind(data, 24, [1, 2, 0], threads=2) for kind in (MemoryImages, StreamedImages))
    for one, other in zip(memory.batches(draws), streamed.batches(draws), strict=True):
        assert torch.equal(one, other)
    boxes = [Draw(torch.tensor([0]), boxes=torch.tensor([[0.2, 0.0, 1.0, 0.5]]), mirrored=torch.tensor([True]))]
    (part,) = streamed.batches(boxes)
    image = data[1].image
    cut = image.resize((24, 24), Image.Resampling.BILINEAR, box=(0.2 * image.width, 0, image.width, 0.5 * image.height))
    difference = part[0].flip(1).int() - torch.from_numpy(np.array(cut)).int()
    assert difference.abs().max() <= 1  # the box went through single precision


def test_folders(folder: Path) -> None:
    train, test = (open_folder(folder, "pets", split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.ids, train.labels) == (["cat/a.png", "cat/b.png", "dog/a.png"], [0, 0, 1])
    assert (test.ids, test.labels) == (["dog/a.png"], [1])
    assert "3 images of 2 classes" in train.card
    (folder / "pets" / "val" / "bird").mkdir()
    with pytest.raises(ValueError, match="bird is a class that"):
        open_folder(folder, "pets", "test")
    with pytest.raises(MissingData, match="There is no folder"):
        open_folder(folder, "birds", "train")
    with pytest.raises(ValueError, match=r"Unknown split 'tests'\. Did you mean 'test'"):
        open_folder(folder, "pets", "tests")


def test_packed_jpegs(tmp_path: Path) -> None:
    stored = []
    for i in range(3):
        buffer = io.BytesIO()
        Image.fromarray(noise(1, 32, i)[0]).save(buffer, "JPEG", quality=95)
        stored.append(np.frombuffer(buffer.getvalue(), np.uint8))
    parts = {
        "test_jpeg": np.concatenate(stored),
        "test_offsets": np.cumsum([0] + [len(s) for s in stored]),
        "test_labels": np.array([3, 0, 9], np.uint8),
    }
    (tmp_path / "cifar10").mkdir()
    file = tmp_path / "cifar10" / "cifar10-jpeg.npz"
    np.savez(file, **parts)
    data = open_dataset("cifar10", tmp_path)
    assert (data.labels, data.class_names[data.labels[0]], len(set(data.ids))) == ([3, 0, 9], "cat", 3)
    want = np.asarray(Image.open(io.BytesIO(stored[2].tobytes())))
    assert np.array_equal(np.asarray(data[2].image), want)
    np.savez(file, **{**parts, "test_offsets": parts["test_offsets"][:-1]})
    with pytest.raises(ValueError, match=r"cifar10-jpeg\.npz cannot be read"):
        open_dataset("cifar10", tmp_path)


def test_torchvisions_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = noise(4, 32).transpose(0, 3, 1, 2).reshape(4, -1)
    place = tmp_path / "cifar100" / "cifar-100-python"
    place.mkdir(parents=True)
    for split in ("train", "test"):
        (place / split).write_bytes(pickle.dumps({"data": rows, "fine_labels": [4, 99, 0, 7]}))
    (place / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}))
    with pytest.raises(ValueError, match="damaged or not whole"):  # pickles of another MD5 are never opened
        open_dataset("cifar100", tmp_path)
    monkeypatch.setattr(tv.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(tv.cifar, "check_integrity", lambda *arguments: True)
    data = open_dataset("cifar100", tmp_path)
    assert (data.labels, data.class_names[99]) == ([4, 99, 0, 7], "class 99")
    assert np.array_equal(np.asarray(data[1].image), noise(4, 32)[1])

    place = tmp_path / "stl10" / "stl10_binary"
    place.mkdir(parents=True)
    pixels = noise(2, 96)
    (place / "test_X.bin").write_bytes(pixels.transpose(0, 3, 2, 1).tobytes())  # column by column
    (place / "test_y.bin").write_bytes(bytes([1, 10]))
    (place / "class_names.txt").write_text("\n".join(f"c{i}" for i in range(10)))
    monkeypatch.setattr(tv.STL10, "_check_integrity", lambda self: True)
    data = open_dataset("stl10", tmp_path)
    assert data.labels == [0, 9]
    assert np.array_equal(np.asarray(data[1].image), pixels[1])


def test_missing_sets_say_how_they_are_had(tmp_path: Path) -> None:
    for name in ("cifar10", "cifar100", "stl10", "imagenette", "cats-dogs"):
        with pytest.raises(MissingData, match=f"campanion data fetch {name}"):
            open_dataset(name, tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("cifar10", 50000, 10000, 10), ("cats-dogs", 8005, 2023, 2), ("imagenette", 5000, 2500, 10)],
)
def test_the_sample(name: str, train: int, test: int, classes: int) -> None:
    root = os.environ.get("CAMPANION_DATA")
    try:
        sets = [open_dataset(name, root, split) for split in ("train", "test")] if root else None
    except MissingData:
        sets = None
    if sets is None:
        pytest.skip(f"CAMPANION_DATA is unset or has no {name}")
    for data, count in zip(sets, (train, test), strict=True):
        assert (len(data), len(data.class_names)) == (count, classes)
        assert set(data.labels) == set(range(classes))
        assert data[0].image.mode == "RGB"
    assert sets[0].class_names[0] in ("airplane", "cats", "tench")

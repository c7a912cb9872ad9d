"""Pictures of every kind open as RGB or are refused by name; samples and orders keep their promises."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from campanion.data.samples import Dataset, Object, Sample, open_image
from campanion.errors import MissingData
from PIL import Image


class Named(Dataset):
    name = "named"
    class_names = ("a", "b")

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.labels = [0] * len(ids)
        self.card = "made for a test"

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], Image.new("RGB", (2, 2)), 0)


def test_sample_labels_and_boxes() -> None:
    objects = (Object(3, (0, 0, 2, 2)), Object(1, (1, 1, 2, 3), difficult=True), Object(3, (1, 0, 2, 2)))
    sample = Sample("x", Image.new("RGB", (4, 4)), 2, objects)
    assert sample.labels == (1, 2, 3)
    assert Sample("y", sample.image, None, objects).labels == (1, 3)
    assert torch.equal(sample.boxes(3), torch.tensor([[0.0, 0, 2, 2], [1, 0, 2, 2]]))
    assert sample.boxes(1).tolist() == [[1, 1, 2, 3]]
    assert sample.boxes(1, difficult=False).shape == sample.boxes(7).shape == (0, 4)


@pytest.mark.parametrize("box", [(2, 0, 1, 1), (0, 2, 1, 1), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)])
def test_impossible_boxes_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="x0 <= x1"):
        Object(0, box)


def test_order_is_fixed_and_a_part_keeps_the_order_of_the_whole() -> None:
    data = Named([f"picture {i}" for i in range(50)])
    order = data.order()
    assert sorted(order) == list(range(50))
    assert order == data.order(0) != data.order(1)
    assert order != list(range(50))
    part = Named(data.ids[10:30])
    kept = set(part.ids)
    assert [part.ids[i] for i in part.order()] == [data.ids[i] for i in order if data.ids[i] in kept]
    assert [s.id for s in data] == data.ids


def test_exif_rotation_is_applied_unless_the_pixels_are_wanted_as_stored(tmp_path: Path) -> None:
    stored = Image.new("RGB", (6, 3), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    stored.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (3, 6)
    assert open_image(tmp_path / "turned.jpg", rotate=False).size == (6, 3)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (4, 4), (200, 40, 20))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    red.convert("P").save(tmp_path / "palette.png")
    red.convert("L").save(tmp_path / "grey.png")
    clear = Image.new("RGBA", (4, 4), (200, 40, 20, 0))
    clear.putpixel((0, 0), (200, 40, 20, 255))
    clear.save(tmp_path / "alpha.png")
    assert np.allclose(np.asarray(open_image(tmp_path / "cmyk.jpg"))[2, 2], (200, 40, 20), atol=6)
    assert np.allclose(np.asarray(open_image(tmp_path / "palette.png"))[2, 2], (200, 40, 20), atol=52)
    assert len(set(np.asarray(open_image(tmp_path / "grey.png"))[0, 0])) == 1
    alpha = open_image(tmp_path / "alpha.png")
    assert alpha.getpixel((0, 0)) == (200, 40, 20)
    assert alpha.getpixel((3, 3)) == (255, 255, 255)
    assert {open_image(f).mode for f in tmp_path.iterdir()} == {"RGB"}


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 10, 257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png"))[0, :, 1].tolist() == [0, 10, 128, 255]


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"float\.tiff.*8 bits"):
        open_image(tmp_path / "float.tiff")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"nothing\.jpg"):
        open_image(tmp_path / "nothing.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg is not an image"):
        open_image(tmp_path / "text.jpg")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg is damaged or cut short"):
        open_image(tmp_path / "cut.jpg")


def test_decompression_bomb_is_not_opened(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    side = 10_000  # 100 million pixels: above the limit, where Pillow itself would only warn
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b""))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png has more than .* pixels"):
        open_image(tmp_path / "bomb.png")


def test_order_is_the_same_on_every_machine() -> None:
    order = Named([f"{i:03d}" for i in range(100)]).order()
    assert hashlib.sha256(repr(order).encode()).hexdigest()[:16] == "4e49c3095a6e5d22"

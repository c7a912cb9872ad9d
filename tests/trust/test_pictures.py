"""An image of any kind opens as the RGB that it shows, or is refused in one sentence that names it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from campanion.data import Sample
from campanion.errors import MissingData
from campanion.models.preprocess import Preprocess
from campanion.pictures import FORMATS, LARGEST, open_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

RED, WHITE = (200, 40, 20), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(source: object) -> np.ndarray:
    return np.asarray(open_picture(source))


def textured(width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


# ---- kinds of source
def test_a_path_bytes_and_an_opened_file_give_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(encoded(textured(), "PNG"))
    want = np.asarray(textured())
    stream = io.BytesIO(path.read_bytes())
    stream.seek(7)
    with path.open("rb") as opened:
        for source in (path, str(path), path.read_bytes(), memoryview(path.read_bytes()), stream, opened):
            assert np.array_equal(pixels(source), want)
        assert not opened.closed


@pytest.mark.parametrize(
    "name", ["a holiday photo (1).png", "Füße – 写真 🐈.png", "%20;$(touch pwned)'\".png", "-n.png"]
)
def test_file_names_may_hold_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(textured(), "PNG"))
    assert open_picture(tmp_path / name).size == (24, 16)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_bytes_are_decoded_as_pillow_does() -> None:
    for kind in ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        stored = encoded(textured(), kind)
        assert np.array_equal(pixels(stored), np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))), kind


# ---- kinds of image
def test_every_mode_becomes_the_rgb_that_it_shows() -> None:
    red = Image.new("RGB", (4, 4), RED)
    assert np.allclose(pixels(encoded(red.convert("CMYK"), "JPEG", quality=95)), RED, atol=6)
    assert np.allclose(pixels(encoded(red.quantize(2), "PNG")), RED, atol=2)
    assert pixels(encoded(Image.new("L", (4, 4), 77), "PNG")).tolist() == np.full((4, 4, 3), 77).tolist()
    assert pixels(encoded(Image.new("1", (4, 4), 1), "PNG")).tolist() == np.full((4, 4, 3), 255).tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_become_white(mode: str) -> None:
    options = {}
    if mode == "RGBA":
        image, opaque = Image.new("RGBA", (2, 1), (*RED, 0)), RED
        image.putpixel((0, 0), (*RED, 255))
    elif mode == "LA":
        image, opaque = Image.new("LA", (2, 1), (9, 0)), (9, 9, 9)
        image.putpixel((0, 0), (9, 255))
    else:  # one colour of a palette, or one RGB colour, is the transparent one
        image, opaque = Image.new("RGB", (2, 1), (1, 2, 3)), RED
        image.putpixel((0, 0), RED)
        options = {"transparency": (1, 2, 3)}
        if mode == "P":
            image = image.quantize(2)
            options = {"transparency": image.getpixel((1, 0))}
    assert pixels(encoded(image, "PNG", **options)).tolist() == [[list(opaque), list(WHITE)]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str, order: str) -> None:
    values = np.array([[0, 257 * 10, 257 * 128, 65535]], dtype=f"{order}u2")
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (4, 1), values.tobytes())
    assert pixels(encoded(image, kind))[0, :, 1].tolist() == [0, 10, 128, 255]


def test_sixteen_bits_are_scaled_by_preprocess_too() -> None:
    deep = Image.fromarray(np.full((4, 4), 257 * 128, np.uint16))
    assert Preprocess(4, (0, 0, 0), (1, 1, 1))(deep).unique().tolist() == pytest.approx([128 / 255])


def test_pixels_of_unknown_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The image of .* cannot be made RGB: .*8 bits"):
        open_picture(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    with pytest.raises(ValueError, match="16 bits"):
        open_picture(encoded(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"))


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_rotation_is_applied_once_or_never(tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    stored = Image.new("RGB", (6, 3), "blue")
    content = encoded(stored, "JPEG", exif=exif)
    upright = open_picture(content)
    assert upright.size == ((6, 3) if tag < 5 else (3, 6))
    # A data set's boxes are drawn on the pixels as stored: preprocess must not turn them after all.
    as_stored = open_picture(content, rotate=False)
    assert as_stored.size == (6, 3)
    assert not upright.getexif()
    assert not as_stored.getexif()


def test_a_data_sets_image_is_not_turned_by_preprocess() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves = Image.new("RGB", (8, 8), "black")
    halves.paste("white", (0, 0, 8, 4))
    content = encoded(halves, "PNG", exif=exif)
    show = Preprocess(8, (0, 0, 0), (1, 1, 1))
    assert show(Sample("x", open_picture(content, rotate=False)).image)[0, :, 0].tolist() == [1] * 4 + [0] * 4
    assert show(open_picture(content))[0, :, 0].tolist() == [0] * 4 + [1] * 4


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE)]
    assert np.allclose(pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), RED, atol=8)


# ---- refusals
def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = encoded(textured(64, 64), "JPEG")
    files = {"text.jpg": b"not an image", "cut.jpg": whole[: len(whole) // 2], "empty.jpg": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MissingData, match=r"There is no image file .*nothing\.jpg"):
        open_picture(tmp_path / "nothing.jpg")
    for name, words in (("text", "is not an image"), ("cut", "is damaged or cut short"), ("empty", "is empty")):
        with pytest.raises(ValueError, match=rf"{name}\.jpg {words}"):
            open_picture(tmp_path / f"{name}.jpg")
    with pytest.raises(ValueError, match=f"{tmp_path.name} is a folder"):
        open_picture(tmp_path)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The image of 0 bytes is empty"):
        open_picture(b"")
    with pytest.raises(ValueError, match="path, bytes or an opened file, not int"):
        open_picture(0)  # a file descriptor, to `open`
    with pytest.raises(ValueError, match="opened as text"):
        open_picture(io.StringIO("text"))
    with (tmp_path / "new.png").open("wb") as writing, pytest.raises(ValueError, match=r"new\.png cannot be read"):
        open_picture(writing)


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(MissingData, match=r"pipe\.jpg"):
        open_picture(tmp_path / "pipe.jpg")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [5_001, 10_000, 100_000])  # above our limit, where Pillow warns, where it refuses
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"The image of \d+ bytes has more than 50,000,000 pixels"):
        open_picture(png_header(width, 10_000))


def test_an_image_of_the_largest_size_is_let_through() -> None:
    with pytest.raises(ValueError, match="damaged or cut short"):  # it has no pixels behind its header
        open_picture(png_header(LARGEST // 5_000, 5_000))


def test_nothing_outside_pillow_is_run() -> None:
    """Pillow draws EPS with Ghostscript: a document could do what its interpreter can."""
    with pytest.raises(ValueError, match="is not an image that can be read"):
        open_picture(encoded(textured(), "EPS"))
    assert "EPS" not in FORMATS


KINDS = [(kind, mode) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM") for mode in ("RGB", "L")]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@settings(derandomize=True, deadline=2000, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KINDS), st.data())
def test_a_damaged_file_opens_or_is_refused_in_a_sentence(kind: tuple[str, str], data: st.DataObject) -> None:
    content = bytearray(encoded(textured().convert(kind[1]), kind[0]))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    refused = refusal(content)
    assert refused is None or refused.startswith(f"The image of {len(content):,} bytes ")
    assert refused is None or refused.endswith((".", ")."))


def refusal(content: bytes) -> str | None:
    """The sentence that refuses the file; None when it opens, as RGB."""
    try:
        opened = open_picture(content)
    except ValueError as problem:
        return str(problem)
    assert opened.mode == "RGB"
    assert 0 not in opened.size
    return None

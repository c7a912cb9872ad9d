"""Open an image that may be anything: 8-bit RGB, or one sentence that says what is wrong with it."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from campanion.errors import MissingData

#: Images with more pixels are refused before they are decoded: a small file can hold an image that fills the memory.
LARGEST = 50_000_000
#: A 16-bit image whose values all lie below an eighth of the range was hardly meant to be that dark.
DARK = 65536 // 8
# What cameras, browsers and data sets write. Pillow reads more, some of it with other programs (EPS with Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def open_picture(source: str | os.PathLike[str] | bytes | BinaryIO, *, rotate: bool = True) -> Image.Image:
    """Read an image as 8-bit RGB, whatever its mode: 16-bit channels are scaled, transparent pixels become white.

    Of an animation it is the first frame. A 16-bit image that uses less than an eighth of its range is read with a
    warning. The result carries no metadata, so nothing turns it a second time.

    Args:
        source: a path, the bytes of a file, or a file opened for reading bytes (read from its start).
        rotate: turn the image as its EXIF tag says. Data sets with boxes pass False: their boxes, and the
            accuracies published for torchvision's weights, are for the pixels as stored.

    Raises:
        MissingData: there is no such file.
        ValueError: a folder, empty, no image, damaged or cut short, above :data:`LARGEST` pixels, or pixels of
            unknown range; names the file.

    >>> open_picture("cat.png").mode
    'RGB'
    """
    name, file = _file_of(source)
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > LARGEST:
                raise Image.DecompressionBombError
            opened.load()
            image = ImageOps.exif_transpose(opened) if rotate else opened.copy()
    # Pillow's own limits for what a header says are higher; the lower of them only warns.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise ValueError(f"{name} has more than {LARGEST:,} pixels and was not opened.") from problem
    except UnidentifiedImageError as problem:
        raise ValueError(f"{name} is not an image that can be read ({', '.join(FORMATS)}).") from problem
    except PermissionError as problem:
        raise ValueError(f"{name} may not be read: {problem.strerror}.") from problem
    except Exception as problem:  # a damaged file can fail anywhere in a decoder, with any exception
        raise ValueError(f"{name} is damaged or cut short: {problem}.") from problem
    if image.mode.startswith("I") and 0 < (largest := np.asarray(image).max()) < DARK:
        warnings.warn(
            f"{name} has 16 bits, but no value above {largest:,} of 65,535, so it will look almost black: scale its "
            "values to the whole range first, if they came from a camera or scanner of fewer bits.",
            stacklevel=2,
        )
    try:
        image = to_rgb(image)
    except ValueError as problem:
        raise ValueError(f"{name} cannot be made RGB: {problem}") from problem
    image.info = {}
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """A copy of ``image`` as 8-bit RGB: 16-bit greys are scaled, transparent pixels become white."""
    if image.mode.startswith("I"):  # Pillow would clip 16-bit greys at 255 instead of scaling them
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("its grey values do not fit in 16 bits.")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits a channel.")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _file_of(source: object) -> tuple[str, Path | io.BytesIO]:
    """How a sentence names ``source``, and what Pillow can open; an empty or missing file is refused."""
    if isinstance(source, str | os.PathLike):
        file = Path(source)
        if file.is_dir():
            raise ValueError(f"{file} is a folder, not an image.")
        if not file.is_file():
            raise MissingData(f"There is no image file {file}.")
        name, size = f"The file {file}", file.stat().st_size
    else:
        name, content = _content_of(source)
        file, size = io.BytesIO(content), len(content)
    if size == 0:
        raise ValueError(f"{name} is empty.")
    return name, file


def _content_of(source: object) -> tuple[str, bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        return f"The image of {len(source):,} bytes", bytes(source)
    if not hasattr(source, "read"):
        raise ValueError(f"An image is opened from a path, bytes or an opened file, not {type(source).__name__}.")
    name = f"The file {getattr(source, 'name', 'given')}"
    try:
        if source.seekable():
            source.seek(0)
        content = source.read()
    except (OSError, ValueError) as problem:  # closed, or opened for writing
        raise ValueError(f"{name} cannot be read: {problem}.") from problem
    if not isinstance(content, bytes):
        raise ValueError(f"{name} was opened as text: open it with mode 'rb'.")
    return name, content


def percent(probability: float) -> str:
    r"""A probability in per cent, small ones with one digit that counts: ``"0.1\xa0%"``; the space does not break."""
    value = 100 * probability
    number = f"{value:.0f}" if value >= 1 else f"{value:.1g}" if value >= 1e-4 else "< 0.0001"
    return f"{number}\u00a0%"

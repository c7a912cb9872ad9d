"""What is asked of image files: the images themselves, the network, the methods and the look of the figures."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from campanion.cams.methods import parse
from campanion.errors import MissingData
from campanion.explorer.figure import Look
from campanion.pictures import open_picture

DEFAULT = ("grad_cam", "fd_cam", "lift_cam")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
LONGEST = 60  # letters of the options in a file's name; longer ones are shortened to a checksum


@dataclass(frozen=True)
class Request:
    """What is asked of every image.

    Args:
        target: a class by name or number, or ``higher`` or ``lower`` of a network with one output; None: the predicted.
        layer: dotted name; None is the network's own target layer.
        activation: other than the network's own.

    Raises:
        ValueError: no method, or an unknown one.
    """

    model: str = "resnet50"
    methods: tuple[str, ...] = DEFAULT
    target: str | None = None
    layer: str | None = None
    look: Look = field(default_factory=Look)
    activation: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("--methods names none: give one, such as --methods fd_cam.")
        for name in self.methods:
            parse(name)

    def differences(self) -> str:
        """What differs from the defaults, for the names of files; empty where nothing does."""
        parts = [part for part in (self.layer, self.activation) if part is not None]
        if self.methods != DEFAULT:
            parts.append("+".join(self.methods))
        plain = asdict(Look())
        for name, value in asdict(self.look).items():
            if value != plain[name] and name != "overlay":  # overlays are files of their own
                parts.append(name if value is True else f"{name}{value}")
        text = "_".join(clean(part) for part in parts)
        return text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Source:
    """An image to explain: its path, or the bytes that came from standard input, and the names it may have."""

    path: str
    content: bytes | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The file's name without its ending; and for a namesake the folder and the ending with it."""
        if self.content is not None:
            return "stdin", "stdin"
        path = Path(self.path)
        return clean(path.stem), clean("-".join((path.resolve().parent.name, path.name.replace(".", "-"))))

    def read(self) -> tuple[Image.Image, str]:
        """The image, and the SHA-256 of its file."""
        image = open_picture(self.path if self.content is None else self.content)
        content = Path(self.path).read_bytes() if self.content is None else self.content
        return image, hashlib.sha256(content).hexdigest()


def sources(words: Sequence[str]) -> list[Source]:
    """The images that paths, folders and ``-`` (standard input) name, each once; of a folder those directly in it, and
    MissingData where it has none."""
    listed: dict[str, Source] = {}
    for word in words:
        if word == "-":
            listed[word] = Source("-", sys.stdin.buffer.read())
        elif Path(word).is_dir():
            files = image_files(Path(word))
            if not files:
                raise MissingData(f"The folder {word} holds no image file ({', '.join(SUFFIXES)}).")
            listed |= {str(path.resolve()): Source(str(path)) for path in files}
        else:
            listed[str(Path(word).resolve())] = Source(word)
    return list(listed.values())


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def clean(text: object) -> str:
    """``text`` as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", str(text)).strip("-.") or "image"

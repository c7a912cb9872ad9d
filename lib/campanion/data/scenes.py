"""Generated scenes: textured objects on textured ground, with labels, boxes, masks and a table of attributes.

They check machinery without any download; no claim about a paper is drawn from them. A scene is fixed by its seed and
:data:`VERSION`; its size in pixels only says how finely it is drawn. The shape alone tells the class: colours and
textures are drawn independently of it. The label of a scene is the class of its largest object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from campanion.data.samples import Dataset, Object, Sample
from campanion.data.shapes import SHAPES, reach, signed_distance
from campanion.data.textures import GROUNDS, TEXTURES, ground_texture, object_texture
from campanion.errors import one_of

#: Raised whenever the image of a seed changes; the trained networks name the version that they saw.
VERSION = 1
#: Class names of the scenes: the ten shapes.
CLASS_NAMES: tuple[str, ...] = SHAPES
SPLITS: tuple[str, ...] = ("train", "test")

# Main and second tone of each named colour. Grounds are dull, so that every one of these stands out.
_PALETTE: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((208, 44, 46), (242, 122, 112)),
    "orange": ((238, 132, 24), (250, 190, 112)),
    "yellow": ((246, 206, 44), (252, 234, 150)),
    "green": ((46, 150, 72), (140, 208, 130)),
    "cyan": ((44, 182, 196), (164, 230, 232)),
    "blue": ((42, 84, 196), (124, 164, 240)),
    "purple": ((116, 54, 160), (182, 134, 220)),
    "pink": ((236, 104, 164), (250, 186, 214)),
    "white": ((240, 238, 232), (194, 196, 200)),
    "black": ((42, 42, 48), (104, 106, 114)),
}
COLOURS: tuple[str, ...] = tuple(_PALETTE)


@dataclass(frozen=True)
class Attributes:
    """One row of a scene's table: what its object is, and where. Lengths are fractions of the image's side."""

    kind: str
    colour: str
    texture: str
    centre: tuple[float, float]
    size: float  # square root of the shape's area
    angle: float  # degrees, clockwise
    frequency: float  # periods of the texture per size


@dataclass(frozen=True)
class Scene(Sample):
    """A sample whose ``attributes`` [i] describe ``objects`` [i]; the largest object comes first."""

    attributes: tuple[Attributes, ...] = ()


def scene(seed: int, size: int = 64, n_objects: int | None = None) -> Scene:
    """Draw the scene of ``seed``.

    Args:
        seed: any whole number from 0 up.
        size: side of the image in pixels (at least 16); the same scene at every size.
        n_objects: 1 to 3; None draws it. Objects hardly overlap; the largest has about twice the area of any other.

    Returns:
        A :class:`Scene`; its objects' masks (bool [size, size]) and boxes hold what is to be seen of them.

    Raises:
        ValueError: seed, size or number of objects out of range.

    Example:
        >>> s = scene(7, size=224)
        >>> s.image.size, [a.kind for a in s.attributes]
    """
    if seed < 0 or size < 16 or n_objects not in (None, 1, 2, 3):
        raise ValueError(
            f"A scene needs seed >= 0, size >= 16 and n_objects 1 to 3 (or None), not {seed}, {size} and {n_objects}."
        )
    attributes = _layout(_generator(seed, 0), n_objects)
    # Float64 throughout: rounding differences between processors then do not reach the eight bits of a pixel.
    canvas = _ground(_generator(seed, 1), size)
    masks: list[NDArray[np.bool_]] = []
    for row in attributes:
        mask = _draw(canvas, row)
        masks = [earlier & ~mask for earlier in masks] + [mask]
    pixels = np.rint(np.clip(canvas, 0.0, 255.0)).astype(np.uint8)
    objects = tuple(
        Object(label=SHAPES.index(row.kind), box=_box(mask), mask=mask)
        for row, mask in zip(attributes, masks, strict=True)
    )
    return Scene(scene_id(seed, n_objects), Image.fromarray(pixels), objects[0].label, objects, attributes)


def scene_id(seed: int, n_objects: int | None = None) -> str:
    """Id of a scene: ``scene-7``, or ``scene-7-1`` where its number of objects is given."""
    return f"scene-{seed}" if n_objects is None else f"scene-{seed}-{n_objects}"


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, int(seed), stream])


def _layout(rng: np.random.Generator, n_objects: int | None) -> tuple[Attributes, ...]:
    """Kinds, looks, sizes and places of the objects, the largest first."""
    drawn = int(rng.integers(1, 4))
    count = n_objects or drawn
    largest = rng.uniform(0.24, 0.48) if count == 1 else rng.uniform(0.32, 0.42) - 0.02 * (count - 2)
    sizes = largest * np.concatenate([[1.0], rng.uniform(0.5, 0.7, size=count - 1)])
    looks = [
        (
            SHAPES[rng.integers(len(SHAPES))],
            COLOURS[rng.integers(len(COLOURS))],
            TEXTURES[rng.integers(len(TEXTURES))],
            rng.uniform(-1.0, 1.0),
            rng.uniform(2.2, 4.2),
        )
        for _ in range(count)
    ]
    radii = np.array([reach(look[0]) for look in looks]) * sizes
    shrink, places = 1.0, _places(rng, radii)
    while places is None:  # too tight: smaller objects will fit
        shrink *= 0.93
        places = _places(rng, radii * shrink)
    # Arrows and crescents point anywhere; the others stay near upright, which looks calmer.
    swings = [180.0 if look[0] in ("arrow", "crescent") else 25.0 for look in looks]
    return tuple(
        Attributes(kind, colour, texture, place, size * shrink, swing * turn, frequency)
        for (kind, colour, texture, turn, frequency), place, size, swing in zip(
            looks, places, sizes.tolist(), swings, strict=True
        )
    )


def _places(rng: np.random.Generator, radii: NDArray[np.float64]) -> list[tuple[float, float]] | None:
    """Centres inside the image whose circles overlap little, or None after 30 tries for one of them."""
    places: list[tuple[float, float]] = []
    for radius in radii:
        margin = min(0.95 * radius + 0.01, 0.5)
        for x, y in rng.uniform(margin, 1.0 - margin, size=(30, 2)).tolist():
            gaps = (np.hypot(x - px, y - py) - 0.85 * (radius + r) for (px, py), r in zip(places, radii, strict=False))
            if all(gap > 0 for gap in gaps):
                places.append((x, y))
                break
        else:
            return None
    return places


def _ground(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Ground [size, size, 3] in 0..255: a dull colour and a neighbour of it, mixed by a texture."""
    share = ground_texture(GROUNDS[rng.integers(len(GROUNDS))], rng, size)
    hue, saturation = rng.random(), rng.uniform(0.06, 0.30)
    value, step = rng.uniform(0.50, 0.78), rng.uniform(0.14, 0.26)
    neighbour = hue + rng.uniform(-0.09, 0.09)
    dark, light = _hsv(hue, saturation, value - step / 2), _hsv(neighbour, 0.8 * saturation, value + step / 2)
    return 255.0 * (dark + (light - dark) * share[:, :, None])


def _hsv(hue: float, saturation: float, value: float) -> NDArray[np.float64]:
    """RGB in 0..1 of a colour given by hue (turns), saturation and value."""
    ramp = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6.0 - 3.0) - 1.0
    return value * (1.0 - saturation + saturation * np.clip(ramp, 0.0, 1.0))


def _draw(canvas: NDArray[np.float64], row: Attributes) -> NDArray[np.bool_]:
    """Paint one object and its shadow onto ``canvas`` [size, size, 3]; its mask [size, size] is returned."""
    side = canvas.shape[0]
    pixel = 1.0 / (side * row.size)  # in units of the object's size
    half = (reach(row.kind) + 0.25) * row.size
    x0, x1, y0, y1 = (
        int(np.clip(np.floor((c + s * half) * side + (s > 0)), 0, side)) for c in row.centre for s in (-1, 1)
    )
    x = ((np.arange(x0, x1) + 0.5) / side - row.centre[0])[None, :] / row.size
    y = ((np.arange(y0, y1) + 0.5) / side - row.centre[1])[:, None] / row.size
    cos, sin = np.cos(np.radians(row.angle)), np.sin(np.radians(row.angle))
    u, v = x * cos + y * sin, y * cos - x * sin
    distance = signed_distance(row.kind, u, v)
    # The shadow falls to the lower right, whatever the object's angle.
    fall = signed_distance(row.kind, u - 0.09 * (cos + sin), v - 0.09 * (cos - sin))
    shadow = 0.45 * np.clip(0.5 - fall / 0.16, 0.0, 1.0)
    coverage = np.clip(0.5 - distance / pixel, 0.0, 1.0)
    rim = np.clip(0.5 + (distance + 0.055) / pixel, 0.0, 1.0)
    share = object_texture(row.texture, (u + v) * 0.7071, (u - v) * 0.7071, row.frequency, pixel)
    light = (1.0 - 0.16 * (x + y)) * (1.0 - 0.38 * rim)
    main, second = np.array(_PALETTE[row.colour], dtype=float)
    paint = (main + (second - main) * share[:, :, None]) * light[:, :, None]
    patch = canvas[y0:y1, x0:x1]
    patch *= 1.0 - shadow[:, :, None]
    patch += (np.clip(paint, 0.0, 255.0) - patch) * coverage[:, :, None]
    mask = np.zeros(canvas.shape[:2], dtype=bool)
    mask[y0:y1, x0:x1] = coverage >= 0.5
    return mask


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The tight box of a mask: x0, y0, x1, y1 in pixels, the far edges exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class SceneDataset(Dataset):
    """``n`` scenes of a split, ``"train"`` or ``"test"``; the splits never share one, whatever their seeds.

    ``size`` is the side of the images in pixels; with ``single`` every scene has one object, not one to three.
    """

    name = "scenes"
    class_names = CLASS_NAMES

    def __init__(self, n: int, seed: int = 0, size: int = 64, split: str = "train", single: bool = False) -> None:
        one_of("split", split, SPLITS)
        if not 0 < n <= 10**7 or not 0 <= seed <= 2**31:
            raise ValueError(f"A set of scenes needs 1 to 10**7 scenes and a seed of 0 to 2**31, not {n} and {seed}.")
        self.seed, self.size, self.split = seed, size, split
        self.n_objects = 1 if single else None
        self.ids = [scene_id(self.scene_seed(i), self.n_objects) for i in range(n)]
        objects = "one object" if single else "one to three objects"
        self.card = (
            f"Generated scenes, version {VERSION}: {n} pictures of {size}x{size} pixels, {objects} of "
            f"{len(SHAPES)} shapes, split {split}, seed {seed}. They check machinery and support no claim of a paper."
        )

    def scene_seed(self, index: int) -> int:
        """Seed of scene ``index``: even for train, odd for test, and another block for every seed of the set."""
        return 2 * (self.seed * 2**32 + index) + SPLITS.index(self.split)

    @cached_property
    def labels(self) -> list[int | None]:
        """Class of the largest object of every scene, without drawing it."""
        return [SHAPES.index(self.attributes(i)[0].kind) for i in range(len(self))]

    def attributes(self, index: int) -> tuple[Attributes, ...]:
        """Attributes of the objects of scene ``index``, the largest first, without drawing it."""
        return _layout(_generator(self.scene_seed(index), 0), self.n_objects)

    def __getitem__(self, index: int) -> Scene:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no scene {index} in a set of {len(self)}.")
        return scene(self.scene_seed(index % len(self)), self.size, self.n_objects)


def open_scenes(root: Path, split: str | None = None, n: int = 1000, **options: object) -> SceneDataset:
    """The registry's way to :class:`SceneDataset`; nothing of it lies below ``root``."""
    return SceneDataset(n, split=split or "test", **options)

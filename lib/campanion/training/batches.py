"""Images as bytes in memory, and what training does to a batch of them: crop, mirror, normalise, on the device.

An image is squashed to ``size`` x ``size`` once, as a network's ``.preprocess`` does; a random crop is then a part of
this square. What happens to each image is drawn for the whole batch of all processes, on the CPU, from the generator
of the epoch (:func:`draw`), and done later, on any device, to the part that one process takes (:func:`augment`). So
neither the device nor the number of processes changes which pixels a network sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat, tee

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.ops import roi_align

from campanion.data.samples import Dataset
from campanion.progress import track

RATIO = (3 / 4, 4 / 3)  # of a random crop's sides, as in Inception's training and torchvision
TRIES = 10  # crops drawn before the whole image is taken


@dataclass(frozen=True)
class Draw:
    """One batch: which images, and what is done to each. None: nothing of the kind."""

    indices: Tensor  #: [B]
    padding: int = 0  #: zeros on each side before a shift, in pixels
    shifts: Tensor | None = None  #: [B, 2], the crop's corner (row, column) in the padded image, 0 .. 2 padding
    boxes: Tensor | None = None  #: [B, 4], the crop (x0, y0, x1, y1) as fractions of the image's sides
    mirrored: Tensor | None = None  #: bool [B]

    def part(self, index: int, of: int) -> Draw:
        """The share of process ``index``: consecutive images, the first processes take one more if need be."""
        rows = torch.arange(len(self.indices)).tensor_split(of)[index]
        cut = [None if drawn is None else drawn[rows] for drawn in (self.shifts, self.boxes, self.mirrored)]
        return Draw(self.indices[rows], self.padding, *cut)


def draw(
    indices: Tensor, kind: str, size: int, generator: torch.Generator, padding: float = 1 / 8, min_area: float = 0.08
) -> Draw:
    """What training does to the images ``indices`` [B] of side ``size``, drawn from a generator on the CPU.

    ``"shift_flip"``: zeros around the image (``padding`` of its side), a random crop of its size (CIFAR).
    ``"resized_crop_flip"``: a random part of at least ``min_area``, enlarged (ImageNet). Both mirror every other image.
    """
    count = len(indices)
    if kind == "none":
        return Draw(indices)
    mirrored = torch.rand(count, generator=generator) < 0.5
    if kind == "resized_crop_flip":
        return Draw(indices, boxes=_boxes(count, min_area, generator), mirrored=mirrored)
    pixels = round(padding * size)
    shifts = torch.randint(2 * pixels + 1, (count, 2), generator=generator)
    return Draw(indices, pixels, shifts, mirrored=mirrored)


def _boxes(count: int, min_area: float, generator: torch.Generator) -> Tensor:
    """[count, 4] of torchvision's ``RandomResizedCrop``: uniform area, log-uniform ratio, uniform place."""
    area = torch.rand(count, TRIES, generator=generator) * (1 - min_area) + min_area
    low, high = np.log(RATIO)
    ratio = torch.exp(torch.rand(count, TRIES, generator=generator) * (high - low) + low)
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], -1)  # width, height
    fits = (sides <= 1).all(-1)
    first = fits.int().argmax(1)
    sides = torch.where(fits.any(1)[:, None], sides[torch.arange(count), first], torch.ones(2))
    corner = torch.rand(count, 2, generator=generator) * (1 - sides)
    return torch.cat([corner, corner + sides], 1)


def augment(pixels: Tensor, drawn: Draw) -> Tensor:
    """Do what was drawn to uint8 ``pixels`` [B, H, W, 3], on their device; the result is uint8 or float, 0..255."""
    count, height, width, _ = pixels.shape
    device = pixels.device
    if drawn.shifts is not None:
        p = drawn.padding
        padded = F.pad(pixels, (0, 0, p, p, p, p))
        rows = drawn.shifts[:, :1] + torch.arange(height)
        columns = torch.arange(width).expand(count, -1)
        if drawn.mirrored is not None:
            columns = torch.where(drawn.mirrored[:, None], columns.flip(1), columns)
        columns = columns + drawn.shifts[:, 1:]
        batch = torch.arange(count, device=device)[:, None, None]
        return padded[batch, rows[:, :, None].to(device), columns[:, None, :].to(device)]
    if drawn.boxes is not None:
        scale = torch.tensor([width, height, width, height], dtype=torch.float32)
        corners = [box[None].to(device) for box in drawn.boxes * scale]
        # aligned, with one sample in each bin when enlarging: bilinear interpolation of the part; means when reducing
        parts = roi_align(pixels.permute(0, 3, 1, 2).float(), corners, (height, width), aligned=True)
        pixels = parts.permute(0, 2, 3, 1)
    if drawn.mirrored is not None:
        pixels = torch.where(drawn.mirrored.to(device)[:, None, None, None], pixels.flip(2), pixels)
    return pixels


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images [B, 3, H, W], channels last in memory, of ``pixels`` [B, H, W, 3] in 0..255: what ``preprocess`` does."""
    mean, std = (torch.tensor(v, device=pixels.device, dtype=torch.float32) for v in (mean, std))
    images = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def smooth(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """``labels`` [B] as they are, or as probabilities [B, C] with a share ``smoothing`` spread over all classes."""
    if not smoothing:
        return labels
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


@dataclass(eq=False)
class StreamedImages:
    """Images of ``data`` that are decoded whenever they are needed, by worker processes, for sets beyond the memory.

    A random part is cut from the image at its full resolution. ``indices`` are those of the images to keep, in this
    order (None: all); batches go to ``device``.
    """

    data: Dataset
    size: int
    indices: Sequence[int] | None = None
    device: str | torch.device = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        self.indices = list(range(len(self.data)) if self.indices is None else self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: tuple[int, Sequence[float] | None]) -> np.ndarray:
        """uint8 [size, size, 3]: image ``place[0]``, or the part ``place[1]`` (fractions of its sides), squashed."""
        index, box = place
        image = self.data[self.indices[index]].image
        box = box and tuple(b * side for b, side in zip(box, image.size * 2, strict=True))
        return np.array(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))

    def batches(self, draws: Iterable[Draw]) -> Iterator[Tensor]:
        """Augmented images [B, H, W, 3] in 0..255 of each draw."""
        ahead, drawn = tee(draws)
        loader = DataLoader(self, batch_sampler=map(_places, ahead), num_workers=self.threads)
        for pixels, d in zip(loader, drawn, strict=True):
            yield augment(pixels.to(self.device), replace(d, boxes=None))


class MemoryImages(StreamedImages):
    """All images as uint8 ``pixels`` [N, size, size, 3] on ``device``: on a GPU, a batch never waits for the CPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pixels = np.empty((len(self), self.size, self.size, 3), dtype=np.uint8)
        with ThreadPoolExecutor(self.threads) as pool:  # Pillow decodes and resizes in parallel
            read = pool.map(lambda i: self[i, None], range(len(self)))
            for i, image in enumerate(track(read, f"read {self.data.name}", total=len(self), unit="image")):
                pixels[i] = image
        self.pixels = torch.from_numpy(pixels).to(self.device)

    def batches(self, draws: Iterable[Draw]) -> Iterator[Tensor]:
        """As of :class:`StreamedImages`; a random part is cut from the image at ``size``."""
        for drawn in draws:
            yield augment(self.pixels[drawn.indices.to(self.pixels.device)], drawn)


def _places(drawn: Draw) -> list[tuple[int, Sequence[float] | None]]:
    boxes = repeat(None) if drawn.boxes is None else drawn.boxes.tolist()
    return list(zip(drawn.indices.tolist(), boxes, strict=False))

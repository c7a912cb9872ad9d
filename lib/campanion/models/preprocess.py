"""From a PIL image to what a network reads: size and colour statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as T

from campanion.pictures import to_rgb

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Mean and standard deviation of CIFAR-10's training images, as the authors' code has them (also for CIFAR-100).
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Preprocess:
    """PIL image -> [3, H, W]: the whole image squashed to ``size`` x ``size`` (as the papers do), normalised."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image) -> Tensor:
        """A normalised float32 tensor [3, size, size] of ``image``, turned upright and made RGB."""
        if not isinstance(image, Image.Image):
            raise ValueError(f"preprocess takes a PIL image, not {type(image).__name__}.")
        upright = to_rgb(ImageOps.exif_transpose(image))
        return T.normalize(T.to_tensor(T.resize(upright, [self.size, self.size], antialias=True)), self.mean, self.std)

    def invert(self, image: Tensor) -> Tensor:
        """The image [..., 3, H, W] in 0..1 of a preprocessed tensor, for showing it."""
        mean, std = (torch.tensor(v, device=image.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (image * std + mean).clamp(0, 1)

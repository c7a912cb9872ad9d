"""Do two training runs of one network look at the same place? The IoU of their binarised maps (LFI-CAM, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from campanion.errors import one_of

VARIANTS = ("paper", "official")


def stability_iou(maps_a: Tensor, maps_b: Tensor, *, threshold: float = 127 / 255, variant: str = "paper") -> Tensor:
    r"""Intersection over union of two binarised maps of the same image.

    ``variant="paper"``: a pixel belongs to the mask when its value is at least ``threshold`` (the paper's 127 of
    0..255); one IoU per image, 1 when both masks are empty.

    ``variant="official"`` is what the authors' published code computes, which is higher: the map is first stored as
    bytes, stretched to its own minimum and maximum and multiplied by 256 in 8 bits, so that the peak (256) wraps to
    0; the comparison is strict; and the mean over the H pixel *rows* is taken of (I + 1e-6) / (U + 1e-6), so that a
    row empty in both maps counts as agreement. (A constant map, a division by zero there, is an empty mask here.)

    Args:
        maps_a: maps in 0..1, [B, H, W], at input size.
        maps_b: maps of the same images from the other network.
        threshold: in 0..1.
        variant: ``"paper"`` or ``"official"``.

    Returns:
        IoU [B] in 0..1, in double precision.

    Raises:
        ValueError: for shapes that disagree, values that are NaN or outside 0..1, an unknown variant.

    Example:
        >>> stability_iou(explanation_1.maps["lfi_cam"], explanation_2.maps["lfi_cam"]).mean()
    """
    one_of("variant", variant, VARIANTS)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0..1 (127 of 255 is 127 / 255), not {threshold!r}.")
    if maps_a.ndim != 3 or maps_a.shape != maps_b.shape or 0 in maps_a.shape:
        raise ValueError(f"Both maps must be [B, H, W]; got {list(maps_a.shape)} and {list(maps_b.shape)}.")
    maps_b = maps_b.to(maps_a.device)
    for maps in (maps_a, maps_b):
        if not ((maps >= -1e-4) & (maps <= 1 + 1e-4)).all():  # also refuses NaN
            raise ValueError("maps must be normalised to 0..1 and hold no NaN.")
    if variant == "paper":
        a, b = (maps >= threshold for maps in (maps_a, maps_b))
        both, either = (a & b).flatten(1).sum(1).double(), (a | b).flatten(1).sum(1).double()
        return torch.where(either > 0, both / either.clamp(min=1), 1.0)
    a, b = (_as_published(maps) > round(255 * threshold, 6) for maps in (maps_a, maps_b))
    # The published images have three equal channels, so the sums of a row are three times the pixels.
    both, either = 3 * (a & b).sum(2).double(), 3 * (a | b).sum(2).double()
    return ((both + 1e-6) / (either + 1e-6)).mean(1)


def independent_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of two masks of areas a and b (shares of the image) that are independent: they meet in a b of it.

    ``a b / (a + b - a b)``: the expected intersection over the union that goes with it.

    >>> independent_iou(torch.tensor(0.5), torch.tensor(0.5))
    tensor(0.3333)
    """
    return torch.where(a + b > 0, a * b / (a + b - a * b).clamp_min(1e-12), 1.0)


def _as_published(maps: Tensor) -> Tensor:
    """The byte images that the authors' code saves and reads, as integers [B, H, W]."""
    # Rounding as OpenCV does on saving: half to even.
    stored = (maps.double() * 255).round().clamp(0, 255)
    low = stored.amin((1, 2), keepdim=True)
    high = (stored - low).amax((1, 2), keepdim=True)
    stretched = (stored - low) / high.where(high > 0, 1.0)
    return (stretched * 256).to(torch.int64) % 256

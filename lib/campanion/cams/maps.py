"""From a raw map to the image's size and the range 0..1: u(.) and s(.) of LIFT-CAM eq. 11."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from campanion.inference import wide


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """u: bilinear (align_corners=False) enlargement of maps [N, h, w] to [N, H, W]."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps.unsqueeze(1), tuple(size), mode="bilinear", align_corners=False).squeeze(1)


def min_max_map(maps: Tensor) -> tuple[Tensor, Tensor]:
    """s: each map of [N, H, W] scaled to 0..1, and whether it was constant [N], in which case it becomes zeros.

    Constant up to the rounding of enlarging; a map with NaN or infinity counts as constant.
    """
    maps = wide(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    rounding = 8 * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    good = (high - low > rounding) & low.isfinite() & high.isfinite()
    scaled = (maps - low) / (high - low).where(good, 1.0)
    return scaled.where(good, 0.0), ~good[..., 0, 0]

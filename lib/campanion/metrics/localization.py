"""Does the map lie on the object? Pointing game and energy-based pointing game."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pointing_game(maps: Tensor, boxes: Sequence[Tensor], *, tolerance: float = 0) -> Tensor:
    """Whether the highest pixel of each map falls on the object.

    ``tolerance=0`` is the plain game of FD-CAM (equation 12): the highest pixel lies in a box. ``tolerance=15`` is
    the game of Zhang et al. (excitation backprop) as TorchRay plays it: a disc of 15 pixels around the highest pixel
    touches a pixel of a box (distance between pixel centres strictly below 15). Of equally high pixels the first in
    raster order counts, so a constant map points at the top left corner.

    Args:
        maps: [B, H, W], any scale.
        boxes: B tensors [n, 4] of continuous corners x1, y1, x2, y2 in map pixels; the pixel in column x and row y
            has its centre at (x + 0.5, y + 0.5) and is in a box when its centre is, borders included. Images
            without a box are misses.
        tolerance: radius in pixels.

    Returns:
        hits, bool [B] on the maps' device. :func:`micro` and :func:`macro` average them.

    Raises:
        ValueError: for shapes that disagree, NaN, boxes whose corners are swapped or that lie outside the map, a
            negative tolerance.

    Example:
        >>> hits = pointing_game(explanation.maps["fd_cam"], boxes)
        >>> micro(hits), macro(hits, explanation.targets)
    """
    _check(maps, boxes)
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be a number of pixels, 0 or more, not {tolerance!r}.")
    height, width = maps.shape[1:]
    flat = maps.flatten(1)
    places = torch.arange(flat.shape[1], device=maps.device)
    # Not argmax: which of equal maxima it returns is left open.
    top = torch.where(flat == flat.amax(1, keepdim=True), places, flat.shape[1]).amin(1)
    row, column = top // width, top % width
    inside = box_masks(boxes, height, width, maps.device)
    if tolerance == 0:
        return inside[torch.arange(len(maps), device=maps.device), row, column]
    ys, xs = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
    squared = (ys[None, :, None] - row[:, None, None]) ** 2 + (xs[None, None, :] - column[:, None, None]) ** 2
    return (inside & (squared.double().sqrt() < tolerance)).flatten(1).any(1)


def micro(hits: Tensor) -> float:
    """Hits over hits and misses, all (image, class) pairs alike (FD-CAM, equation 12), 0..1; ValueError for none."""
    if hits.ndim != 1 or len(hits) == 0:
        raise ValueError(f"hits must be [B] with at least one pair; got {list(hits.shape)}.")
    return hits.double().mean().item()


def macro(hits: Tensor, classes: Tensor) -> float:
    """Mean over the classes that occur of each class's accuracy (TorchRay), 0..1. ``classes``: integers [B].

    Raises:
        ValueError: when hits and classes differ in length or are empty.
    """
    classes = torch.as_tensor(classes, device=hits.device)
    if hits.shape != classes.shape or hits.ndim != 1 or len(hits) == 0:
        raise ValueError(f"hits and classes must be [B] alike; got {list(hits.shape)} and {list(classes.shape)}.")
    _, index, count = classes.unique(return_inverse=True, return_counts=True)
    per_class = torch.zeros(len(count), dtype=torch.float64, device=hits.device).index_add(0, index, hits.double())
    return (per_class / count).mean().item()


def energy_pointing_game(maps: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Proportion of a map's energy that lies in the object's boxes (LIFT-CAM, equation 15; Score-CAM).

    The sum of the map over the union of the boxes, over the sum of the whole map. A map that is zero everywhere has
    no energy to place: its proportion is 0, not NaN.

    Args:
        maps: min-max normalised (or any non-negative) maps [B, H, W].
        boxes: as in :func:`pointing_game`. Images without a box have proportion 0.

    Returns:
        proportions [B] in 0..1, on the maps' device.

    Raises:
        ValueError: for shapes that disagree, NaN, negative values, boxes whose corners are swapped or that lie outside
            the map.

    Example:
        >>> energy_pointing_game(explanation.maps["lift_cam"], boxes).mean()
    """
    _check(maps, boxes)
    if maps.min() < 0:
        raise ValueError("maps must not be negative: normalise them to 0..1, or the proportion means nothing.")
    energy = maps.double()
    inside = (energy * box_masks(boxes, *maps.shape[1:], maps.device)).flatten(1).sum(1)
    total = energy.flatten(1).sum(1)
    return torch.where(total > 0, inside / total.where(total > 0, 1.0), 0.0).to(maps.dtype)


def box_masks(boxes: Sequence[Tensor], height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Union of each image's boxes as bool [B, height, width]: True where a pixel's centre lies in a box."""
    ys = torch.arange(height, dtype=torch.float64, device=device) + 0.5
    xs = torch.arange(width, dtype=torch.float64, device=device) + 0.5
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=device)
    for mask, rectangles in zip(masks, boxes, strict=True):
        left, upper, right, lower = rectangles.to(device, torch.float64).reshape(-1, 4).T[:, :, None]
        rows, columns = (ys >= upper) & (ys <= lower), (xs >= left) & (xs <= right)
        mask.copy_((rows[:, :, None] & columns[:, None, :]).any(0))
    return masks


def _check(maps: Tensor, boxes: Sequence[Tensor]) -> None:
    if not isinstance(maps, Tensor) or maps.ndim != 3 or 0 in maps.shape or not maps.is_floating_point():
        raise ValueError("maps must be a float tensor [B, H, W].")
    if not torch.isfinite(maps).all():
        raise ValueError("maps holds NaN or infinite values; clean them first.")
    if len(boxes) != len(maps):
        raise ValueError(f"boxes must hold one tensor [n, 4] for each of the {len(maps)} maps; got {len(boxes)}.")
    for i, rectangles in enumerate(boxes):
        if not isinstance(rectangles, Tensor) or (
            rectangles.numel() and (rectangles.ndim != 2 or rectangles.shape[1] != 4)
        ):
            raise ValueError(f"boxes[{i}] must be a tensor [n, 4] of x1, y1, x2, y2.")
        corners = rectangles.reshape(-1, 4)
        if not (corners[:, 2:] >= corners[:, :2]).all():  # also refuses NaN
            raise ValueError(f"boxes[{i}] has a box with x2 < x1 or y2 < y1 (or NaN); give corners x1, y1, x2, y2.")
        height, width = maps.shape[1:]
        if ((corners[:, :2] > corners.new_tensor([width, height])) | (corners[:, 2:] < 0)).any():
            raise ValueError(f"boxes[{i}] has a box outside the map ({width} x {height}): boxes are in its pixels.")

"""Maps of a frozen network, computed once and kept in files: a head is then trained on them in minutes on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from campanion.data import Dataset
from campanion.files import replacing
from campanion.paths import out_dir
from campanion.progress import track


def view_of(picture: Image.Image, view: str, seed: int) -> Image.Image:
    """One view of a picture: whole, mirrored, or a crop of half its area or more, mirrored or not, drawn from seed."""
    if view == "whole":
        return picture
    if view == "mirrored":
        return ImageOps.mirror(picture)
    generator = torch.Generator().manual_seed(seed)
    share, aspect, left, top, mirrored = torch.rand(5, generator=generator).tolist()
    share, aspect = 0.5 + 0.5 * share, (4 / 3) ** (2 * aspect - 1)
    width = min(1.0, (share * aspect) ** 0.5) * picture.width
    height = min(1.0, (share / aspect) ** 0.5) * picture.height
    x, y = left * (picture.width - width), top * (picture.height - height)
    crop = picture.crop((round(x), round(y), round(x + width), round(y + height)))
    return ImageOps.mirror(crop) if mirrored < 0.5 else crop


def features(
    trunk: nn.Module,
    data: Dataset,
    indices: Sequence[int],
    views: Sequence[str],
    device: str,
    layer: str | None = None,
    precision: str = "float32",
) -> list[np.ndarray]:
    """Maps A of a layer for each view of each picture: for each view float16 [N, K, h, w], read-only.

    One file for each view in ``out/features``, named by the trunk's weights and the pictures, so that a stopped run
    loses one view at the most.

    Args:
        trunk: with ``.preprocess``, ``.target_layer`` and ``.weights``.
        data, indices, views: the pictures, and how each is shown (:func:`view_of`).
        device: of the trunk.
        layer: a dotted name (default: the trunk's target layer).
        precision: of the forward passes, ``"float32"`` or ``"bfloat16"`` (autocast).
    """
    ids = " ".join(data.ids[i] for i in indices)
    other = "" if layer is None and precision == "float32" else f" {layer} {precision}"
    key = hashlib.sha256(f"{trunk.weights['sha256']} {data.card} {ids}{other}".encode()).hexdigest()[:16]
    folder = out_dir() / "features" / key
    maps_of = _forward(trunk, layer or trunk.target_layer, precision)
    return [_view_features(maps_of, trunk, data, indices, view, folder, device) for view in views]


def _forward(trunk: nn.Module, layer: str, precision: str) -> Callable[[Tensor], Tensor]:
    """Maps of ``layer`` from one forward pass of pictures [N, 3, H, W]."""

    def maps_of(pictures: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = trunk.get_submodule(layer).register_forward_hook(lambda _m, _i, maps: kept.append(maps))
        half = torch.autocast(pictures.device.type, torch.bfloat16, enabled=precision == "bfloat16")
        try:
            with torch.no_grad(), half:
                trunk(pictures)
        finally:
            handle.remove()
        return kept[0]

    return maps_of


def _view_features(
    maps_of: Callable[[Tensor], Tensor],
    trunk: nn.Module,
    data: Dataset,
    indices: Sequence[int],
    view: str,
    folder: Path,
    device: str,
) -> np.ndarray:
    path = folder / f"{view.replace(' ', '-')}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    rows = []
    for batch in track(batches_of(indices), f"maps of {len(indices)} pictures, {view}", unit="batch"):
        # A crop depends on the picture and the view, not on what else is trained on.
        pictures = [view_of(data[i].image, view, _seed(f"{view}:{data.ids[i]}")) for i in batch]
        rows.append(maps_of(torch.stack([trunk.preprocess(p) for p in pictures]).to(device)).half().cpu().numpy())
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, np.concatenate(rows))
    return np.load(path, mmap_mode="r")


def batches_of(values: Sequence[int], size: int = 16) -> list[Sequence[int]]:
    """``values`` in pieces of ``size``, the last one shorter."""
    return [values[i : i + size] for i in range(0, len(values), size)]


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

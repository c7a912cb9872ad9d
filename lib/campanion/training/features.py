"""Maps of a frozen network, computed once and kept in files: a head is then trained on them in minutes on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from campanion.data import Dataset
from campanion.inference import half_precision
from campanion.paths import out_dir, replacing
from campanion.progress import track


def view_of(image: Image.Image, view: str, seed: int) -> Image.Image:
    """One view of an image: whole, mirrored, or a crop of half its area or more, mirrored or not, drawn from seed."""
    if view == "whole":
        return image
    if view == "mirrored":
        return ImageOps.mirror(image)
    generator = torch.Generator().manual_seed(seed)
    share, aspect, left, top, mirrored = torch.rand(5, generator=generator).tolist()
    share, aspect = 0.5 + 0.5 * share, (4 / 3) ** (2 * aspect - 1)
    width = min(1.0, (share * aspect) ** 0.5) * image.width
    height = min(1.0, (share / aspect) ** 0.5) * image.height
    x, y = left * (image.width - width), top * (image.height - height)
    crop = image.crop((round(x), round(y), round(x + width), round(y + height)))
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
    """Maps A of a layer (default: the target layer) for each view of the images: float16 [N, K, h, w], read-only.

    One file for each view in ``out/features``, named by the trunk's weights and the images, so that a stopped run
    loses one view at the most. ``precision`` of the forward passes: ``"float32"`` or ``"bfloat16"`` (autocast).
    """
    ids = " ".join(data.ids[i] for i in indices)
    options = "" if layer is None and precision == "float32" else f" {layer} {precision}"
    key = hashlib.sha256(f"{trunk.weights['sha256']} {data.card} {ids}{options}".encode()).hexdigest()[:16]
    paths = {view: out_dir() / "features" / key / f"{view.replace(' ', '-')}.npy" for view in views}
    maps: list[np.ndarray] = []
    handle = trunk.get_submodule(layer or trunk.target_layer).register_forward_hook(
        lambda _m, _i, output: maps.append(output.half().cpu().numpy())
    )
    try:
        for view, path in paths.items():
            if path.is_file():
                continue
            maps.clear()
            for batch in track(batches_of(indices), f"maps of {len(indices)} images, {view}", unit="batch"):
                # A crop depends on the image and the view, not on what else is trained on.
                images = [view_of(data[i].image, view, _seed(f"{view}:{data.ids[i]}")) for i in batch]
                pixels = torch.stack([trunk.preprocess(image) for image in images]).to(device)
                with torch.no_grad(), half_precision(pixels.device.type, precision == "bfloat16") as cast:
                    trunk(cast(pixels))
            with replacing(path) as part, part.open("wb") as file:
                np.save(file, np.concatenate(maps))
    finally:
        handle.remove()
    return [np.load(path, mmap_mode="r") for path in paths.values()]


def batches_of(values: Sequence[int], size: int = 16) -> list[Sequence[int]]:
    """``values`` in pieces of ``size``, the last one shorter."""
    return [values[i : i + size] for i in range(0, len(values), size)]


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

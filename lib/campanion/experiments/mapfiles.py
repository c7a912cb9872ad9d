"""Maps in files: all test images' maps of a network as safetensors, a few maps as bytes in a table's rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from campanion.cams.maps import min_max_map, upsample
from campanion.errors import MissingData
from campanion.metrics import stability_iou
from campanion.paths import write_whole

LARGEST = 112  # side in pixels of a map kept in a row: more than a small image in a figure can show


def save_maps(maps: Tensor, ids: Sequence[str], about: dict[str, object], path: str | Path) -> None:
    """Write maps [N, H, W] with the ids of their images, and what made them, as one ``.safetensors`` file."""
    header = json.dumps({"ids": list(ids), **about})
    write_whole(Path(path), save({"maps": maps.contiguous()}, metadata={"about": header}))


def read_maps(path: str | Path) -> tuple[Tensor, dict[str, object]]:
    """Maps [N, H, W] and the header, with ``ids``, that :func:`save_maps` wrote."""
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"There is no {path}: `python -m campanion trained maps CKPT --out {path}` writes it.")
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("maps"), json.loads(file.metadata()["about"])
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"{path} is not a file of maps: {problem}.") from problem


def iou_of(a: str | Path, b: str | Path, threshold: float = 127, variant: str = "paper") -> Tensor:
    """IoU [N] of the maps of two files of :func:`save_maps`, images matched by their id; ``threshold`` is of 0..255,
    ``variant`` that of :func:`campanion.metrics.stability_iou`.
    """
    (maps_a, about_a), (maps_b, about_b) = read_maps(a), read_maps(b)
    place = {name: i for i, name in enumerate(about_b["ids"])}
    if set(place) != set(about_a["ids"]):
        raise ValueError(f"{a} and {b} hold maps of different images: make both with the same data and limit.")
    matched = maps_b[[place[name] for name in about_a["ids"]]]
    return stability_iou(maps_a, matched, threshold=threshold / 255, variant=variant)


def stacked(rows: pd.DataFrame, size: tuple[int, int] = (224, 224)) -> dict[str, Tensor]:
    """The maps of rows, by method: [B, H, W] of ``size`` in 0..1 as :func:`campanion.explain` makes them, in the order
    of the rows. A map as large as the image was kept at :data:`LARGEST` pixels a side.
    """
    return {
        method: torch.cat([unpacked(row, size) for row in part.itertuples()])
        for method, part in rows.groupby("method", sort=False)
    }


def unpacked(row: object, size: tuple[int, int] = (224, 224)) -> Tensor:
    """The map [1, H, W] in 0..1 of one row (attributes height, width, pixels)."""
    raw = torch.tensor(np.frombuffer(row.pixels, dtype="<f2").astype(np.float32)).reshape(1, row.height, row.width)
    return min_max_map(upsample(raw, size))[0]


def packed(raw: Tensor) -> dict[str, object]:
    """Height, width and float16 bytes of a raw map [h, w], for :func:`unpacked`; divided by its largest magnitude,
    which the normalisation loses anyway.
    """
    if max(raw.shape) > LARGEST:
        raw = F.adaptive_avg_pool2d(raw[None, None], LARGEST)[0, 0]
    largest = raw.abs().max()
    scaled = raw / largest if largest > 0 else raw
    return {"height": raw.shape[0], "width": raw.shape[1], "pixels": scaled.cpu().numpy().astype("<f2").tobytes()}

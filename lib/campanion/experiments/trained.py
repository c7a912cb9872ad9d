"""Use trained checkpoints: their accuracy, their maps of all test pictures, and whether two of them look alike.

====================================================  ============================================
``python -m campanion trained accuracy CKPT``         top-1 on the test images
``python -m campanion trained maps CKPT --out FILE``  maps of all test images, ``.safetensors``
``python -m campanion trained iou FILE_A FILE_B``     IoU of two such files, image by image
====================================================  ============================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from campanion.cams import explain
from campanion.errors import MissingData
from campanion.files import write_whole
from campanion.metrics import stability_iou
from campanion.models.trained import load_trained, read_card
from campanion.progress import track
from campanion.training.batches import Draw, normalise
from campanion.training.parts import evaluate, open_part
from campanion.training.settings import Config, config_of_card

LEARNED = {"lfi": "lfi_cam", "abn": "abn"}


def config_of(path: str | Path, limit: int | None = None) -> Config:
    """Settings that open the test pictures of a checkpoint; ``limit`` takes so many in the set's fixed order.

    Raises:
        MissingData: there is no such checkpoint.
    """
    return config_of_card(read_card(path)["settings"], limit_test=limit)


def accuracy(path: str | Path, limit: int | None = None, device: str = "cpu") -> dict[str, float]:
    """``top1``, ``loss`` and ``n`` of a checkpoint on the test pictures of the set that it was trained on.

    Example:
        >>> accuracy("data/checkpoints/imagenette_vgg.safetensors")["top1"]
    """
    config = config_of(path, limit)
    network = load_trained(path, device)
    return evaluate(network, open_part(config, "test", device))


def maps_of(
    path: str | Path, method: str | None = None, limit: int | None = None, batch: int = 50, device: str = "cpu"
) -> tuple[Tensor, list[str], str]:
    """The map of each test picture in 0..1, [N, H, W], for the predicted class; the pictures' labels; the method.

    Args:
        path: of the checkpoint.
        method: of :data:`campanion.METHODS`; None: the network's own learned map.
        limit: so many pictures in the set's fixed order.
        batch: pictures at a time.
        device: where the network runs.

    Raises:
        ValueError: no method named for a network without an attention branch.
    """
    config = config_of(path, limit)
    method = method or LEARNED.get(config.attention)
    if method is None:
        raise ValueError(f"{config.network} learns no map of its own: name a method, such as method='grad_cam'.")
    network: nn.Module = load_trained(path, device)
    part = open_part(config, "test", device)
    preprocess = network.preprocess
    draws = [Draw(indices) for indices in torch.arange(len(part.labels)).split(batch)]
    found = [
        explain(network, normalise(pixels.to(device), preprocess.mean, preprocess.std), methods=(method,)).maps[method]
        for pixels in track(part.pictures.batches(draws), f"maps of {method}", total=len(draws), unit="batch")
    ]
    return torch.cat(found).cpu().float(), list(part.ids), method


def save_maps(maps: Tensor, ids: Sequence[str], about: dict[str, object], path: str | Path) -> None:
    """Write maps [N, H, W] with the ids of their pictures, and what made them, as one ``.safetensors`` file."""
    header = json.dumps({"ids": list(ids), **about})
    write_whole(Path(path), save({"maps": maps.contiguous()}, metadata={"about": header}))


def read_maps(path: str | Path) -> tuple[Tensor, dict[str, object]]:
    """Maps [N, H, W] and the header, with ``ids``, that :func:`save_maps` wrote.

    Raises:
        MissingData: there is no such file.
        ValueError: it is not such a file; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"There is no {path}: `python -m campanion trained maps CKPT --out {path}` writes it.")
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("maps"), json.loads(file.metadata()["about"])
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"{path} is not a file of maps: {problem}.") from problem


def iou_of(a: str | Path, b: str | Path, threshold: float = 127, variant: str = "paper") -> Tensor:
    """IoU [N] of the maps of two files, pictures matched by their id.

    Args:
        a, b: files of :func:`save_maps`, of the same pictures in any order.
        threshold: of 0..255, as the paper counts.
        variant: of :func:`campanion.metrics.stability_iou`.

    Raises:
        ValueError: the files are of different pictures.
    """
    (maps_a, about_a), (maps_b, about_b) = read_maps(a), read_maps(b)
    place = {name: i for i, name in enumerate(about_b["ids"])}
    if set(place) != set(about_a["ids"]):
        raise ValueError(f"{a} and {b} hold maps of different pictures: make both with the same data and limit.")
    return stability_iou(
        maps_a, maps_b[[place[name] for name in about_a["ids"]]], threshold=threshold / 255, variant=variant
    )

"""ImageNet weights: torchvision's, checked and kept in ``weights/NAME.safetensors`` of the data folder."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from campanion.data.download import DownloadError, download
from campanion.data.entries import Entry, Layout
from campanion.paths import replacing, sha256

PREFIX = "weights/"
LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"
# The networks of the three papers and of this project's tables; every other one of torchvision's can be fetched too.
NETWORKS = (
    "vgg16", "alexnet", "resnet18", "resnet50", "resnext50_32x4d", "squeezenet1_1", "densenet121", "mobilenet_v2",
)  # fmt: skip


def entry(name: str) -> Entry | None:
    """Registry entry of ``weights/NAME``, or None when torchvision has no ImageNet classifier of that name."""
    network = name.removeprefix(PREFIX)
    if network == name or network not in models.list_models(module=models) or _weights(network) is None:
        return None
    return Entry(
        title=f"{network}, torchvision's ImageNet weights (IMAGENET1K_V1)",
        licence=LICENCE,
        size=f"{_weights(network).meta['_file_size']:.0f} MB",
        layouts=(Layout(f"{name}.safetensors"), Layout(f"{name}.npz")),
    )


def _weights(network: str) -> models.WeightsEnum | None:
    # The first weights, as in the papers; torchvision's DEFAULT is a later training recipe for some networks.
    return getattr(models.get_model_weights(network), "IMAGENET1K_V1", None)


def source(network: str) -> tuple[str, str]:
    """Address of torchvision's file, and the first digits of its SHA-256, which are part of the file's name."""
    url = _weights(network).url
    return url, re.search(r"-([0-9a-f]{8,})\.pth$", url).group(1)


def fetch_weights(name: str, root: Path) -> Path:
    """Download ``weights/NAME`` and keep it as safetensors; the downloaded file is read as tensors only, then deleted.

    DownloadError: the download failed, or the file is damaged, holds more than tensors, or another network's.
    """
    network = name.removeprefix(PREFIX)
    target = root / f"{name}.safetensors"
    if target.is_file():
        return target
    url, digits = source(network)
    # Unpickling, checking and writing need the same space again.
    pickled = download(url, target.with_suffix(".pth"), f"sha256:{digits}", room=2.1)
    metadata = {"source": url, "sha256": sha256(pickled), "weights": "IMAGENET1K_V1", "licence": LICENCE}
    try:
        state = torch.load(pickled, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as problem:
        raise DownloadError(f"{pickled} is no file of weights, or holds more than tensors: delete it.") from problem
    with replacing(target) as unfinished:
        save_file(checked_state(network, state), unfinished, metadata)
    pickled.unlink()
    return target


def checked_state(network: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that the network of this torchvision takes, checked for names and shapes without building it."""
    # DenseNet's file has names from before torch forbade dots in them: norm.1 is now norm1.
    renamed = {re.sub(r"\.(norm|relu|conv)\.([12])\.", r".\1\2.", key): value for key, value in state.items()}
    with torch.device("meta"):
        model = models.get_model(network, weights=None)
    try:
        model.load_state_dict(renamed, strict=True, assign=True)
    except RuntimeError as problem:
        raise DownloadError(f"The downloaded file does not hold the weights of {network}: {problem}") from problem
    return {key: value.contiguous() for key, value in model.state_dict().items()}


ENTRIES: dict[str, Entry] = {PREFIX + network: entry(PREFIX + network) for network in NETWORKS}

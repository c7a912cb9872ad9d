"""The images of a training run, and the accuracy of a network on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campanion import paths
from campanion.data import Dataset, open_dataset
from campanion.data.classification import open_folder
from campanion.inference import eval_mode, half_precision
from campanion.training.batches import Draw, MemoryImages, StreamedImages, normalise
from campanion.training.settings import Config

if TYPE_CHECKING:
    from accelerate import Accelerator  # takes seconds to import

MEMORY = 8e9  # bytes of images that are kept without being asked
SCENES = {"train": 5000, "test": 1000}


@dataclass(frozen=True)
class Part:
    """Training or test images with their labels [N], as a run uses them."""

    images: MemoryImages | StreamedImages
    labels: Tensor
    ids: tuple[str, ...]
    card: str
    class_names: tuple[str, ...]


def open_part(config: Config, split: str, device: str | torch.device = "cpu") -> Part:
    """The images of ``split`` (``"train"`` or ``"test"``) that ``config`` asks for."""
    limit = config.limit if split == "train" else config.limit_test
    source = split if config.held_out is None else "train"
    data: Dataset
    if config.folder_of_classes is not None:
        data = open_folder(paths.data_dir(), config.folder_of_classes, source)
    elif config.data == "scenes":
        data = open_dataset(
            "scenes", split=source, n=(limit if config.held_out is None else None) or SCENES[source], size=config.pixels
        )
    else:
        data = open_dataset(config.data, split=source)
    indices = list(range(len(data)))
    if config.held_out is not None:
        count = round(len(data) * (1 - config.held_out))
        indices = data.order()[:count] if split == "train" else data.order()[count:]
    if limit and limit < len(indices):
        indices = indices[:limit] if config.held_out is not None else data.order()[:limit]
    memory = config.memory
    if memory is None:
        memory = len(indices) * config.pixels**2 * 3 <= MEMORY
    kind = MemoryImages if memory else StreamedImages
    images = kind(data, config.pixels, indices, device, config.threads)
    labels = torch.tensor([data.labels[i] for i in indices])
    used = "" if len(indices) == len(data) else f", {len(indices):,} of them"
    ids = tuple(data.ids[i] for i in indices)
    return Part(images, labels, ids, f"{data.card.rstrip('.')}{used}", tuple(data.class_names))


@torch.no_grad()
def evaluate(
    network: nn.Module, part: Part, batch: int = 250, accelerator: Accelerator | None = None, precision: str = "fp32"
) -> dict:
    """Top-1 accuracy (``top1``, 0..1), cross-entropy (``loss``) and number (``n``) of a network in eval mode.

    ``batch`` images at a time in one process; ``accelerator`` shares the images out (None: this process alone).

    >>> evaluate(load_trained(path), open_part(config, "test"))["top1"]
    """
    device = next(network.parameters()).device
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    shares = torch.arange(len(part.labels)).tensor_split(processes)[rank].split(batch)
    batches = [share for share in shares if len(share)]
    sums = torch.zeros(3, device=device)
    with eval_mode(network), half_precision(device.type, precision == "bf16") as cast:
        for indices, pixels in zip(batches, part.images.batches(map(Draw, batches)), strict=True):
            images = normalise(pixels.to(device), network.preprocess.mean, network.preprocess.std)
            logits, targets = network(cast(images)).float(), part.labels[indices].to(device)
            loss, right = F.cross_entropy(logits, targets, reduction="sum"), (logits.argmax(1) == targets).sum()
            sums += torch.stack([loss, right, right.new_tensor(len(images))])
    loss, right, count = (accelerator.reduce(sums, "sum") if accelerator else sums).tolist()
    return {"top1": right / count, "loss": loss / count, "n": int(count)}

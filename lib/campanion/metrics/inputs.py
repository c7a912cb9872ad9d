"""What the faithfulness metrics share: checks made before any forward, and the score of a class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from campanion.errors import unknown

Model = nn.Module | Callable[[Tensor], Tensor]

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "logit": lambda logits: logits,
}


def check(images: Tensor, maps: Tensor, targets: Tensor, score: str, batch_size: int | None) -> tuple[Tensor, Tensor]:
    """Maps as [B, M, H, W] and targets as int64 [B], both on the images' device; ValueError for anything unfit."""
    if score not in SCORES:
        raise ValueError(unknown("score", score, SCORES))
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and batch_size >= 1):
        raise ValueError(f"batch_size must be a positive whole number, not {batch_size!r}.")
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be a float tensor [B, 3, H, W] of preprocessed pictures; got {_what(images)}.")
    count, height, width = len(images), *images.shape[-2:]
    if count == 0:
        raise ValueError("images is empty: give at least one picture.")
    if (
        not isinstance(maps, Tensor)
        or maps.ndim not in (3, 4)
        or len(maps) != count
        or maps.shape[-2:] != images.shape[-2:]
        or 0 in maps.shape
    ):
        raise ValueError(
            f"maps must be [{count}, {height}, {width}] or [{count}, M, {height}, {width}] to go with these images "
            f"(upsample a layer's map to the input size first); got {_what(maps)}."
        )
    targets = torch.as_tensor(targets)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"targets must be whole class numbers; got {_what(targets)}.")
    if targets.shape != (count,):
        raise ValueError(f"targets must be [{count}], one class for each image; got {_what(targets)}.")
    if int(targets.min()) < 0:
        raise ValueError(f"targets holds the class {int(targets.min())}; classes are counted from 0.")
    for name, tensor in (("images", images), ("maps", maps)):
        if not torch.isfinite(tensor).all():
            where = (~torch.isfinite(tensor)).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"{name} holds NaN or infinite values (in batch rows {where[:8]}); clean them first.")
    maps = maps.unsqueeze(1) if maps.ndim == 3 else maps
    return maps.to(images.device), targets.to(images.device, torch.int64)


class Scorer:
    """Scores [N] of classes for batches of pictures, on the inference copy of ``model``."""

    def __init__(self, model: Model, targets: Tensor, score: str) -> None:
        from campanion.inference import fast

        self.network = fast(model)
        self.score = SCORES[score]
        self.largest = int(targets.max())

    def __call__(self, batch: Tensor, targets: Tensor) -> Tensor:
        logits = self.network(batch.contiguous(memory_format=torch.channels_last))
        if logits.ndim != 2 or len(logits) != len(batch):
            raise ValueError(f"The model must return logits [{len(batch)}, C]; it returned {_what(logits)}.")
        if self.largest >= logits.shape[1]:
            raise ValueError(f"targets holds the class {self.largest}, but the model has {logits.shape[1]} classes.")
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return self.score(logits).gather(1, targets[:, None]).squeeze(1)


def _what(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

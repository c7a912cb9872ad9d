"""What the faithfulness metrics share: checks made before any forward, and the score of a class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from campanion.errors import unknown
from campanion.inference import Reader, fast, wide
from campanion.outputs import Activation, Outputs, Target, class_indices, is_class, unwrap

Model = nn.Module | Callable[[Tensor], Tensor]

SCORES = ("probability", "softmax", "sigmoid", "logit")


def check(images: Tensor, maps: Tensor, targets: Target, batch_size: int | None) -> tuple[Tensor, Tensor]:
    """Maps as [B, M, H, W] and classes as int64 [B], both on the images' device; ValueError for anything unfit.

    The class is 0 where ``targets`` is a sign or a function.
    """
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and batch_size >= 1):
        raise ValueError(f"batch_size must be a positive whole number, not {batch_size!r}.")
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be a float tensor [B, 3, H, W] of preprocessed images; got {_what(images)}.")
    count, height, width = len(images), *images.shape[-2:]
    if count == 0:
        raise ValueError("images is empty: give at least one image.")
    shaped = isinstance(maps, Tensor) and maps.ndim in (3, 4) and 0 not in maps.shape
    if not shaped or len(maps) != count or maps.shape[-2:] != images.shape[-2:]:
        raise ValueError(
            f"maps must be [{count}, {height}, {width}] or [{count}, M, {height}, {width}] to go with these images "
            f"(upsample a layer's map to the input size first); got {_what(maps)}."
        )
    if not is_class(targets):
        targets = [0] * count
    elif isinstance(targets, (list, tuple)) and not all(map(is_class, targets)):
        raise ValueError("Metrics take one sign or function for all images: call them once for each.")
    targets = class_indices(targets, count, None, images.device)
    for name, tensor in (("images", images), ("maps", maps)):
        if not torch.isfinite(tensor).all():
            where = (~torch.isfinite(tensor)).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"{name} holds NaN or infinite values (in batch rows {where[:8]}); clean them first.")
    maps = maps.unsqueeze(1) if maps.ndim == 3 else maps
    return maps.to(images.device), targets


class Scorer:
    """Scores [N] of a target for batches of images, on the inference copy of ``model``; ``score`` None: probability."""

    def __init__(self, model: Model, target: Target, activation: Activation | None, score: str | None) -> None:
        if score is not None and score not in SCORES:
            raise ValueError(unknown("score", score, SCORES))
        if score in ("softmax", "sigmoid"):
            if activation not in (None, score):
                raise ValueError(f"score={score!r} and activation={activation!r:.80} differ: pass one of them.")
            activation = score
        self.outputs = Outputs.of(model, None if is_class(target) else target, activation)
        self.read = Reader(fast(unwrap(model)[0] if isinstance(model, nn.Module) else model), self.outputs)
        self.logit = score == "logit"

    def __call__(self, batch: Tensor, targets: Tensor) -> Tensor:
        logits = self.read(batch.contiguous(memory_format=torch.channels_last))
        if (highest := int(targets.max())) >= logits.shape[1]:
            raise ValueError(f"targets holds the class {highest}, but the model has {logits.shape[1]} classes.")
        scores = wide(logits if self.logit else self.outputs.probabilities(logits))
        return scores.gather(1, targets[:, None]).squeeze(1)

    def in_blocks(self, classes: Tensor, count: int, size: int, make: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Scores [B, count] of ``count`` inputs of each image, ``size`` inputs at a time.

        ``make`` returns the inputs [N, 3, H, W] of images [N] and of their places [N] in 0..count.
        """
        jobs = torch.arange(len(classes) * count, device=classes.device).split(size)
        return torch.cat([self(make(job // count, job % count), classes[job // count]) for job in jobs]).view(-1, count)


def _what(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

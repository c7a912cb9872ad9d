"""dF/dA: the network's own gradient, from the graph of its one pass; from the head where that pass kept none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from campanion.game.heads import Head
from campanion.game.split import Pass, Split


def slope(parts: Split, played: Pass, believed: Callable[[], Head], target: Tensor) -> Tensor:
    """dF^c/dA [B, K, h, w] for classes ``target`` [B]; ``believed`` gives the head. float32 for half precision.

    Raises:
        ValueError: what follows the layer has no gradient.
    """
    by_class = getattr(played.head, "kind", None) == "pixel" and not played.changes_gradient  # one class, not all
    if played.graph is not None and not (by_class and believed().kind == "pixel"):
        chosen = played.graph.gather(1, target.unsqueeze(1)).sum()
        with suppress(RuntimeError):  # changes in place that its graph does not survive
            return _wide(torch.autograd.grad(chosen, played.start, retain_graph=True)[0])
    head = believed()
    with torch.enable_grad():
        activations = played.activations.detach().clone().requires_grad_(True)
        # A clone, since a head may change its input in place, which autograd forbids for the leaf itself.
        given = activations.clone()
        try:
            pixel = head.kind == "pixel"
            chosen = head.logit(given, target) if pixel else head(given).gather(1, target.unsqueeze(1))
            return _wide(torch.autograd.grad(chosen.sum(), activations)[0])
        except RuntimeError as error:
            raise ValueError(f"What follows {parts.name!r} has no gradient: {error}") from error


def _wide(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.dtype.itemsize < 4 else gradient

"""Sanity checks of Adebayo et al. (NeurIPS 2018): does a map depend on what the network has learned?

The weights of layers are re-initialised, from the output down (cascading) or one layer alone (independent), and the map
is compared with the trained network's. A method whose maps stay as they were shows the image and not the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from campanion.errors import one_of
from campanion.inference import shared_copy

ORDERS = ("cascading", "independent")


def learned_layers(model: nn.Module) -> list[str]:
    """Names of the convolutions and linear layers that ``model`` owns, from its output down to its input."""
    # The reverse of the order in which the modules are registered, as in captum's and Quantus' tests.
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)][::-1]


def randomised(model: nn.Module, order: str = "cascading", seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of ``model`` with re-initialised weights: the name of the layer reached, and the copy.

    A copy is frozen, in eval mode, and shares with ``model`` every tensor that was not drawn: do not write to it.
    Weights and biases are drawn as the layer's own ``reset_parameters`` does. Batch norms keep what they have learned.
    The weights drawn for a layer are the same in both orders.

    Args:
        model: any CNN; it is not changed.
        order: ``"cascading"``: all layers from the output down to the named one; ``"independent"``: that layer alone.
        seed: of the weights.

    Raises:
        ValueError: unknown order; a network without a convolution or linear layer, or one that cannot be copied; a
            weight that a norm or parametrization computes, which would undo the drawing.

    Example:
        >>> for layer, network in randomised(model):
        ...     maps = explain(network, images, targets, "grad_cam").maps["grad_cam"]
    """
    one_of("order", order, ORDERS)
    names = learned_layers(model)
    if not names:
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer to randomise.")
    if computed := [name for name in names if "weight" not in dict(model.get_submodule(name).named_parameters())]:
        raise ValueError(f"The weight of {computed[-1]} is computed by a norm or parametrization: remove that first.")
    changed = model
    for i, name in enumerate(names):
        changed = shared_copy(changed if order == "cascading" else model)
        if changed is None:
            raise ValueError(
                "A module of this network is TorchScript, has a forward of its own (patched in), or holds modules in a "
                "list or hook, so that no copy computes the same: randomise a network without that."
            )
        layer = changed.get_submodule(name)
        _own(layer)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed + i)
            layer.reset_parameters()
        yield name, changed


def _own(layer: nn.Module) -> None:
    """Give ``layer`` tensors of its own in place of those that it shares."""
    for part in layer.modules():
        own = {"recurse": False, "remove_duplicate": False}
        for name, value in [*part.named_parameters(**own), *part.named_buffers(**own)]:
            copy, parameter = value.detach().clone(), isinstance(value, nn.Parameter)
            setattr(part, name, nn.Parameter(copy, requires_grad=False) if parameter else copy)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of maps [B, h, w] with maps [B, h, w], in -1..1; 0 where one of the two is constant.

    Raises:
        ValueError: for shapes that disagree.
    """
    _check(a, b)
    correlations = []
    for x, y in zip(a.flatten(1).cpu().double(), b.flatten(1).cpu().double(), strict=True):
        constant = x.max() == x.min() or y.max() == y.min()
        correlations.append(0.0 if constant else float(spearmanr(x.numpy(), y.numpy()).statistic))
    return torch.tensor(correlations, dtype=torch.float64)


def structure(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004, 7 x 7 windows) of maps [B, H, W] in 0..1 with maps [B, H, W].

    Raises:
        ValueError: for shapes that disagree, or maps of fewer than 7 x 7 pixels.
    """
    _check(a, b)
    if min(a.shape[1:]) < 7:
        raise ValueError(f"SSIM compares windows of 7 x 7 pixels; the maps have {a.shape[1]} x {a.shape[2]}.")
    pairs = zip(a.cpu().double().numpy(), b.cpu().double().numpy(), strict=True)
    return torch.tensor(np.array([structural_similarity(x, y, data_range=1.0) for x, y in pairs]))


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(f"Both must be maps [B, H, W] of one size; got {list(a.shape)} and {list(b.shape)}.")

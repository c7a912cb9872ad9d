"""An inference copy of a network: the same function, fewer passes over memory.

Insertion, deletion, Score-CAM, Group-CAM and RISE need hundreds of forward passes an image. They run on a copy whose
batch norms are folded into the convolutions before them and whose weights lie in ``channels_last`` order; its outputs
equal the network's to rounding (float32: about 1e-5 of the largest logit).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class FastNetwork(nn.Module):
    """A frozen inference copy of ``model``; made by :func:`fast`. Takes and returns tensors of the model's dtype."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = model
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, C] of preprocessed images [N, 3, H, W]."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            if self.precision == "bfloat16":
                with torch.autocast(images.device.type, dtype=torch.bfloat16):
                    return self.network(images).to(images.dtype)
            return self.network(images)


def fast(model: nn.Module | Callable[[Tensor], Tensor], precision: str = "float32") -> Callable[[Tensor], Tensor]:
    """Inference copy of ``model`` (eval mode, batch norm folded, channels_last); the model itself is not touched.

    Args:
        model: any CNN. A :class:`FastNetwork` or a plain function is returned as it is.
        precision: ``"float32"``, or ``"bfloat16"`` (autocast; up to 2x faster where the processor has it, but other
            numbers: it belongs in a result's provenance).

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision must be one of {sorted(_DTYPES)}, not {precision!r}.")
    if isinstance(model, FastNetwork) or not isinstance(model, nn.Module):
        return model
    network = copy.deepcopy(model).eval().requires_grad_(False)
    return FastNetwork(_fold(network).to(memory_format=torch.channels_last), precision).eval()


def _fold(network: nn.Module) -> nn.Module:
    """Fold each eval-mode BatchNorm2d into the convolution that alone feeds it, wherever torch.fx can follow."""
    try:
        graph = fx.symbolic_trace(network)
    except Exception:  # data-dependent control flow: keep the plain copy, which is merely slower
        return network
    modules = dict(graph.named_modules())
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(modules.get(node.target), nn.BatchNorm2d):
            continue
        source = node.args[0] if node.args else None
        conv = modules.get(source.target) if isinstance(source, fx.Node) and source.op == "call_module" else None
        # A module called twice, or a convolution read by others too, must stay as it is.
        if not isinstance(conv, nn.Conv2d) or len(source.users) > 1 or calls[source.target] > 1 or calls[node.target] > 1:
            continue
        norm = modules[node.target]
        if norm.running_mean is None:
            continue
        parent, _, name = source.target.rpartition(".")
        fused = fuse_conv_bn_eval(conv, norm)
        setattr(graph.get_submodule(parent), name, fused)
        modules[source.target] = fused
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()
    return graph


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; every submodule's own train/eval flag is restored afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in flags:
            module.training = training

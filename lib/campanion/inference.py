"""An inference copy of a network: the same function, fewer passes over memory.

Insertion, deletion, Score-CAM, Group-CAM and RISE need hundreds of forward passes an image. They run on a copy whose
batch norms are folded into the convolutions before them and whose weights lie in ``channels_last`` order, wherever
torch.fx can follow; its outputs equal the network's to rounding (float32: about 1e-5 of the largest logit).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from campanion.outputs import eager

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Tracer(fx.Tracer):
    """torch.fx's tracer, but blind to hooks: a user's recorder must not see its proxies."""

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> object:
        """Go through ``m.forward`` itself."""
        return super().call_module(m, m.forward, args, kwargs)


class FastNetwork(nn.Module):
    """A frozen inference copy of ``model``; made by :func:`fast`. Takes and returns tensors of the model's dtype."""

    def __init__(self, model: nn.Module, precision: str, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = model
        self.precision = precision
        self.layout = layout

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, C] of preprocessed images [N, 3, H, W]."""
        images = images.contiguous(memory_format=self.layout)
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
    try:
        graph = Tracer().trace(network)
    except Exception:  # data-dependent control flow: the plain copy is merely slower
        return FastNetwork(network, precision, torch.contiguous_format).eval()
    _fold(network, graph)
    # x.view() refuses most tensors whose channels come last.
    views = any(node.op == "call_method" and node.target == "view" for node in graph.nodes)
    layout = torch.contiguous_format if views else torch.channels_last
    return FastNetwork(network.to(memory_format=layout), precision, layout).eval()


def _fold(network: nn.Module, graph: fx.Graph) -> None:
    """Fold each eval-mode BatchNorm2d of ``network`` into the convolution that alone feeds it.

    The graph only finds the pairs. What runs is the network's own forward, in-place changes and all.
    """
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        conv, norm = modules[source.target], modules[node.target]
        # A module called twice, a convolution read by others too, or one with hooks must stay as it is.
        if (
            type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None
            or len(source.users) > 1 or calls[source.target] > 1 or calls[node.target] > 1
            or any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))
        ):  # fmt: skip
            continue
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        for parent in network.modules():
            for name, child in parent._modules.items():
                if child is norm:
                    parent._modules[name] = nn.Identity()


def pictures_at_once(device: torch.device) -> int:
    """Pictures of one forward pass that suit ``device``: few on a CPU, whose caches hold the activations of few."""
    return 16 if device.type == "cpu" else 64


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode; every submodule's own train/eval flag is restored afterwards."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        with eager(model):
            yield model
    finally:
        for module in training:
            module.training = True

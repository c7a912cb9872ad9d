"""Run any network: in eval mode, in blocks of bounded memory, and as an inference copy that reads memory less often.

Insertion, deletion, Score-CAM, Group-CAM and RISE need hundreds of forward passes an image. They run on a copy of the
modules that shares the network's tensors, but for convolutions: those have the batch norms after them folded in, and
their weights in ``channels_last`` order. Its outputs equal the network's to rounding (float32: about 1e-5 of the
largest logit), which is compared before it is used.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from campanion.inference.evaluation import ABOUT_SHAPE, eval_mode
from campanion.outputs import Outputs

HOOKED = " Its code calls register_hook, which fails without gradients: remove that, or do so only if x.requires_grad."


class FastNetwork(nn.Module):
    """A frozen inference copy of ``model``; made by :func:`fast`. Takes and returns tensors of the model's dtype.

    The first image shows which batch norm follows which convolution; its logits are compared once these are folded.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.precision, self.layout = precision, torch.contiguous_format
        self._model, self._lock = (model,), threading.Lock()  # a tuple: no submodule, whose weights would be its own
        copied = shared_copy(model)
        self.network = model if copied is None else copied
        self._may_fold = copied is not None
        self.training = False  # not eval(), which would reach the model itself where it is not copied

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, C] of preprocessed images [N, 3, H, W]."""
        if self._may_fold and len(images) > 0:
            with self._lock:
                if self._may_fold:  # another thread may have come first
                    with (pairs := _Pairs(self.network)):
                        logits = self._run(images[:1])
                    if isinstance(logits, Tensor) and logits.is_floating_point():  # else: nothing to compare
                        self._fold(pairs.alone(), images[:1], logits)
                    self._may_fold = False
        return self._run(images)

    @torch.no_grad()
    def _run(self, images: Tensor) -> Tensor:
        images = images.clone(memory_format=self.layout)  # which it may change in place
        with eval_mode(self._model[0]):
            if self.precision != "bfloat16":
                return self.network(images)
            with half_precision(images.device.type) as cast:
                return self.network(cast(images)).to(images.dtype)

    @torch.no_grad()
    def _fold(self, pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]], image: Tensor, expected: Tensor) -> None:
        """Fold ``pairs``, weights to channels_last; not where ``image`` then has other logits than ``expected``."""
        plain, size = self.network, expected.abs().max()
        rounding = 64 * torch.finfo(expected.dtype).eps * size
        tolerance = 0.1 * size if self.precision == "bfloat16" else rounding + 1e-4 * size
        for layout in (torch.channels_last, torch.contiguous_format):
            self.network, self.layout = shared_copy(plain, twins := {}), layout
            for conv, norm in pairs:
                _fold_pair(self.network, twins[conv], twins[norm])
            for module in self.network.modules():
                if type(module) is nn.Conv2d and not (module._forward_pre_hooks or module._forward_hooks):
                    module.weight = nn.Parameter(module.weight.contiguous(memory_format=layout), requires_grad=False)
            with suppress(RuntimeError):  # x.view() refuses most tensors whose channels come last
                if bool(((self._run(image) - expected).abs() <= tolerance).all()):
                    return
        self.network, self.layout = plain, torch.contiguous_format


@contextmanager
def half_precision(device: str, wanted: bool = True) -> Iterator[Callable[[Tensor], Tensor]]:
    """bfloat16 forward passes on a device: autocast, and on a CPU without bfloat16 float32 numbers rounded to it.

    Sums are in float32 on either, gradients are rounded in the same places; such a CPU took 15 to 18 times as long for
    bfloat16 (ResNet-50, VGG16). Yields a function for the network's input to pass through.
    """
    if wanted and device == "cpu" and not _knows_bfloat16():
        with _Rounding():
            yield _rounded
    else:
        with torch.autocast(device, torch.bfloat16, enabled=wanted):
            yield lambda images: images


class _Rounding(TorchFunctionMode):
    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Round weights, and what sums and products return; the other operations of a CNN choose among values."""
        name = getattr(function, "__name__", "").strip("_")
        if name in ("conv2d", "linear"):
            args = args[:1] + tuple(_rounded(a) if isinstance(a, Tensor) else a for a in args[1:])
        output = function(*args, **(kwargs or {}))
        return _rounded(output) if name in _SUMS and isinstance(output, Tensor) else output


_SUMS = {
    "conv2d", "linear", "matmul", "bmm", "add", "iadd", "mul", "mean", "avg_pool2d", "adaptive_avg_pool2d",
    "batch_norm", "layer_norm", "sigmoid", "silu", "gelu", "hardswish",
}  # fmt: skip


def _rounded(values: Tensor) -> Tensor:
    return values.bfloat16().float() if values.dtype == torch.float32 else values


def _knows_bfloat16() -> bool:
    """Whether this processor has bfloat16, by instructions of its own or by AVX-512."""
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)())


def fast(model: nn.Module | Callable[[Tensor], Tensor], precision: str = "float32") -> Callable[[Tensor], Tensor]:
    """Inference copy of ``model`` (eval mode, batch norm folded, channels_last); the model itself is not touched.

    Args:
        model: any CNN. A :class:`FastNetwork` or a plain function is returned as it is.
        precision: ``"float32"``, or ``"bfloat16"`` (autocast; up to 2x faster where the processor has it, but other
            numbers: it belongs in a result's provenance). A CPU without bfloat16 rounds float32 numbers to it.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in ("bfloat16", "float32"):
        raise ValueError(f"precision must be one of ['bfloat16', 'float32'], not {precision!r}.")
    if isinstance(model, FastNetwork) or not isinstance(model, nn.Module):
        return model
    return FastNetwork(model, precision)


class Reader:
    """Logits [N, C] of images by ``network``, read by ``outputs``; one by one where they change each other."""

    def __init__(self, network: Callable[[Tensor], Any], outputs: Outputs) -> None:
        self.network, self.outputs = network, outputs
        self.apart = None if isinstance(network, nn.Module) else False  # None: not known before there are several

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [N, C] of preprocessed images [N, 3, H, W]."""
        if self.apart:
            return torch.cat([self._read(image) for image in images.split(1)])
        try:
            logits = self._read(images)
        except (RuntimeError, ValueError):  # it may take one at a time
            if len(images) == 1 or self.apart is not None:
                raise
            self.apart = True
        if self.apart is None and len(images) > 1:
            alone = self._read(first := images[:1])
            # Beside larger numbers, too: an image may hold the maximum by which its network divides all.
            beside = torch.cat([logits[:1], self._read(torch.cat([first, 2 * first]))[:1]])
            exact = images.device.type == "cpu" and images.dtype.itemsize >= 4
            share = 1e-3 if exact and getattr(self.network, "precision", "") != "bfloat16" else 0.05
            self.apart = bool(((beside - alone).abs() > share * alone.abs().max()).any())
        return self(images) if self.apart else logits

    def _read(self, images: Tensor) -> Tensor:
        try:
            return self.outputs(self.network(images), len(images))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            hint = HOOKED if "register a hook" in str(error) else ""
            raise ValueError(f"The network cannot take images {list(images.shape)}: {error}.{hint}") from error


def shared_copy(model: nn.Module, twins: dict[nn.Module, nn.Module] | None = None) -> nn.Module | None:
    """The same modules in eval mode, sharing all that they hold; ``twins`` receives the copy of every module.

    None where a copy would not be the network: TorchScript, or what modules hold (a ``forward`` or hook bound to one, a
    list of them) would still be the originals, with their weights and what they remember of their last pass.
    """
    scripted = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
    modules = dict.fromkeys(model.modules())
    held = ((k, v) for m in modules for k, v in m.__dict__.items() if k != "_modules")
    if any(isinstance(m, scripted) for m in modules) or any(k == "forward" or _holds(v, modules) for k, v in held):
        return None
    twins = {} if twins is None else twins
    for module in modules:
        twin = twins[module] = object.__new__(type(module))  # a GraphModule's own __new__ makes a new class
        twin.__dict__ = {
            k: v.copy() if k.endswith("_hooks") and isinstance(v, dict) else v for k, v in module.__dict__.items()
        }
        twin.__dict__ |= {
            "_parameters": {
                k: nn.Parameter(p.detach(), requires_grad=False) if type(p) is nn.Parameter else p
                for k, p in module._parameters.items()
            },
            "_buffers": dict(module._buffers),
            "_compiled_call_impl": None,
            "training": False,
        }
    for module, twin in twins.items():
        twin.__dict__["_modules"] = {k: None if m is None else twins[m] for k, m in module._modules.items()}
    return twins[model]


def _holds(value: object, modules: Collection[nn.Module], depth: int = 8) -> bool:
    """Whether ``value`` is one of ``modules``, a list of them, or a function bound to one."""
    if isinstance(value, nn.Module):
        return value in modules
    held = value.__closure__ if isinstance(value, FunctionType) else value
    if callable(held) and not isinstance(held, (type, *_HOLDERS)):  # an object of the user's own class
        held = [type(held).__call__, getattr(held, "__dict__", None)]
    parts = gc.get_referents(held) if depth and isinstance(held, _HOLDERS) else ()
    return any(_holds(part, modules, depth - 1) for part in parts)


_HOLDERS = (list, tuple, dict, partial, MethodType, CellType)


class _Pairs(TorchFunctionMode):
    """Finds, while a copied network runs, each eval-mode BatchNorm2d that alone reads a convolution's output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.calls, self.reads, self.pairs, self._made = Counter(), Counter(), {}, {}
        self._handles, self.branches = [], False  # perhaps, by numbers that are read: another image may take another
        for module in network.modules():
            if module._forward_hooks or module._forward_pre_hooks:
                continue
            if type(module) is nn.Conv2d:
                self._handles.append(module.register_forward_hook(self._after_conv))
            elif type(module) is nn.BatchNorm2d and module.running_mean is not None:
                self._handles.append(module.register_forward_pre_hook(self._before_norm))

    def _after_conv(self, conv: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        self.calls[conv] += 1
        self._made[id(output)] = weakref.ref(output), conv

    def _before_norm(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        self.calls[norm] += 1
        conv = self._maker(inputs[0])
        if conv is not None:
            self.pairs[norm] = conv

    def _maker(self, tensor: object) -> nn.Conv2d | None:
        output, conv = self._made.get(id(tensor), (None, None))
        return conv if output is not None and output() is tensor else None

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Count who reads a convolution's output; questions about its size are no reading."""
        output = function(*args, **(kwargs or {}))
        tensors = any(isinstance(leaf, Tensor) for leaf in tree_leaves(output))
        if not tensors and output is not None and getattr(function, "__name__", "") not in ABOUT_SHAPE:
            self.branches = True
        if output is None or isinstance(output, (Tensor, tuple, list)):
            self.reads.update(conv for leaf in tree_leaves((args, kwargs)) if (conv := self._maker(leaf)) is not None)
        return output

    def alone(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The pairs whose modules ran once each, and whose convolution's output nothing else read."""
        for handle in self._handles:
            handle.remove()
        self._made.clear()
        pairs = {} if self.branches else self.pairs
        return [(c, n) for n, c in pairs.items() if self.calls[c] == self.calls[n] == 1 and self.reads[c] == 1]


def _fold_pair(network: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    for parent in network.modules():  # which ends where modules hold each other
        for name, child in parent._modules.items():
            if child is norm:
                parent._modules[name] = nn.Identity().eval()


def images_at_once(images: Tensor, network: object = None) -> int:
    """Images of the size of ``images`` for one forward pass: at most as many pixels as 16 of 224 x 224 (GPU: 64).

    Few on a CPU, whose caches hold the activations of few: 6 where ``network`` has fewer than 2**24 weights, which
    are then no work to read again. From 1,024 pixels a side on, a CPU gets one at a time.
    """
    count = 16 if images.device.type == "cpu" else 64
    if count == 16 and isinstance(network, nn.Module) and sum(p.numel() for p in network.parameters()) < 2**24:
        count = 6
    return max(1, min(count, count * 224 * 224 // (images.shape[-1] * images.shape[-2])))


def wide(values: Tensor) -> Tensor:
    """``values`` in float32 if they are of half precision, where sums overflow and products vanish."""
    return values.float() if values.dtype.itemsize < 4 else values

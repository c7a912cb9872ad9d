"""The calls of a record as modules: one for each call, with the network's own weights, never in place.

Functions, methods and modules leave the same call, so that heads read alike however they were written, and captum,
which works by hooks on modules, sees them all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, prod
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from campanion.game.record import Slot, Step
from campanion.game.unitnorm import UnitNorm
from campanion.inference import shared_copy


class Reduced(nn.Module):
    """A sum, mean or maximum over dimensions behind the second: one channel at a time."""

    def __init__(self, name: str, dims: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.name, self.dims, self.keepdim = name, dims, keepdim

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [N, K, ...] with ``dims`` taken together."""
        return getattr(x, self.name)(self.dims, keepdim=self.keepdim)


class Elementwise(nn.Module):
    """A function of each number alone that has no module in PyTorch, such as ``x / 10``."""

    def __init__(self, name: str, step: Step) -> None:
        super().__init__()
        self.name, self.args, self.kwargs = name, step.args[1:], step.kwargs

    def forward(self, x: Tensor) -> Tensor:
        """The method of the same name."""
        return getattr(x, self.name)(*self.args, **self.kwargs)


class Copied(Elementwise, nn.Identity):
    """``contiguous`` or ``clone``: the same numbers, which a view or a change in place behind it needs."""


# Element-wise functions and poolings: the module, and its arguments in the function's order.
_Kinds = dict[str, tuple[type[nn.Module], tuple[str, ...]]]
_ACTIVATIONS: _Kinds = {
    "relu": (nn.ReLU, ()), "relu6": (nn.ReLU6, ()), "leaky_relu": (nn.LeakyReLU, ("negative_slope",)),
    "elu": (nn.ELU, ("alpha",)), "selu": (nn.SELU, ()), "celu": (nn.CELU, ("alpha",)),
    "gelu": (nn.GELU, ("approximate",)), "silu": (nn.SiLU, ()), "mish": (nn.Mish, ()), "hardswish": (nn.Hardswish, ()),
    "hardsigmoid": (nn.Hardsigmoid, ()), "hardtanh": (nn.Hardtanh, ("min_val", "max_val")), "tanh": (nn.Tanh, ()),
    "sigmoid": (nn.Sigmoid, ()), "softplus": (nn.Softplus, ("beta", "threshold")), "softsign": (nn.Softsign, ()),
    "log_sigmoid": (nn.LogSigmoid, ()), "threshold": (nn.Threshold, ("threshold", "value")),
    "hardshrink": (nn.Hardshrink, ("lambd",)), "softshrink": (nn.Softshrink, ("lambd",)),
    "tanhshrink": (nn.Tanhshrink, ()),
}  # fmt: skip
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_POOLS: _Kinds = {
    "avg_pool2d": (nn.AvgPool2d, _AVERAGE),
    "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d, ("output_size", "return_indices")),
}
_ELEMENTWISE = {
    "add", "sub", "mul", "div", "true_divide", "pow", "exp", "log", "sqrt", "square", "abs", "neg", "erf", "sin", "cos",
    "to", "float", "double", "half", "bfloat16", "__rsub__", "__rdiv__", "__rpow__", "reciprocal", "log1p", "expm1",
    "rsqrt", "contiguous", "clone",
}  # fmt: skip
# Of other functions, the arguments after the tensor.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "linear": ("weight", "bias"), "conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "batch_norm": ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "prelu": ("weight",), "rrelu": ("lower", "upper", "training"), "normalize": ("p", "dim", "eps"),
    "clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",), "clamp_max": ("max",),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), ("dim", "keepdim")), "softmax": ("dim",),
}  # fmt: skip
# Element-wise functions: they act on a channel alone, whatever its shape.
POINTWISE = (*(kind for kind, _ in _ACTIVATIONS.values()), Elementwise, nn.Identity)


def as_module(step: Step) -> nn.Module | None:
    """The module that does what ``step`` does, or None: a function that has none, or that reads several tensors."""
    name = step.name.rstrip("_") if not step.name.startswith("__") else step.name
    slots = [v for v in (*step.args, *step.kwargs.values()) if isinstance(v, Slot)]  # two in F.linear(x, x)
    if len(slots) != 1 or step.args[:1] != (slots[0],) or len(step.outputs) + len(step.inputs) != 2:
        return None
    names = _ARGUMENTS.get(name, ("p", "training") if "dropout" in name else ())
    kind, names = (_ACTIVATIONS | _POOLS).get(name, (None, names))
    options = dict(zip(names, step.args[1:], strict=False)) | step.kwargs
    if name in ("linear", "conv2d", "batch_norm"):
        return _weighted(name, step, **options)
    if name == "prelu" and options.get("weight") is not None:
        return _with(nn.PReLU(len(options["weight"]), device="meta"), options["weight"], None)
    if any(isinstance(v, Tensor) for v in (*step.args[1:], *step.kwargs.values())):
        return None
    if kind is not None:
        return kind(**{k: v for k, v in options.items() if k in names})
    if name in ("clamp", "clip", "clamp_min", "clamp_max"):
        return _clamp(**options)
    if name == "normalize" and options.get("p", 2) == 2 and options.get("dim", 1) % len(step.before) == 1:
        return UnitNorm(options.get("eps", 1e-12))
    if name == "softmax":
        return nn.Softmax(options.get("dim"))
    if name == "rrelu" and not options.get("training", False):
        return nn.LeakyReLU((options.get("lower", 1 / 8) + options.get("upper", 1 / 3)) / 2)
    if "dropout" in name:
        return None if options.get("training", True) else nn.Identity()
    return _shaped(name, step, options)


def _shaped(name: str, step: Step, options: dict) -> nn.Module | None:
    """Copies, flattenings, reductions over pixels and arithmetic with plain numbers."""
    before, after = step.before, step.after
    reshaped = name in ("flatten", "view", "reshape", "squeeze")
    if before == after and reshaped:
        return nn.Identity()
    # By shapes, however it was called: the numbers of an image (or of a channel) in their order, side by side.
    for start in (1, 2):
        if reshaped and len(before) > start and after == (*before[:start], prod(before[start:])):
            return nn.Flatten(start)
    if len(after) == 2 and before[2:] == (1, 1) and before[:2] == after and name in ("squeeze", "__getitem__"):
        return nn.Flatten(1)
    if name in ("mean", "sum", "amax", "amin") and after[:2] == before[:2] and "dtype" not in step.kwargs:
        dims = options.get("dim")
        dims = tuple(d % len(before) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)) if d is not None)
        return Reduced(name, dims, options.get("keepdim", False)) if dims and min(dims) >= 2 else None
    plain = (Real, str, torch.dtype, torch.device, torch.memory_format, type(None))
    if name in _ELEMENTWISE and all(isinstance(v, plain) for v in (*step.args[1:], *step.kwargs.values())):
        return (Copied if name in ("contiguous", "clone") else Elementwise)(name, step)
    return None


def _clamp(min: float | None = None, max: float | None = None) -> nn.Module | None:
    """``clamp`` as the module that it is: ReLU, or a hard tanh."""
    if min == 0 and max is None:
        return nn.ReLU()
    low, high = -inf if min is None else float(min), inf if max is None else float(max)
    return nn.Hardtanh(low, high) if low < high else None


def _weighted(
    name: str, step: Step, weight: Tensor | None = None, bias: Tensor | None = None, **options: Any
) -> nn.Module | None:
    """A linear layer, convolution or batch norm (in eval mode) around the weights that the call was given."""
    if name == "batch_norm":
        mean = options["running_mean"]
        if options.get("training") or mean is None or len(step.before) not in (2, 4):
            return None
        kind = nn.BatchNorm2d if len(step.before) == 4 else nn.BatchNorm1d
        norm = kind(len(mean), eps=options.get("eps", 1e-5), affine=weight is not None, device="meta").eval()
        norm.running_mean, norm.running_var = mean, options["running_var"]
        return _with(norm, weight, bias) if (weight is None) == (bias is None) else None
    if name == "linear":
        return _with(_bare(nn.Linear, weight.shape[1], len(weight), bias=bias is not None), weight, bias)
    if len(step.before) != 4:
        return None
    inputs, outputs = weight.shape[1] * options.get("groups", 1), len(weight)
    conv = _bare(nn.Conv2d, inputs, outputs, tuple(weight.shape[2:]), bias=bias is not None, **options)
    return _with(conv, weight, bias)


def _bare(kind: type[nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    """A module whose weights are replaced at once: none are drawn, which takes a millisecond even without memory."""
    module = type(kind.__name__, (kind,), {"reset_parameters": lambda _self: None})(*sizes, **options, device="meta")
    module.__class__ = kind  # which captum's rules go by
    return module


def _with(module: nn.Module, weight: Tensor | None, bias: Tensor | None) -> nn.Module:
    """``module`` with these tensors as its parameters: shared, not copied."""
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            parameter = isinstance(value, nn.Parameter)
            setattr(module, name, value if parameter else nn.Parameter(value.detach(), requires_grad=False))
    return module


def without_bias(layer: object) -> nn.Module | None:
    """The same linear layer, convolution or batch norm without what it adds; weights are shared. None for others."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)):
        return None
    lean = shared_copy(layer)
    if isinstance(lean, (nn.Linear, nn.Conv2d)):
        lean.bias = None
        return lean
    lean.running_mean = torch.zeros_like(lean.running_mean)
    lean.bias = None if lean.bias is None else nn.Parameter(torch.zeros_like(lean.bias), requires_grad=False)
    return lean


def as_function(step: Step) -> Callable[[Tensor], Tensor] | None:
    """A plain function in the place of a module that moves or averages numbers: captum's LRP has no rule for it."""
    module = step.function
    if isinstance(module, nn.Flatten):
        return partial(torch.flatten, start_dim=module.start_dim)
    return module.forward if isinstance(module, (Reduced, nn.Identity)) else None

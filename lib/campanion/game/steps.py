"""The calls of a record as modules: one for each call, with the network's own weights, never in place.

Functions, methods and modules leave the same call, so that heads read alike however they were written, and captum,
which works by hooks on modules, sees them all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, prod
from numbers import Real

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

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.name, self.args, self.kwargs = step.name.rstrip("_"), step.args[1:], step.kwargs

    def forward(self, x: Tensor) -> Tensor:
        """The method of the same name."""
        found = getattr(x, self.name)(*self.args, **self.kwargs)
        return x.view_as(x) if found is x else found  # x.float(), which captum must tell from x


# Functions of one number each: the module, and its arguments in the function's order.
_ACTIVATIONS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
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
_POOLS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "avg_pool2d": (nn.AvgPool2d, _AVERAGE),
    "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d, ("output_size", "return_indices")),
}
_ELEMENTWISE = {
    "add", "sub", "mul", "div", "true_divide", "pow", "exp", "log", "sqrt", "square", "abs", "neg", "erf", "sin", "cos",
    "to", "float", "double", "half", "bfloat16", "__rsub__", "rsub", "__rdiv__", "__rpow__", "reciprocal", "log1p",
    "expm1", "rsqrt",
}  # fmt: skip
# Element-wise functions: they act on a channel alone, whatever its shape.
POINTWISE = (*(kind for kind, _ in _ACTIVATIONS.values()), Elementwise, nn.Identity)


def as_module(step: Step) -> nn.Module | None:
    """The module that does what ``step`` does, or None: a function that has none, or that reads several tensors."""
    name = step.name.rstrip("_") if not step.name.startswith("__") else step.name
    if not step.args or not isinstance(step.args[0], Slot) or len(step.outputs) != 1 or len(step.inputs) != 1:
        return None
    given = step.args[1:]
    if name in ("linear", "conv2d", "batch_norm"):
        return _weighted(name, step)
    if name == "prelu" and (slopes := _option(step, 0, "weight", None)) is not None:
        return _with(nn.PReLU(len(slopes), device="meta"), slopes, None)
    if any(isinstance(v, Tensor) for v in (*given, *step.kwargs.values())):
        return None
    for table in (_ACTIVATIONS, _POOLS):
        if name in table:
            kind, names = table[name]
            options = dict(zip(names, given, strict=False)) | {k: v for k, v in step.kwargs.items() if k in names}
            return kind(**options)
    if name in ("clamp", "clip", "clamp_min", "clamp_max"):
        return _clamp(name, given, step.kwargs)
    if name == "normalize" and _option(step, 0, "p", 2) == 2 and _option(step, 1, "dim", 1) % len(step.before) == 1:
        return UnitNorm(_option(step, 2, "eps", 1e-12))
    if name == "softmax":
        return nn.Softmax(_option(step, 0, "dim", None))
    if name == "rrelu" and not _option(step, 2, "training", False):
        return nn.LeakyReLU((_option(step, 0, "lower", 1 / 8) + _option(step, 1, "upper", 1 / 3)) / 2)
    if "dropout" in name:
        return None if _option(step, 1, "training", True) else nn.Identity()
    return _shaped(name, step)


def _shaped(name: str, step: Step) -> nn.Module | None:
    """Copies, flattenings, reductions over pixels and arithmetic with plain numbers."""
    before, after = step.before, step.after
    if name in ("contiguous", "clone") or (before == after and name in ("squeeze", "flatten", "view", "reshape")):
        return nn.Identity()
    reshaped = name in ("flatten", "view", "reshape", "squeeze")
    # Whatever the call looked like: the numbers of one image (of one channel) in their order, side by side.
    for kept in (1, 2):
        if after == (*before[:kept], prod(before[kept:])) and len(before) > kept and reshaped:
            return nn.Flatten(kept)
    if len(after) == 2 and before[2:] == (1, 1) and before[:2] == after and name in ("squeeze", "__getitem__"):
        return nn.Flatten(1)
    if name in ("mean", "sum", "amax", "amin") and after[:2] == before[:2] and "dtype" not in step.kwargs:
        dims = _option(step, 0, "dim", None)
        dims = tuple(d % len(before) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)) if d is not None)
        return Reduced(name, dims, _option(step, 1, "keepdim", False)) if dims and min(dims) >= 2 else None
    plain = (Real, str, torch.dtype, torch.device, torch.memory_format, type(None))
    if name in _ELEMENTWISE and all(isinstance(v, plain) for v in (*step.args[1:], *step.kwargs.values())):
        return Elementwise(step)
    return None


def _option(step: Step, place: int, name: str, default: object) -> object:
    """An argument after the tensor, by its place or its name."""
    given = step.args[1:]
    return given[place] if len(given) > place else step.kwargs.get(name, default)


def _clamp(name: str, given: tuple, kwargs: dict) -> nn.Module | None:
    """``clamp`` as the module that it is: ReLU, or a hard tanh."""
    names = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(name, ("min", "max"))
    bounds = dict(zip(names, given, strict=False)) | kwargs
    low, high = bounds.get("min"), bounds.get("max")
    if low == 0 and high is None:
        return nn.ReLU()
    low, high = -inf if low is None else float(low), inf if high is None else float(high)
    return nn.Hardtanh(low, high) if low < high else None


def _weighted(name: str, step: Step) -> nn.Module | None:
    """A linear layer, convolution or batch norm (in eval mode) around the weights that the call was given."""
    names = {
        "linear": ("weight", "bias"),
        "conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
        "batch_norm": ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    }[name]
    given = dict(zip(names, step.args[1:], strict=False)) | step.kwargs
    weight, bias = given.get("weight"), given.get("bias")
    if name == "batch_norm":
        mean = given["running_mean"]
        if given.get("training") or mean is None or len(step.before) not in (2, 4):
            return None
        kind = nn.BatchNorm2d if len(step.before) == 4 else nn.BatchNorm1d
        norm = kind(len(mean), eps=given.get("eps", 1e-5), affine=weight is not None, device="meta").eval()
        norm.running_mean, norm.running_var = mean, given["running_var"]
        return _with(norm, weight, bias) if (weight is None) == (bias is None) else None
    if name == "linear":
        return _with(_bare(nn.Linear, weight.shape[1], len(weight), bias is not None), weight, bias)
    groups, size = given.get("groups", 1), tuple(weight.shape[2:])
    if len(step.before) != 4:
        return None
    conv = _bare(nn.Conv2d, weight.shape[1] * groups, len(weight), size, given.get("stride", 1),
                 given.get("padding", 0), given.get("dilation", 1), groups, bias is not None)  # fmt: skip
    return _with(conv, weight, bias)


def _bare(kind: type[nn.Module], *options: object) -> nn.Module:
    """A module whose weights are replaced at once: none are drawn, which takes a millisecond even without memory."""
    module = type(kind.__name__, (kind,), {"reset_parameters": lambda _self: None})(*options, device="meta")
    module.__class__ = kind  # which captum's rules go by
    return module


def _with(module: nn.Module, weight: Tensor | None, bias: Tensor | None) -> nn.Module:
    """``module`` with these tensors as its parameters: shared, not copied."""
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            own = value if isinstance(value, nn.Parameter) else nn.Parameter(value.detach(), requires_grad=False)
            setattr(module, name, own)
    return module


def without_bias(layer: object) -> nn.Module | None:
    """The same linear layer, convolution or batch norm without what it adds; weights are shared. None for others."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)):
        return None
    own = shared_copy(layer)
    if isinstance(own, (nn.BatchNorm1d, nn.BatchNorm2d)):
        own.running_mean = torch.zeros_like(own.running_mean)
        own.bias = None if own.bias is None else nn.Parameter(torch.zeros_like(own.bias), requires_grad=False)
    else:
        own.bias = None
    return own


def as_function(step: Step) -> Callable[[Tensor], Tensor] | None:
    """A plain function in the place of a module that moves or averages numbers: captum's LRP has no rule for it."""
    module = step.function
    if isinstance(module, nn.Flatten):
        return partial(torch.flatten, start_dim=module.start_dim)
    return module.forward if isinstance(module, (Reduced, nn.Identity)) else None

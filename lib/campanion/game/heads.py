"""Heads: what a network does after the target layer, recognised by its form.

For each kind below, the first thing the head computes is linear in the channels' presence. With g the channel-wise
part (ReLU, pooling), one number or vector per channel

    C_k = W_k (g(A_k) - g(0)),   k = 1..K        (K x D "contributions")

and the offset ``z_0 = b + sum_k W_k g(0)``, the coalition S of channels gives the first pre-activation
``z(S) = z_0 + sum_{k in S} C_k``: a 0/1 row times one matrix. What follows (:meth:`finish`) is cheap or nothing.

=========  ==========================================================  ===================  =======================
kind       form                                                        D                    seen in
=========  ==========================================================  ===================  =======================
linear     channel-wise, flatten, Linear                               1 (the class)        ResNet, ResNeXt, DenseNet,
                                                                                            MobileNetV2
mlp        channel-wise, flatten, Linear, pointwise, Linear, ...       width of layer one   VGG, AlexNet, MobileNetV3;
                                                                                            layers of two factors
pixel      channel-wise, 1x1 convolution, pointwise, mean over pixels  pixels (the class)   SqueezeNet
generic    anything else: batched forwards of the head                 -                    ResNet cut at layer3, ...
=========  ==========================================================  ===================  =======================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from campanion.game.products import by_channel, used_alone
from campanion.game.record import Program
from campanion.game.steps import POINTWISE, Reduced, as_module, without_bias

_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.BatchNorm2d, Reduced)
_RESCALE_EPSILON = 1e-10  # below this difference DeepLIFT's rescale rule takes the derivative (captum's constant)


@dataclass(frozen=True)
class GenericHead:
    """F as a plain function of activations and the image that they are of, which leaves out :attr:`bias`."""

    function: Callable[[Tensor, int | None], Tensor]
    module: nn.Module | None  # F as a module, where the record gives one
    kind: str = "generic"
    bias: Tensor | None = None  # [C], of a linear layer at the end

    def __call__(self, activations: Tensor, image: int | None = None) -> Tensor:
        """Logits [N, C] of activations [N, K, h, w], all of image ``image``, or (None) one of each image in order."""
        logits = self.function(activations, image)
        return logits if self.bias is None else logits + self.bias


@dataclass(frozen=True)
class LinearFirstHead:
    """A head of kind linear, mlp or pixel: ``channelwise``, then ``first`` (linear in the channels), then ``rest``."""

    kind: str
    module: nn.Module
    channelwise: tuple[nn.Module, ...]
    first: nn.Linear | nn.Conv2d
    rest: tuple[nn.Module, ...]

    def __call__(self, activations: Tensor, image: int | None = None) -> Tensor:
        """Logits [N, C] of activations [N, K, h, w]."""
        return self.module(activations)

    def pooled(self, activations: Tensor) -> Tensor:
        """g(A): what the channel-wise part gives, one row of P numbers per channel, [N, K, P]."""
        for step in self.channelwise:
            activations = step(activations)
        return activations.flatten(2) if activations.ndim > 2 else activations.unsqueeze(2)

    def first_sums(self, activations: Tensor, target: Tensor) -> tuple[Tensor, slice]:
        """First pre-activations [B, D] as the layer computes them, and which: of a hidden layer the first 64 alone."""
        present = self.pooled(activations)  # [B, K, P]
        weight, bias = self.first.weight, self.first.bias
        if self.kind == "mlp":
            units = slice(0, 64)
            bias = None if bias is None else bias[units]
            return nn.functional.linear(present.flatten(1), weight[units], bias), units
        rows = weight.reshape(len(weight), present.shape[1], -1)[target]  # [B, K, P or 1]
        bias = 0 if bias is None else bias[target].unsqueeze(1)
        if self.kind == "linear":
            return (rows * present).sum((1, 2)).unsqueeze(1) + bias, slice(None)  # [B, 1]
        return torch.bmm(rows.mT, present).squeeze(1) + bias, slice(None)  # [B, P]

    @property
    def width(self) -> int:
        """The most numbers that a coalition has after any layer of an mlp: more than D where a layer is two factors."""
        layers = [self.first, *(step for step in self.rest if isinstance(step, nn.Linear))]
        return max(layer.weight.shape[0] for layer in layers)

    def contributions(self, activations: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """C [B, K, D] and z_0 [B, D] (see the module's head) of activations [B, K, h, w] for classes ``target`` [B]."""
        nothing = self.pooled(torch.zeros_like(activations[:1]))  # [1, K, P], zeros unless g(0) != 0
        present = self.pooled(activations) - nothing  # [B, K, P]
        weight, bias = self.first.weight, self.first.bias
        if self.kind == "mlp":
            weight = weight.reshape(len(weight), present.shape[1], present.shape[2])  # [D, K, P]
            offset = weight.new_zeros(len(weight))
            if bool(nothing.any()):  # else spare a pass over the weights
                offset = torch.einsum("dkp,kp->d", weight, nothing[0])
            return by_channel(weight, present), (offset + (0 if bias is None else bias)).expand(len(present), -1)
        rows = weight.reshape(len(weight), present.shape[1], -1)[target]  # [B, K, P] (linear) or [B, K, 1] (pixel)
        contributions, offset = rows * present, (rows * nothing).sum(1)  # [B, K, P], [B, P]
        if self.kind == "linear":
            contributions, offset = contributions.sum(2, keepdim=True), offset.sum(1, keepdim=True)
        return contributions, offset + (0 if bias is None else bias[target].unsqueeze(1))

    @property
    def bias(self) -> Tensor | None:
        """The bias [C] of a hidden head's last layer."""
        return self.rest[-1].bias if self.kind == "mlp" else None

    def finish(self, z: Tensor, target: Tensor, lean: bool = False) -> Tensor:
        """Logits [B, M] of classes [B] from first pre-activations z [B, M, D], which it may write over.

        ``lean``: without the last bias.
        """
        if self.kind == "linear":
            return z.squeeze(2)
        if self.kind == "pixel":
            for step in self.rest:
                z = step(z)
            return z.mean(2)
        *hidden, last = self.rest
        shape, z = z.shape[:2], z.flatten(0, 1)
        for step in hidden:
            z = used_alone(step, z) if isinstance(step, nn.Linear) else z.relu_() if type(step) is nn.ReLU else step(z)
        logit = torch.einsum("bmd,bd->bm", z.unflatten(0, shape), last.weight[target])
        return logit if lean or last.bias is None else logit + last.bias[target].unsqueeze(1)

    def multipliers(self, z: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """DeepLIFT-Rescale multipliers m [B, D] of the first pre-activation, from ``baseline`` z_0 to z, both [B, D].

        ``sum_d m_d (z_d - z_0d) = F^c(A) - F^c(0)``: the summation to delta of LIFT-CAM eq. 4.
        """
        if self.kind == "linear":
            return torch.ones_like(z)
        if self.kind == "pixel":
            return _rescale(self.rest, z, baseline) / z.shape[1]
        pairs = []
        for step in self.rest[:-1]:
            pairs.append((step, z, baseline))
            z, baseline = step(z), step(baseline)
        multiplier = self.rest[-1].weight[target]
        for step, before, before0 in reversed(pairs):
            linear = isinstance(step, nn.Linear)
            multiplier = multiplier @ step.weight if linear else multiplier * _rescale((step,), before, before0)
        return multiplier


Head = GenericHead | LinearFirstHead


def _rescale(steps: tuple[nn.Module, ...], z: Tensor, baseline: Tensor) -> Tensor:
    """Slopes (f(z) - f(z_0)) / (z - z_0) of element-wise ``steps`` in turn; the derivative where z = z_0 nearly."""
    total = torch.ones_like(z)
    for step in steps:
        delta = z - baseline
        near = delta.abs() <= _RESCALE_EPSILON
        after, after0 = step(z), step(baseline)
        slope = (after - after0) / torch.where(near, torch.ones_like(delta), delta)
        if bool(near.any()):
            with torch.enable_grad():
                point = z.detach().requires_grad_(True)
                (derivative,) = torch.autograd.grad(step(point).sum(), point)
            slope = torch.where(near, derivative, slope)
        total, z, baseline = total * slope, after, after0
    return total


def recognise(program: Program) -> Head:
    """The head's kind from what was recorded of it."""
    module = program.with_modules(as_module)
    if (head := _linear_first(module, _chain(module))) is not None:
        return head
    last = module.steps[-1].function if module.steps else None
    if not isinstance(last, nn.Linear) or last.bias is None or module.steps[-1].autocast is not None:
        return GenericHead(module, module)
    lean = Program([*module.steps[:-1], module.steps[-1].by(without_bias(last))], module.output, module.rows)
    return GenericHead(lean, module, bias=last.bias)


def _linear_first(module: Program, steps: list[nn.Module]) -> LinearFirstHead | None:
    """The head whose ``steps`` start with a map linear in the channels, or None."""
    split = next((i for i, s in enumerate(steps) if isinstance(s, (nn.Linear, nn.Conv2d))), None)
    if split is None:
        return None
    first = steps[split]
    rest = tuple(s for s in steps[split + 1 :] if not isinstance(s, nn.Identity))
    channelwise = tuple(s for s in steps[:split] if not isinstance(s, (nn.Flatten, nn.Identity)))
    if not all(isinstance(s, (*POINTWISE, *_POOLING)) for s in channelwise):
        return None
    if isinstance(first, nn.Linear) and len(module.steps[split].before) == 2:
        hidden = (nn.Linear, nn.BatchNorm1d, *POINTWISE)
        if not rest or (isinstance(rest[-1], nn.Linear) and all(isinstance(s, hidden) for s in rest)):
            return LinearFirstHead("mlp" if rest else "linear", module, channelwise, first, rest)
    by_pixel = isinstance(first, nn.Conv2d) and first.kernel_size == first.stride == (1, 1) and first.groups == 1
    pooling = next((i for i, s in enumerate(rest) if _is_global_mean(s)), None)
    if by_pixel and first.padding in ((0, 0), "valid", "same") and pooling is not None:
        activations, flattenings = rest[:pooling], rest[pooling + 1 :]
        if all(isinstance(s, POINTWISE) for s in activations) and all(isinstance(s, nn.Flatten) for s in flattenings):
            return LinearFirstHead("pixel", module, channelwise, first, activations)
    return None


def _chain(program: Program) -> list[nn.Module]:
    """The program's modules, one for each step, when it is one chain from input to output; else none."""
    modules, previous = [], 0
    for step in program.steps:
        if not isinstance(step.function, nn.Module) or step.inputs != {previous} or step.autocast is not None:
            return []
        modules.append(step.function)
        previous = step.outputs[0]
    return modules if previous == program.output else []


def _is_global_mean(step: nn.Module) -> bool:
    if isinstance(step, Reduced):
        return step.name == "mean" and set(step.dims) == {2, 3}
    return isinstance(step, nn.AdaptiveAvgPool2d) and step.output_size in (1, (1, 1), [1, 1])

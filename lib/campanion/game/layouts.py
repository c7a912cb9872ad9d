"""Where a layer's output has its channels, and the layer that is explained where nobody names one.

==================  ==============  ========================================================================
layout              output          seen in
==================  ==============  ========================================================================
"channels_first"    [B, K, h, w]    CNNs
"channels_last"     [B, h, w, K]    Swin; inside ConvNeXt, MaxViT
"tokens"            [B, T, K]       ViT, DeiT: class tokens (and registers) first, then the h x w grid, row by row
==================  ==============  ========================================================================

A class token is no part of the map: as a coalition changes, it stays what the network made it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from campanion.game.record import Slot, Step
from campanion.inference.evaluation import modules_of

_LOG = logging.getLogger("campanion")
_Name = Literal["channels_first", "channels_last", "tokens"]
Layout = _Name | tuple[int, int]
NAMES = get_args(_Name)

_MOVED = {(0, 3, 1, 2): "channels_last", (0, 2, 3, 1): "channels_first", (3, 1): "channels_last"}
_PREFIX = 16  # class tokens and registers at most
# Functions and modules that read or give channels as the second dimension.
_FIRST = ("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "pixel_shuffle", "interpolate",
          "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "dropout2d")  # fmt: skip
_FIRST_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.MaxPool2d,
                nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout2d)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A layout of outputs of one shape. ``sure``: by the layer's own kind or by the user, and not by sizes alone."""

    kind: str
    grid: tuple[int, int] | None = None
    sure: bool = True

    def maps(self, output: Tensor) -> Tensor:
        """The output as [B, K, h, w]."""
        if self.kind == "channels_first":
            return output
        if self.kind == "channels_last":
            return output.permute(0, 3, 1, 2)
        return output[:, output.shape[1] - self.grid[0] * self.grid[1] :].mT.unflatten(2, self.grid)

    def back(self, maps: Tensor, output: Tensor) -> Tensor:
        """``maps`` [B, K, h, w] in the output's own layout; class tokens are those of ``output``."""
        if self.kind == "channels_first":
            return maps
        if self.kind == "channels_last":
            return maps.permute(0, 2, 3, 1).contiguous()
        tokens = maps.flatten(2).mT
        prefix = output.shape[1] - tokens.shape[1]
        return torch.cat([output[:, :prefix], tokens], 1) if prefix else tokens.contiguous()


def check_layout(layout: object) -> None:
    """ValueError unless ``layout`` is a known name, a grid (h, w) or None."""
    grid = isinstance(layout, tuple) and len(layout) == 2 and all(type(side) is int and side > 0 for side in layout)
    if layout is not None and layout not in NAMES and not grid:
        raise ValueError(f"layout must be one of {', '.join(map(repr, NAMES))} or a grid (h, w), not {layout!r:.80}.")


def place(
    output: object, images: Tensor, layer: nn.Module, name: str, layout: Layout | None = None, inside: object = None
) -> Placed:
    """The layout of ``output``, which ``layer`` of ``inside`` gave for ``images``: ``layout``, or recognised.

    ValueError where no map can be made of it.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or not output.is_floating_point():
        kind = f"{tuple(output.shape)}, {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"Layer {name!r} gives {kind}; a map needs one tensor of real numbers, [B, K, h, w], [B, h, w, K] or "
            "[B, T, K]."
        )
    size, shape = tuple(images.shape[-2:]), tuple(output.shape)
    if len(output) != len(images):
        raise ValueError(
            f"Layer {name!r} gives {shape}: a map needs one row for each of {len(images)} images. Images cut, flipped "
            "or stacked inside the network have several: explain the network behind that."
        )
    if output.ndim == 3:
        convs = [m for m in modules_of(inside) if isinstance(m, nn.Conv2d)] if isinstance(inside, nn.Module) else []
        patches = [_grid(c, size) for c in convs if c.in_channels == images.shape[1] and isinstance(c.padding, tuple)]
        return _tokens(shape, size, layer, name, layout, patches)
    if layout not in (None, "channels_first", "channels_last"):
        raise ValueError(f"Layer {name!r} gives {shape}: its layout is 'channels_first' or 'channels_last'.")
    kind = layout or _layout_of(layer, shape[-1])
    if kind is not None:
        return Placed(kind)
    first, last = _fits(shape[2:], size), _fits(shape[1:3], size)
    return Placed("channels_last" if last and not first else "channels_first", sure=first and not last)


def _grid(conv: nn.Conv2d, size: tuple[int, int]) -> tuple[int, ...]:
    """Height and width of what ``conv`` makes of an image of ``size``."""
    sides = zip(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    return tuple((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in sides)


def _tokens(shape: tuple, size: tuple, layer: nn.Module, name: str, layout: Layout | None, patches: list) -> Placed:
    """Tokens [B, T, K]: the ``patches`` of the network's convolution, or square ones, with the fewest class tokens."""
    if layout in ("channels_first", "channels_last"):
        raise ValueError(f"Layer {name!r} gives tokens {shape}: its layout is 'tokens' or the grid (h, w).")
    patches = [(h, w) for h, w in patches if 0 <= shape[1] - h * w <= _PREFIX]
    grids = [layout] if isinstance(layout, tuple) else patches or [
        (size[0] // patch, size[1] // patch) for patch in range(1, min(size) + 1)
        if size[0] % patch == 0 and size[1] % patch == 0
    ]  # fmt: skip
    # By the number of class tokens: the grids that fit as [B, tokens, K], and as [B, K, tokens].
    tokens_first, tokens_last = ({n - h * w: (h, w) for h, w in grids if n >= h * w} for n in shape[1:])
    prefix = min(tokens_first, default=None)
    if prefix is None or (prefix > _PREFIX and not isinstance(layout, tuple)):
        raise ValueError(
            f"Layer {name!r} gives {shape}, which is no grid of tokens of {size[0]} x {size[1]} images. Pass the grid "
            "as layout=(h, w), or choose a layer of [B, tokens, K]: windows, attention and [B, K, tokens] are no maps."
        )
    certain = layout is not None or _layout_of(layer, shape[2]) == "channels_last"
    return Placed("tokens", tokens_first[prefix], sure=certain or min(tokens_last, default=prefix) >= prefix)


def _fits(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether one stride, rounded up or down, makes ``grid`` of an image of ``size``."""
    low = max(side / (cells + 1) for side, cells in zip(size, grid, strict=True))
    high = min(side / max(cells - 1, 1e-9) for side, cells in zip(size, grid, strict=True))
    return low <= high


def _layout_of(layer: nn.Module, last: int) -> str | None:
    """The layout that the layer's kind implies, or that of the last module of a sequence."""
    while isinstance(layer, nn.Sequential) and len(layer):
        layer = layer[-1]
    if isinstance(layer, _FIRST_KINDS):
        return "channels_first"
    norm = type(layer) is nn.LayerNorm and layer.normalized_shape == (last,)
    return "channels_last" if norm or (type(layer) is nn.Linear and layer.out_features == last) else None


def checked(placed: Placed, steps: list[Step], shape: tuple[int, ...], name: str, size: tuple[int, int]) -> Placed:
    """``placed`` once more, by what first reads an output of ``shape`` in the steps recorded after it.

    ValueError where neither sizes nor the network show where the channels are.
    """
    prefix = shape[1] - placed.grid[0] * placed.grid[1] if placed.grid else 0
    if prefix and any(_last_token(step, shape, prefix) for step in steps):
        raise ValueError(f"Layer {name!r} gives {shape} with its class token last; tokens are read with theirs first.")
    if placed.sure:
        return placed
    kind = _read_as(steps, placed, shape)
    if placed.kind == "tokens":
        if kind == "channels_last":
            return placed
        raise ValueError(
            f"Layer {name!r} gives {shape}, which may be [B, tokens, K] or [B, K, tokens]. Pass layout='tokens' for "
            "the first; the second is no map."
        )
    sides = shape[2:] if placed.kind == "channels_first" else shape[1:3]
    if kind is None and not _fits(sides, size):
        raise ValueError(
            f"Layer {name!r} gives {shape} for {size[0]} x {size[1]} images: where are its channels? "
            "Pass layout='channels_first' or layout='channels_last'."
        )
    if kind is None and len({*shape[1:]}) == 1:
        _LOG.warning(
            "Layer %r gives %s, read as [B, K, h, w]. Pass layout='channels_last' for [B, h, w, K].", name, shape
        )
    return Placed(kind or placed.kind)


def _last_token(step: Step, shape: tuple[int, ...], prefix: int) -> bool:
    """Whether ``step`` takes the last token, or all but the last ``prefix``, of tokens of ``shape``."""
    index = step.args[1] if step.name == "__getitem__" and step.before == shape else ()
    tokens = index[1] if isinstance(index, tuple) and len(index) > 1 else None
    end = tokens.stop if isinstance(tokens, slice) and not tokens.start else None
    return (type(tokens) is int and tokens in (-1, shape[1] - 1)) or end in (-prefix, shape[1] - prefix)


def _read_as(steps: list[Step], placed: Placed, shape: tuple[int, ...]) -> str | None:
    """The layout in which the first function that depends on it reads the output, through functions of each number."""
    permutations = {"channels_last": 2, "tokens": 3}.get(placed.kind, 0)  # of Placed.back itself
    slots = {0}.union(*(step.outputs for step in steps[:permutations]))
    for step in steps[permutations:]:
        if not step.inputs & slots:
            continue
        dims = step.args[1:] or tuple(v for k, v in step.kwargs.items() if k in ("dim", "dims", "normalized_shape"))
        dims = dims[0] if dims and isinstance(dims[0], (tuple, list)) else dims
        by_rows = step.name == "linear" or (step.name.strip("_") == "matmul" and isinstance(step.args[1], nn.Parameter))
        last = step.before == shape and (by_rows or (step.name == "layer_norm" and len(dims) == 1))
        if step.name in ("permute", "movedim") and (kind := _MOVED.get(tuple(d % len(shape) for d in dims))):
            return kind
        rows, maps = step.after[2:] == shape[3:], step.after[1:2] == shape[1:2]  # [B, h w, K], or [B, K, h w]
        if step.name in ("reshape", "view", "flatten") and len(step.after) == 3 and rows != maps:
            return "channels_last" if rows else "channels_first"
        if step.name in ("mean", "sum", "amax") and all(type(d) is int for d in dims):
            over = sorted(d % len(shape) for d in dims)
            places = {"channels_last": [1, 2][: len(shape) - 2], "channels_first": [2, 3][: len(shape) - 2]}
            return next((kind for kind, sides in places.items() if over == sides), None)
        if step.name == "__getitem__" and placed.kind == "tokens":  # some of the tokens, all of K
            return "channels_last" if step.after[-1] == shape[2] else None
        if last or step.name in _FIRST:
            return "channels_last" if last else "channels_first"
        if step.after == shape and isinstance(step.args[0], (Slot, Tensor)):
            slots.update(step.outputs)
    return None


#: Layers of torchvision's classification networks, by the module that defines them: the last whose channels are maps.
_DEFAULT = {
    "alexnet": "features.11", "squeezenet": "features.12", "densenet": "features", "mobilenetv2": "features",
    "mobilenetv3": "features", "efficientnet": "features", "resnet": "layer4", "regnet": "trunk_output",
    "convnext": "features", "googlenet": "inception5b", "inception": "Mixed_7c", "shufflenetv2": "conv5",
    "mnasnet": "layers", "swin_transformer": "norm", "maxvit": "blocks.3",
}  # fmt: skip


def default_layer(model: nn.Module) -> str | None:
    """The layer of a torchvision classification network that CAMs explain; None for any other network.

    The last one before the pooling; of VGG the last ReLU; of ViT, whose logits see the last class token alone, the norm
    before the last attention.
    """
    package, _, family = type(model).__module__.rpartition(".")
    if package != "torchvision.models":
        return None
    if family == "vgg":
        return [f"features.{name}" for name, part in model.features.named_children() if isinstance(part, nn.ReLU)][-1]
    if family == "vision_transformer":
        return f"encoder.layers.{[name for name, _ in model.encoder.layers.named_children()][-1]}.ln_1"
    return _DEFAULT.get(family)

"""Notebook 10, LFI-CAM's network taken apart: what its equations make of an image, the shapes and sizes of its parts.

Everything is read off a network that runs; nothing is typed in.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from campanion.inference import eval_mode
from campanion.models.lfi import LFICAM, unit_range


@torch.no_grad()
def steps(network: LFICAM, images: Tensor) -> dict[str, Tensor]:
    """The quantities of eq. 5-10 for preprocessed ``images`` [B, 3, H, W], in their order; ValueError for another
    network.

    Keys: ``I``, ``F`` (feature maps), ``I~`` (eq. 5), ``M`` (eq. 6), ``w`` (eq. 7 and 8; uniform without a FIN), ``L``
    (eq. 9), ``attention`` (L in 0..1), ``F'`` (eq. 10) and ``logits``.

    >>> steps(build_model("resnet20", attention="lfi"), torch.rand(1, 3, 32, 32))["w"].shape
    torch.Size([1, 64])
    """
    if not isinstance(network, LFICAM):
        raise ValueError(f"Only LFI-CAM networks have these steps, and {type(network).__name__} is none.")
    with eval_mode(network):
        maps = network.backbone.maps(images)
        gray = network.gray(images, maps.shape[-2:])
        constant = (maps > 0).to(maps.dtype) if network.form.constant_channel else None
        masked = gray * unit_range(maps, (2, 3), network.form.margin, constant)
        importance = network.importance(images, maps)
        cam = network.activation_map(maps, importance)
        attention = network.attention(cam)
        attended = (1 + attention).unsqueeze(1) * maps
        logits = network.backbone.classify(attended)
    return {
        "I": images, "F": maps, "I~": gray, "M": masked, "w": importance, "L": cam, "attention": attention,
        "F'": attended, "logits": logits,
    }  # fmt: skip


def layers(module: nn.Module, inputs: Tensor) -> pd.DataFrame:
    """The convolutions of ``module`` as they run on ``inputs``: a row each, with what follows until the next one.

    Columns: layer (its name), kind (such as ``Conv 3x3, BatchNorm, ReLU``), into and out (shapes [C, h, w]),
    parameters.
    """
    rows: list[dict[str, object]] = []
    short = {"BatchNorm2d": "BatchNorm", "AdaptiveAvgPool2d": "average pool"}
    names = {part: name for name, part in module.named_modules() if not list(part.children())}

    def add(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        size = _count(part)
        if isinstance(part, nn.Conv2d):
            stride = "" if part.stride == (1, 1) else f" / {part.stride[0]}"
            kind = f"Conv {'x'.join(map(str, part.kernel_size))}{stride}"
            shapes = {"into": tuple(inputs[0].shape[1:]), "out": tuple(output.shape[1:])}
            rows.append({"layer": names[part], "kind": kind, **shapes, "parameters": size})
        elif rows:
            kind = type(part).__name__
            rows[-1]["kind"] += f", {short.get(kind, kind)}"
            rows[-1]["parameters"] += size

    handles = [part.register_forward_hook(add) for part in names]
    try:
        with eval_mode(module), torch.no_grad():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows, columns=["layer", "kind", "into", "out", "parameters"])


def parts(network: LFICAM) -> dict[str, int]:
    """Parameters of the ``backbone`` (its classifier included), of the ``FIN``, and ``all``."""
    fin, total = 0 if network.fin is None else _count(network.fin), _count(network)
    return {"backbone": total - fin, "FIN": fin, "all": total}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())

"""LFI-CAM's network taken apart: what each of its equations makes of a picture, the parts' shapes and sizes, a drawing.

Everything is read off a network that runs; nothing of the drawing is typed in.
"""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from campanion.inference import eval_mode
from campanion.models.lfi import LFICAM, unit_range
from campanion.report import figures


@torch.no_grad()
def steps(network: LFICAM, images: Tensor) -> dict[str, Tensor]:
    """The quantities of eq. 5-10 for preprocessed ``images`` [B, 3, H, W], in their order.

    Keys: ``I``, ``F`` (feature maps), ``I~`` (eq. 5), ``M`` (eq. 6), ``w`` (eq. 7 and 8; uniform without a FIN), ``L``
    (eq. 9), ``attention`` (L in 0..1), ``F'`` (eq. 10) and ``logits``.

    Raises:
        ValueError: another kind of network.

    Example:
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


def layers(module: nn.Module, given: Tensor) -> pd.DataFrame:
    """The convolutions of ``module`` as they run on ``given``: a row each, with what follows until the next one.

    Columns: layer (its name), kind (such as ``Conv 3x3, BatchNorm, ReLU``), into and out (shapes [C, h, w]) and
    parameters (of all that the row names).
    """
    rows: list[dict[str, object]] = []
    short = {"BatchNorm2d": "BatchNorm", "AdaptiveAvgPool2d": "average pool"}

    def seen(name: str, part: nn.Module) -> None:
        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            size = sum(p.numel() for p in part.parameters())
            if isinstance(part, nn.Conv2d):
                kernel = "x".join(map(str, part.kernel_size))
                stride = "" if part.stride == (1, 1) else f" / {part.stride[0]}"
                shapes = [tuple(t.shape[1:]) for t in (inputs[0], output)]
                rows.append(
                    {"layer": name, "kind": f"Conv {kernel}{stride}", "into": shapes[0], "out": shapes[1],
                     "parameters": size}
                )  # fmt: skip
            elif rows:
                kind = type(part).__name__
                rows[-1]["kind"] += f", {short.get(kind, kind)}"
                rows[-1]["parameters"] += size

        handles.append(part.register_forward_hook(hook))

    handles: list = []
    for name, part in module.named_modules():
        if not list(part.children()):
            seen(name, part)
    try:
        with eval_mode(module), torch.no_grad():
            module(given)
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows, columns=["layer", "kind", "into", "out", "parameters"])


def parts(network: LFICAM) -> dict[str, int]:
    """Parameters of the ``backbone`` (its classifier included), of the ``FIN``, and ``all``."""
    fin = 0 if network.fin is None else sum(p.numel() for p in network.fin.parameters())
    every = sum(p.numel() for p in network.parameters())
    return {"backbone": every - fin, "FIN": fin, "all": every}


def draw(network: LFICAM, images: Tensor, width: float = 7.16) -> Figure:
    """Fig. 2 of the paper from a network that runs: every box with the shape that it puts out for ``images``.

    Example:
        >>> figures.save(draw(network, images), "10_architecture")
    """
    shown = {name: " x ".join(map(str, value.shape[1:])) for name, value in steps(network, images).items()}
    size = {name: f"{count:,} parameters" for name, count in parts(network).items()}
    convolutions = "none: w = 1 / N" if network.fin is None else _convolutions(network.fin)
    boxes = {
        "picture": (0.0, 1.0, f"picture $I$\n{shown['I']}"),
        "backbone": (1.0, 1.0, f"backbone\n{size['backbone']}"),
        "maps": (2.0, 1.0, f"maps $F_k$\n{shown['F']}"),
        "attended": (4.0, 1.0, f"eq. 10: $F'_k=(1+L)\\,F_k$\n{shown[chr(70) + chr(39)]}"),
        "logits": (5.0, 1.0, f"pool, linear\n{shown['logits']} logits"),
        "gray": (0.0, 0.0, f"eq. 5: gray $\\tilde{{I}}$\n{shown['I~']}"),
        "masks": (1.0, 0.0, f"eq. 6: $M_k=\\tilde{{I}}\\,s(F_k)$\n{shown['M']}"),
        "fin": (2.0, 0.0, f"FIN: {convolutions}\n{size['FIN']}"),
        "weights": (3.0, 0.0, f"eq. 7, 8: $w$\n{shown['w']}"),
        "cam": (4.0, 0.0, f"eq. 9: $L=\\Sigma\\,w_k F_k$\n{shown['L']}"),
    }
    arrows = (
        ("picture", "backbone"), ("backbone", "maps"), ("maps", "attended"), ("attended", "logits"),
        ("picture", "gray"), ("gray", "masks"), ("maps", "masks"), ("masks", "fin"), ("fin", "weights"),
        ("weights", "cam"), ("maps", "cam"), ("cam", "attended"),
    )  # fmt: skip
    with plt.rc_context(figures.STYLE):
        fig, ax = plt.subplots(figsize=(width, width * 0.3))
        ax.set(xlim=(-0.48, 5.48), ylim=(-0.45, 1.45))
        ax.axis("off")
        for name, (x, y, text) in boxes.items():
            colour = figures.PALETTE[1 if y == 0 else 0]
            ax.add_patch(
                FancyBboxPatch((x - 0.41, y - 0.24), 0.82, 0.48, boxstyle="round,pad=0.02,rounding_size=0.05",
                               facecolor=colour, alpha=0.12, edgecolor=colour)
            )  # fmt: skip
            ax.text(x, y, text, ha="center", va="center", fontsize=6.2, gid=name)
        for start, end in arrows:
            ax.annotate("", _edge(boxes[end], boxes[start]), _edge(boxes[start], boxes[end]),
                        arrowprops={"arrowstyle": "-|>", "lw": 0.8, "color": "0.3"})  # fmt: skip
    return fig


def _convolutions(fin: nn.Module) -> str:
    kinds = [f"{m.kernel_size[0]}x{m.kernel_size[1]}" for m in fin.modules() if isinstance(m, nn.Conv2d)]
    same = f"{len(kinds)} Conv {kinds[0]}" if len(set(kinds)) == 1 else ", ".join(kinds)
    return same + ("\nand softmax" if fin.softmax else "")


def _edge(box: tuple[float, float, str], other: tuple[float, float, str]) -> tuple[float, float]:
    """Where an arrow between two boxes leaves ``box``: a side where they are in one row, top or bottom otherwise."""
    (x, y, _), (x2, y2, _) = box, other
    if y == y2:
        return x + (0.43 if x2 > x else -0.43), y
    lean = 0.3 * ((x2 > x) - (x2 < x))
    return x + lean, y + (0.26 if y2 > y else -0.26)

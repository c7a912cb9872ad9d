"""The table of docs/networks.md: what is explained of each of torchvision's classification networks, and at what cost.

``python tests/helpers/network_table.py`` writes it. Networks are built without numbers (on the meta device).
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
import torchvision
from accelerate import init_empty_weights
from campanion.game.split import split
from torch.utils.flop_counter import FlopCounterMode

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
NAMES = torchvision.models.list_models(module=torchvision.models)
START = "| network | layer | channels | map | head | one coalition |\n|---|---|---:|---:|---|---:|\n"
CLOSED = {"linear": "closed form", "mlp": "a row of a matrix product", "pixel": "a row of a matrix product"}


def build(name: str, empty: bool = False, classes: int = 1000) -> torch.nn.Module:
    """The network in eval mode, with random weights, or (``empty``) with none, on the meta device."""
    extra = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    with init_empty_weights() if empty else nullcontext():
        model = torchvision.models.get_model(name, weights=None, num_classes=classes, **extra).eval()
    return model.to("meta") if empty else model


def row(name: str) -> str:
    """A network's row."""
    side = 299 if name == "inception_v3" else 224
    parts = split(build(name, empty=True))
    with FlopCounterMode(display=False) as whole:
        played = parts.play(torch.zeros(1, 3, side, side, device="meta"), gradient=False)
    head = played.head
    with FlopCounterMode(display=False) as after, torch.no_grad():
        head.module(played.activations)
    share = f"{100 * after.get_total_flops() / whole.get_total_flops():.2g} % of a pass"
    _, channels, high, wide = played.activations.shape
    cells = (name, f"`{parts.name}`", channels, f"{high} x {wide}", head.kind, CLOSED.get(head.kind, share))
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Write the table in place of the page's."""
    before = PAGE.read_text(encoding="utf-8").split(START)[0]
    PAGE.write_text(before + START + "\n".join(map(row, NAMES)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

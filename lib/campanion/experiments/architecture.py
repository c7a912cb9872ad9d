"""Notebooks 10, 11 and 13: the layers of a network as they run, and how many parameters networks have.

Everything is read off the code; nothing is typed in, and to count parameters no weight is made.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

from campanion.experiments.runner import Answer
from campanion.inference import eval_mode
from campanion.models import build_model
from campanion.models.lfi import LFICAM

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
#: What LFI-CAM's Table 3 counts, by column. The plain networks have another stem and another number of classes.
TABLE3: dict[str, dict[str, object]] = {
    "plain": {"stem": "cifar", "num_classes": 10},
    "abn": {"attention": "abn"},
    "lfi_cam": {"attention": "lfi", "generation": "table3"},
}
#: The networks of the authors' published code and supplement, and of the paper's equations; not in the table.
BESIDE: dict[str, dict[str, object]] = {
    "lfi_cam:published": {"attention": "lfi", "generation": "published"},
    "lfi_cam:paper": {"attention": "lfi", "generation": "paper"},
    "plain, ImageNet stem, 1000 classes": {},
}


def layers(module: nn.Module, inputs: Tensor) -> pd.DataFrame:
    """The convolutions of ``module`` as they run on ``inputs``: a row each, with what follows until the next one.

    Columns: layer (its name), kind (such as ``Conv 3x3, BatchNorm, ReLU``), into and out (shapes [C, h, w]),
    parameters.
    """
    rows: list[dict[str, object]] = []
    short = {"BatchNorm2d": "BatchNorm", "AdaptiveAvgPool2d": "average pool"}
    names = {part: name for name, part in module.named_modules() if not list(part.children())}

    def add(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        size = count(part)
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
    fin, total = 0 if network.fin is None else count(network.fin), count(network)
    return {"backbone": total - fin, "FIN": fin, "all": total}


def count(module: nn.Module) -> int:
    """The number of a module's parameters."""
    return sum(p.numel() for p in module.parameters())


@cache
def _count_of(name: str, spec: tuple[tuple[str, object], ...]) -> int:
    with torch.device("meta"):
        return count(build_model(name, **dict(spec)))


def parameters(name: str, **spec: object) -> float:
    """Millions of parameters of ``build_model(name, **spec)``."""
    return _count_of(name, tuple(sorted(spec.items()))) / 1e6


def sizes() -> dict[str, Answer]:
    """The sizes of Table 3, by network: exact, from the code alone, with the other networks beside."""
    settings = {"counted": {method: dict(spec) for method, spec in TABLE3.items()}}
    answers = {}
    for name in NETWORKS:
        counted = {method: parameters(name, **spec) for method, spec in {**TABLE3, **BESIDE}.items()}
        rows = [
            {"method": method, "metric": "parameters", "mean": size, "low": size, "high": size, "n": 1}
            for method, size in counted.items()
        ]
        answers[name] = Answer(rows, weights={"name": f"{name}, not trained"}, settings=settings)
    return answers

"""Notebooks 11 and 13: how many parameters the networks have, counted from the code without making a weight."""

from __future__ import annotations

from functools import cache

import torch

from campanion.experiments.runner import Answer
from campanion.models import build_model

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


@cache
def _count(name: str, spec: tuple[tuple[str, object], ...]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(name, **dict(spec)).parameters())


def parameters(name: str, **spec: object) -> float:
    """Millions of parameters of ``build_model(name, **spec)``."""
    return _count(name, tuple(sorted(spec.items()))) / 1e6


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

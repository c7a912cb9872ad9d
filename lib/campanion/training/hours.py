"""How long the missing cells of the grid will take, from images per second that were measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from campanion.models import build_model
from campanion.training.grid import Cell, cells, read_grid
from campanion.training.settings import attention_of

Kind = tuple[str, str, int]  #: of a :attr:`Cell.kind`
#: Images per second, and where the number is from.
Speed = tuple[float, str]


def device_kind(cell: Cell) -> str:
    """``"gpu"`` or ``"cpu"``: where a training run will be on this machine."""
    return "cpu" if cell.config.device == "cpu" or not torch.cuda.is_available() else "gpu"


@cache
def multiply_adds(network: str, method: str, size: int, classes: int = 10) -> float:
    """Multiply-adds of convolutions and matrix products for one image, ``size`` pixels wide, of a training step.

    The backward pass costs twice the forward one, which is counted on tensors without storage.
    """
    with torch.device("meta"):
        model = build_model(network, **attention_of(method), num_classes=classes)
        images = torch.empty(2, 3, size, size)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = nn.Identity().forward  # slow on tensors without storage, and no product to count
    with FlopCounterMode(display=False) as counter:
        model(images)
    return 3 * counter.get_total_flops() / 2 / 2


def stated(device: str) -> dict[Kind, Speed]:
    """Speeds of one process on ``"cpu"`` or ``"gpu"`` that the YAML file has."""
    rows = read_grid()["speeds"].get(device, ())
    return {(r["network"], r["method"], r["size"]): (float(r["images_per_s"]), "measured before") for r in rows}


def measured(device: str) -> dict[Kind, Speed]:
    """Speeds of one process on ``"cpu"`` or ``"gpu"``: of the grid's training runs here, else the YAML file's."""
    speeds, trained = stated(device), defaultdict(list)
    for scale in read_grid()["scales"]:
        for cell in cells(scale) if scale != "quick" else ():
            if (history := cell.history) is not None:
                epochs = history[history["device"].str.startswith("CPU") == (device == "cpu")]
                trained[cell.kind] += [*(epochs["images_per_s"] / epochs["processes"])]
    for kind, rates in trained.items():
        if rates:
            speeds[kind] = float(np.median(rates)), f"{len(rates)} epoch{'s' if len(rates) > 1 else ''} trained here"
    return speeds


def speed(kind: Kind, device: str, known: dict[Kind, Speed]) -> Speed:
    """Training images per second of one process, and where the number is from.

    Measured on the same network, method and size (``known``, of :func:`measured`); else estimated from all that were
    measured on such a device, by the multiply-adds of a step; else assumed, in words that say so.
    """
    if kind in known:
        return known[kind]
    if known:
        per_second = [rate * multiply_adds(*measured_kind) for measured_kind, (rate, _) in known.items()]
        return float(np.exp(np.mean(np.log(per_second)))) / multiply_adds(*kind), "by multiply-adds from other networks"
    assumed = read_grid()["assumed"][device]
    rate = assumed["multiply_adds_per_s"] / multiply_adds(*kind)
    return min(rate, assumed["images_per_s"]), "assumed, not measured"


def hours(chosen: Sequence[Cell]) -> list[tuple[Cell, float, str]]:
    """Each cell that is not done with the hours that it will take in one process, and where the speed is from."""
    known = {device: measured(device) for device in {device_kind(cell) for cell in chosen}}
    rows = []
    for cell in chosen:
        if not cell.done:
            rate, source = speed(cell.kind, device_kind(cell), known[device_kind(cell)])
            rows.append((cell, cell.images / rate / 3600, source))
    return rows


def listing(chosen: Sequence[Cell]) -> str:
    """What is missing, as text: a line per cell, and the sum."""
    todo, absent = [], []
    for cell, time, source in hours(chosen):
        (absent if cell.missing_data else todo).append((cell, time, source))
    done = len(chosen) - len(todo) - len(absent)
    lines = [f"Training runs of scale {chosen[0].scale}: {len(chosen)}, of which {done} are done."]
    if todo:
        wide = max(len(cell.name) for cell, _, _ in todo)
        lines += ["", f"{'missing':{wide}s}  epochs     images left   hours  speed"]
        for cell, time, source in todo:
            ended = f"{cell.epochs}/{cell.config.numbers.epochs}"
            rate = f"{cell.images / time / 3600:,.0f}/s" if time else "-"  # trained, but its checkpoint is not written
            lines.append(f"{cell.name:{wide}s}  {ended:>6s}  {cell.images:14,}  {time:6.2f}  {rate}, {source}")
        on = {"cpu": "one CPU core", "gpu": "one GPU"}[device_kind(todo[0][0])]
        lines += ["", f"{sum(time for _, time, _ in todo):.1f} hours on {on}, one after another."]
    if absent:
        names = ", ".join(dict.fromkeys(cell.missing_data for cell, _, _ in absent))
        lines.append(f"Left out are {len(absent)} training runs on data that are not here: {names}.")
    return "\n".join(lines)


def from_the_start(scale: str, table: str) -> pd.DataFrame:
    """Every training run of a table with its command and its estimated hours from the first epoch on.

    ``core_hours`` are of one CPU core, by multiply-adds from the speeds that the YAML file states; ``gpu_hours`` of one
    GPU, by its assumption.
    """
    known, rows = stated("cpu"), []
    for cell in cells(scale, table):
        images = cell.config.numbers.epochs * read_grid()["pictures"][cell.config.data]
        core, gpu = (images / speed(cell.kind, *on)[0] / 3600 for on in (("cpu", known), ("gpu", {})))
        command = f"python -m campanion grid --scale {scale} --run --only {cell.name}"
        rows.append((cell.config.network, cell.config.data, cell.method, core, gpu, command))
    return pd.DataFrame(rows, columns=["network", "data", "method", "core_hours", "gpu_hours", "command"])

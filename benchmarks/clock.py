"""Stopwatches: seconds, memory and multiply-adds of a call, and what the machine can do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from speed import this_machine
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PACKAGES = ("torch", "torchvision", "captum", "grad-cam", "torchcam", "quantus", "numpy")
LONG = 20.0  # seconds: a call that takes longer is not repeated


class Arithmetic(TorchDispatchMode):
    """Counts convolutions and matrix products by torch's own formulas, 2 FLOP a multiply-add.

    torch's FlopCounterMode counts the same and follows modules, whose hooks captum's DeepLift does not stand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs, count = kwargs or {}, flop_registry.get(func.overloadpacket)
        if count is None:
            with self:  # in inference mode whole layers arrive here: look at what they are made of
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        self.flop += count(*args, **kwargs, out_val=out)
        return out


def timed(function: Callable[[], object], device: str = "cpu") -> tuple[float, float]:
    """Wall and processor seconds of one call; the second counts all threads of this process and no other's work."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(
    sides: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu", failed: dict[str, str] | None = None
) -> dict[str, dict]:
    """Every side's times, memory and arithmetic; sides take turns, so that other work on the machine slows all.

    The order is drawn anew for each round: what one call leaves in caches and allocator helps or hinders the next.
    The first call of each gives ``added_mb`` and ``gflop`` (:func:`first_call`) and is not timed, unless it takes more
    than :data:`LONG` seconds: then it is the only one. A library that cannot take the network goes into ``failed``,
    with its reason, where that is given; an error of campanion's is always raised.
    """
    first = {}
    for name, function in sides.items():
        try:
            first[name] = first_call(function, device)
        except RuntimeError as error:
            if failed is None or name == "campanion":
                raise
            failed[name] = f"fails: {str(error).partition(':')[0]}"
    times = {name: [once.pop("times")] if once["times"][0] > LONG else [] for name, once in first.items()}
    repeated = [name for name in first if not times[name]]
    order = random.Random(0)
    for _ in range(repeats):
        for name in order.sample(repeated, len(repeated)):
            times[name].append(timed(sides[name], device))
    return {name: {**summary(times[name]), **{k: v for k, v in first[name].items() if k != "times"}} for name in first}


def first_call(function: Callable[[], object], device: str = "cpu") -> dict[str, object]:
    """``times`` of one call; ``added_mb``, the most memory beyond what was held before it; ``gflop``.

    ``gflop`` counts convolutions and matrix products, 2 a multiply-add (:class:`Arithmetic`); nothing else.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        give_back()
        before = high_water()
    with Arithmetic() as counter:
        times = timed(function, device)
    most = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
    added = most / 2**20 if device == "cuda" else high_water(reset=False) - before
    return {"times": times, "added_mb": round(added, 1), "gflop": round(counter.flop / 1e9, 3)}


def summary(times: list[tuple[float, float]]) -> dict[str, object]:
    """Median, smallest and largest by either clock."""
    clocks = dict(zip(("wall", "cpu"), zip(*times, strict=True), strict=True))
    found: dict[str, object] = {
        clock: {"median": statistics.median(each), "min": min(each), "max": max(each)} for clock, each in clocks.items()
    }
    return {**found, "runs": len(times)}


def high_water(reset: bool = True) -> float:
    """Most resident memory in MB so far; on Linux, since the last reset, which makes it the present amount."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def give_back() -> None:
    """Ask glibc for the freed memory that it keeps: else a call would reuse it, and seem to need none."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def product_rate(device: str = "cpu", side: int = 2048, repeats: int = 2) -> dict[str, float]:
    """GFLOP a second of a float32 matrix product of ``side`` squared matrices, by both clocks (best of ``repeats``)."""
    a, b = torch.randn(2, side, side, device=device)
    out = torch.empty_like(a)
    times = [timed(lambda: torch.mm(a, b, out=out), device) for _ in range(repeats + 1)][1:]
    return {clock: round(2e-9 * side**3 / min(t[i] for t in times), 1) for i, clock in enumerate(("wall", "cpu"))}


def machine(threads: int, device: str = "cpu") -> dict[str, object]:
    """What the times depend on."""
    card = {"card": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {
        "processor": this_machine(), "cores": os.cpu_count(), "threads": threads, "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES}, **card,
    }  # fmt: skip


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

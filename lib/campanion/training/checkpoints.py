"""The three files of a checkpoint: weights, facts (``.json``) and a card (``.md``) made of the facts alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from campanion.files import sha256, write_whole
from campanion.results.provenance import device_name, versions


class Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def minutes(self, digits: int = 1) -> dict[str, float]:
        """``minutes`` and ``cpu_minutes`` (of this process, all threads) until now."""
        wall, cpu = (time.monotonic() - self._wall) / 60, (time.process_time() - self._cpu) / 60
        return {"minutes": round(wall, digits), "cpu_minutes": round(cpu, digits)}


def write_weights(path: Path, state: Mapping[str, Tensor], about: str | Mapping[str, str]) -> None:
    """Write ``state`` as safetensors; ``about`` says what made it.

    safetensors writes several entries of metadata in random order: with one, the file is made twice alike.
    """
    write_whole(path, save(dict(state), metadata={"made_with": about} if isinstance(about, str) else dict(about)))


def write_facts(
    path: Path, facts: Mapping[str, object], card: Callable[[Mapping], str], device: str | torch.device
) -> dict[str, object]:
    """Write ``.json`` and ``.md`` beside the weights ``path``; returns the facts, completed.

    Added are ``device``, ``versions``, ``bytes`` and ``sha256``.
    """
    complete = {
        **facts,
        "device": device_name(device),
        "versions": versions(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
    write_whole(path.with_suffix(".json"), json.dumps(complete, indent=2) + "\n")
    write_whole(path.with_suffix(".md"), card(complete))
    return complete

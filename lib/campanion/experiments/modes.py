"""The three modes of a notebook and of the study behind it."""

from __future__ import annotations

import torch

from campanion.errors import unknown
from campanion.results.store import load_result

#: Read the committed result; measure this project's small networks on generated scenes; measure real data.
MODES = ("cached", "quick", "full")
QUICK_MODELS = ("scenes_vgg", "scenes_resnet")
QUICK_IMAGES = 24


def committed(notebook: str, mode: str) -> dict | None:
    """The committed result of ``notebook`` in mode ``"cached"``; None in the modes that measure.

    Raises:
        MissingResult: cached, and there is no result; the sentence names the command that makes it.
        ValueError: unknown mode.
    """
    if mode not in MODES:
        raise ValueError(unknown("mode", mode, MODES))
    return load_result(notebook) if mode == "cached" else None


def pick_device(device: str) -> str:
    """``"auto"`` is a GPU where there is one; any other name stays."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device

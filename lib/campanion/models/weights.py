"""Files of weights: found, downloaded, read without pickles, and put into a network; the facts beside a checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from campanion.errors import MissingData
from campanion.paths import checkpoints_dir, data_dir, out_dir, sha256


def find_weights(name: str, weights: str | Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Parameters and facts of ``CAMPANION_DATA/weights/NAME`` (``"auto"``; downloaded if need be) or of a path."""
    folder = data_dir() / "weights"
    paths = [folder / f"{name}.npz", folder / f"{name}.safetensors"] if weights == "auto" else [Path(weights)]
    path = next((p for p in paths if p.exists()), None)
    if path is None and weights != "auto":
        raise MissingData(f"Weights file {weights} is not there.")
    if path is None and name == "vgg16_features":  # the same convolutions are in torchvision's whole network
        if not any((folder / f"vgg16.{suffix}").exists() for suffix in ("npz", "safetensors")):
            raise MissingData(
                f"No weights of {name} under {folder}. Run `python -m campanion data fetch weights/vgg16`, whose "
                f"convolutions they are, or put {name}.npz or {name}.safetensors there."
            )
        state, facts = find_weights("vgg16", "auto")
        return {key: value for key, value in state.items() if key.startswith("features.")}, facts | {"name": name}
    if path is None:
        path = _download(name, paths[1])
    return read_weights(path), {"name": name, "origin": path.name, "sha256": sha256(path)}


def _download(name: str, path: Path) -> Path:
    ways = (
        f"No weights of {name} under {path.parent}. Either run `python -m campanion data fetch weights/{name}` with a "
        f"network connection, or put {path.stem}.npz or {path.name} there (torchvision's parameter names)."
    )
    if os.environ.get("CAMPANION_OFFLINE"):
        raise MissingData(ways)
    from campanion.data.download import DownloadError
    from campanion.data.weights import fetch_weights

    try:
        return fetch_weights(name, path.parent)
    except (OSError, DownloadError) as error:
        raise MissingData(f"{ways} The download failed: {error}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Parameters from ``.npz`` (no pickles) or ``.safetensors``, floats as float32; ValueError names a bad file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                state = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
        elif path.suffix == ".safetensors":
            state = load_file(path)
        else:
            raise ValueError("only .npz and .safetensors are read (a .pth may hold code)")
    except Exception as error:  # zip, zlib, safetensors and NumPy each raise their own
        raise ValueError(f"Weights file {path} cannot be read: {error}") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def fill(model: nn.Module, state: dict[str, Tensor], facts: dict) -> None:
    """Put ``state`` into ``model``; ValueError names the file (of ``facts``) and the first parameter that differs."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else error
        raise ValueError(f"Weights file {facts['origin']} does not fit {facts['name']}: {first}") from error


def find_checkpoint(name: str, weights: str | Path) -> Path:
    """The checkpoint file of a network that this project trained: the committed one (``"auto"``) or a path."""
    path = (finished(name) or checkpoints_dir() / f"{name}.safetensors") if weights == "auto" else Path(weights)
    if not path.exists():
        raise MissingData(f"{path} is not there: run `python -m campanion train {name}`.")
    return path


def finished(name: str) -> Path | None:
    """The checkpoint of that name which is committed, or which a training run has left in ``out``."""
    runs = (out_dir() / "training" / name, out_dir() / "quick" / "training" / name)
    return next((p for folder in (checkpoints_dir(), *runs) if (p := folder / f"{name}.safetensors").is_file()), None)


def weights_of(path: str | Path) -> Path:
    """The ``.safetensors`` file of a checkpoint: of a path with or without a suffix, of its ``.json``, or of a name."""
    path = Path(path)
    if path.suffix not in (".safetensors", ".json"):  # a name may hold a dot, as in lr0.1
        file = path.with_name(path.name + ".safetensors")
        return file if file.is_file() else finished(str(path)) or file
    return path.with_suffix(".safetensors")


def read_card(path: str | Path) -> dict:
    """The facts beside the checkpoint ``path`` (``.safetensors``), or in the ``.json``, which may be there alone."""
    weights = weights_of(path)
    facts = weights.with_suffix(".json")
    for file in (facts,) if Path(path) == facts else (weights, facts):
        if not file.is_file():
            command = f"grid --only {weights.stem} --run" if facts.is_file() else "train CONFIG"
            raise MissingData(f"There is no {file}: `python -m campanion {command}` writes it.")
    try:
        return json.loads(facts.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"{facts} cannot be read: {problem}.") from problem

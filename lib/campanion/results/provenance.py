"""Where a number comes from: the record kept with every result, and the line printed under every table."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

import pandas as pd
import torch

from campanion import paths

PACKAGES = ("torch", "torchvision", "captum", "campanion")


def collect(
    mode: str,
    data: str,
    n: int,
    weights: Mapping[str, object],
    device: str | torch.device,
    minutes: float,
    seed: int,
    settings: Mapping[str, object],
) -> dict[str, object]:
    """The record of one run.

    Args:
        mode: ``"quick"`` (generated scenes) or ``"full"`` (real data).
        data: name of the data set.
        n: number of images.
        weights: ``name``, and where known ``sha256`` and ``accuracy``: the measured accuracy in words, such as
            ``"top-1 71.8 % on 2,306 images"``.
        device: what it ran on.
        minutes: how long it took.
        seed: of every random draw.
        settings: what decides the numbers, as given to :class:`~campanion.results.rows.RowStore`.

    Returns:
        These, with ``versions``, ``commit`` (a ``+`` marks uncommitted changes of the code) and ``date`` (UTC).

    >>> collect("full", "imagenet-val", 500, {"name": "resnet18"}, "cpu", 62.0, 0, {"step": 1792})["device"]
    'CPU, 2 threads'
    """
    if mode not in ("quick", "full"):
        raise ValueError(f"mode {mode!r} computes no result: it is 'quick' or 'full'.")
    if "name" not in weights:
        raise ValueError("weights lacks 'name': say which weights these are, such as 'resnet18'.")
    return {
        "mode": mode,
        "data": data,
        "n": int(n),
        "weights": dict(weights),
        "device": device_name(device),
        "minutes": round(float(minutes), 1),
        "seed": int(seed),
        "settings": dict(settings),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def of_rows(
    rows: pd.DataFrame,
    mode: str,
    data: str,
    weights: Mapping[str, object],
    seed: int,
    settings: Mapping[str, object],
    unit: str = "image",
) -> dict[str, object]:
    """The record of per-image rows: each may have been measured elsewhere, and says by what and how long it took.

    Args:
        rows: with image, device, torch and seconds: those of a ``unit``, which stand in each of its rows. What two
            measurements made of one unit took two times.
        unit: column of what is measured in one go.
        mode, data, weights, seed, settings: as for :func:`collect`.

    >>> of_rows(rows, "full", "imagenet-val", model.weights, 0, settings)["device"]
    'CPU, 1 thread and CPU, 2 threads'
    """
    minutes = rows.drop_duplicates([unit, "seconds"])["seconds"].sum() / 60
    record = collect(mode, data, rows["image"].nunique(), weights, "cpu", minutes, seed, settings)
    record["device"] = " and ".join(sorted(rows["device"].unique()))
    record["versions"]["torch"] = " and ".join(sorted(rows["torch"].unique()))
    return record


def line(provenance: Mapping[str, object]) -> str:
    """One line of text for the foot of a table.

    >>> line(record)
    'full run on imagenet-val, N = 500; weights resnet18 (sha256 0123456789ab, top-1 71.8 %); CPU, 2 threads; ...'
    """
    weights = provenance["weights"]
    about = [f"sha256 {weights['sha256'][:12]}"] if weights.get("sha256") else []
    about += [str(weights["accuracy"]) if weights.get("accuracy") else "accuracy not measured"]
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return (
        f"{provenance['mode']} run on {provenance['data']}, N = {provenance['n']:,}; "
        f"weights {weights['name']} ({', '.join(about)}); {provenance['device']}; "
        f"{provenance['minutes']:g} min; seed {provenance['seed']}; {versions}; "
        f"commit {provenance['commit']} of {provenance['date']}"
    )


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    return {name: _version(name) for name in PACKAGES}


def commit() -> str:
    """Short git commit, with ``+`` where tracked code differs from it; ``"none"`` outside a git checkout.

    What a run itself writes (results, figures, notebooks' outputs) does not count as a change.
    """
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--", "lib", "requirements.txt", "pyproject.toml")
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return head + ("+" if changed else "")


def device_name(device: str | torch.device) -> str:
    """``"CPU, 2 threads"`` or the name of the GPU."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", "-C", str(paths.root()), *arguments], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()

"""Where a number comes from: the record kept with every result, and the line printed under every table."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

import torch

from campanion import paths

if TYPE_CHECKING:
    import pandas as pd

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
    """The record of one run on ``n`` images: the arguments, ``versions``, ``commit`` (a ``+`` marks changed code) and
    ``date`` (UTC).

    ``weights``: their ``name``, and where known ``sha256`` and ``accuracy``, measured, in words. ``settings``: what
    decides the numbers, as given to :class:`~campanion.results.rows.RowStore`.
    """
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


def of_rows(rows: pd.DataFrame, mode: str, data: str, unit: str = "image", **arguments: object) -> dict[str, object]:
    """:func:`collect` for per-image rows, which say on what they were measured and the seconds of their ``unit``.

    What two measurements made of one unit took two times.
    """
    minutes = rows.drop_duplicates([unit, "seconds"])["seconds"].sum() / 60
    record = collect(mode, data, rows["image"].nunique(), device="cpu", minutes=minutes, **arguments)
    return measured_on(record, sorted(rows["device"]), sorted(rows["torch"]))


def measured_on(record: dict, devices: Iterable[str], torch_versions: Iterable[str]) -> dict:
    """``record`` with the devices and versions of torch that measured it, where those may have been several."""
    record["device"] = " and ".join(dict.fromkeys(devices))
    record["versions"]["torch"] = " and ".join(dict.fromkeys(torch_versions))
    return record


def line(provenance: Mapping[str, object]) -> str:
    """One line for the foot of a table: mode, data, N, weights and their accuracy, device, time, versions, commit."""
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


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Installed versions of packages, by default of those that decide numbers."""
    installed = {}
    for name in packages:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def commit() -> str:
    """Short git commit, with ``+`` where the library differs from it; ``"none"`` outside a git checkout."""
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


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", "-C", str(paths.root()), *arguments], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()

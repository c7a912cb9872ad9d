"""The files of a training run: its state after each epoch, which is whole or is not read, and its learning curves.

A state is written under another name, flushed to the disk and renamed; the one before it is kept. It begins with the
SHA-256 of what follows, because a damaged file of tensors can be read without a complaint. Nothing is unpickled but
tensors and plain values (``torch.load(weights_only=True)``).
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch

from campanion.errors import MissingData
from campanion.files import write_whole

STATE, PREVIOUS = "state.pt", "state.previous.pt"


def save_state(folder: Path, state: Mapping[str, object]) -> None:
    """Keep ``state`` as the run's last, and the one before."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / PREVIOUS)
    write_whole(folder / STATE, hashlib.sha256(content).digest() + content)


def load_state(folder: Path) -> dict[str, object] | None:
    """The run's last whole state, on the CPU; None where it has none yet.

    Raises:
        ValueError: there are states, but each is damaged; says what to do.
    """
    files = [folder / name for name in (STATE, PREVIOUS) if (folder / name).exists()]
    for file in files:
        content = file.read_bytes()
        if content[:32] == hashlib.sha256(content[32:]).digest():
            try:
                return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as problem:
                raise ValueError(f"{file} was not read: it holds more than tensors and plain values.") from problem
    if files:
        raise ValueError(f"The state of this run is damaged ({files[0]}). Delete {folder} to train from the beginning.")
    return None


def write_history(folder: Path, history: Sequence[Mapping[str, object]]) -> None:
    """``history.csv``: one row per epoch."""
    write_whole(folder / "history.csv", pd.DataFrame(history).to_csv(index=False).encode())


def read_history(folder: str | Path) -> pd.DataFrame:
    """The learning curves of a run: one row per epoch.

    Raises:
        MissingData: no epoch of the run has ended.
    """
    file = Path(folder) / "history.csv"
    if not file.is_file():
        raise MissingData(f"There is no {file}: no epoch of this run has ended.")
    return pd.read_csv(file)


def open_tensorboard(folder: Path, wanted: bool | None, epoch: int) -> object | None:
    """A TensorBoard writer that goes on at ``epoch``, or None where it is not wanted or (``None``) not installed.

    Raises:
        ValueError: it is wanted, but not installed.
    """
    installed = find_spec("tensorboard") is not None
    if wanted and not installed:
        raise ValueError("tensorboard=true needs TensorBoard: `pip install tensorboard`, or leave the setting out.")
    if wanted is False or not installed:
        return None
    from torch.utils.tensorboard import SummaryWriter  # only here: the package is optional

    return SummaryWriter(str(folder / "tensorboard"), purge_step=epoch)

"""The files of a training run: its state after each epoch, its learning curves, and the finished checkpoint.

A state is whole or is not read: it is written under another name, flushed to the disk and renamed, and the one before
it is kept. It begins with the SHA-256 of what follows, because a damaged file of tensors can be read without a
complaint. Nothing is unpickled but tensors and plain values (``torch.load(weights_only=True)``).

A checkpoint is three files: weights, facts (``.json``), and a card (``.md``) made of the facts alone (``card.md.j2``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors.torch import save
from torch import Tensor

from campanion import paths
from campanion.errors import MissingData
from campanion.models.load import build_network
from campanion.models.preprocess import Preprocess
from campanion.paths import replacing, sha256, write_whole
from campanion.results.provenance import commit, versions

STATE, PREVIOUS = "state.pt", "state.previous.pt"
_CARD = Environment(
    loader=PackageLoader("campanion", "training"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip


def save_state(folder: Path, state: Mapping[str, object]) -> None:
    """Keep ``state`` as the run's last, and the one before; its ``history`` also as ``history.csv``."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / PREVIOUS)
    write_whole(folder / STATE, hashlib.sha256(content).digest() + content)
    if state.get("history"):
        write_history(folder, state["history"])


def load_state(folder: Path) -> dict[str, object] | None:
    """The run's last whole state, on the CPU; None where it has none yet; ValueError where each is damaged."""
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
    """The learning curves of a run, one row per epoch; MissingData where no epoch has ended."""
    file = Path(folder) / "history.csv"
    if not file.is_file():
        raise MissingData(f"There is no {file}: no epoch of this run has ended.")
    return pd.read_csv(file)


def open_tensorboard(folder: Path, wanted: bool | None, epoch: int) -> object | None:
    """A TensorBoard writer that continues the log at ``epoch``; None if not wanted or (``None``) not installed."""
    installed = find_spec("tensorboard") is not None
    if wanted and not installed:
        raise ValueError("tensorboard=true needs TensorBoard: `pip install tensorboard`, or leave the setting out.")
    if wanted is False or not installed:
        return None
    from torch.utils.tensorboard import SummaryWriter  # only here: the package is optional

    return SummaryWriter(str(folder / "tensorboard"), purge_step=epoch)


class Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def minutes(self, digits: int = 1) -> dict[str, float]:
        """``minutes`` and ``cpu_minutes`` (of this process, all threads) until now."""
        wall, cpu = (time.monotonic() - self._wall) / 60, (time.process_time() - self._cpu) / 60
        return {"minutes": round(wall, digits), "cpu_minutes": round(cpu, digits)}


def halved(state: Mapping[str, Tensor], dimensions: int = 2) -> dict[str, Tensor]:
    """On the CPU; float16 from so many ``dimensions`` on: biases and batch norm are few, and stay float32."""
    half = {k: t.half() if t.is_floating_point() and t.ndim >= dimensions else t for k, t in state.items()}
    return {name: t.detach().cpu().contiguous() for name, t in half.items()}


def as_stored(
    spec: Mapping[str, object], state: Mapping[str, Tensor], class_names: Sequence[str], preprocess: Preprocess
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Network and weights as they are stored: ``scenes_vgg`` is trained with batch norm and stored with it folded."""
    options = dict(spec["options"] or {})
    if spec["network"] != "scenes_vgg" or not options.pop("batch_norm", False):
        return dict(spec), dict(state)
    network = build_network(spec, class_names, preprocess)
    network.load_state_dict(state)
    return {**spec, "options": options}, network.folded().state_dict()


def write_checkpoint(
    path: Path,
    state: Mapping[str, Tensor],
    facts: Mapping[str, object],
    measure: Callable[[Path], Mapping[str, object]],
    about: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Write ``RUN.safetensors`` (``path``), ``.json`` and ``.md``; the facts, as in the ``.json``.

    They are made and measured in the folder ``untested-RUN`` and then take their places, the weights last: a checkpoint
    that can be found is whole and has its accuracy, whenever the run is killed. ``measure`` gives more facts
    (``accuracy``) of the network as read back from the path that it is given.
    """
    # The metadata has one entry: safetensors writes several in random order, and the file shall be the same bytes.
    draft = path.parent / f"untested-{path.stem}" / path.name
    about = about or {"made_with": f"campanion train, {facts['name']}"}
    write_whole(draft, save(dict(state), metadata=dict(about)))
    stored = {"versions": versions(), "commit": commit(), "bytes": draft.stat().st_size, "sha256": sha256(draft)}
    complete = {**facts, **stored}
    _write_facts(draft, complete)
    complete |= measure(draft)
    _write_facts(draft, complete)
    write_whole(draft.with_suffix(".md"), card(complete))
    path.unlink(missing_ok=True)  # never older weights beside a newer card
    for suffix in (".json", ".md", ".safetensors"):
        draft.with_suffix(suffix).replace(path.with_suffix(suffix))
    shutil.rmtree(draft.parent)  # with what a killed run left there
    return complete


def export_checkpoint(path: Path, folder: str | Path, weights: bool = True) -> list[Path]:
    """Copy a checkpoint, or all but its ``weights``, to ``folder`` (relative to the project's root); the files."""
    target = paths.root() / Path(folder).expanduser()
    files = [target / f"{path.stem}{suffix}" for suffix in (".json", ".md", *[".safetensors"] * weights)]
    for file in files:
        with replacing(file) as part:
            shutil.copyfile(path.with_suffix(file.suffix), part)
    return files


def _write_facts(path: Path, facts: Mapping[str, object]) -> None:
    write_whole(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")


def card(facts: Mapping[str, object]) -> str:
    """The model card, from the facts alone."""
    return _CARD.get_template("card.md.j2").render(facts=json.loads(json.dumps(facts)))

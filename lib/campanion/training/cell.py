"""One training run of the grid: its settings and name, whether it is finished, what is left of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pandas as pd
import yaml

from campanion import paths
from campanion.data.registry import find_entry
from campanion.errors import MissingData
from campanion.models.load import read_card
from campanion.training.checkpoint import read_history
from campanion.training.settings import FOLDER, Config, difference

LEAST = 3  # finished training runs of a method that an interval needs


@dataclass(frozen=True)
class Cell:
    """One training run of the grid."""

    config: Config  #: its settings, with a name
    tables: tuple[str, ...]  #: what uses it: table1, table2, table3, fig3, fig5, fig6
    scale: str

    @property
    def name(self) -> str:
        """Of the run and its checkpoint."""
        return self.config.run

    @property
    def method(self) -> str:
        """The network's attention in one word."""
        return self.config.method

    @property
    def checkpoint(self) -> Path:
        """The committed checkpoint where there is one, else the one that training writes or will write."""
        committed = paths.checkpoints_dir() / f"{self.name}.safetensors"
        return committed if committed.is_file() else self.config.place / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """The training run's card: committed, alone where the weights are too large for it, or beside the weights."""
        committed = paths.checkpoints_dir() / f"{self.name}.json"
        return committed if committed.is_file() else self.checkpoint.with_suffix(".json")

    @property
    def weights_here(self) -> bool:
        """Is the checkpoint there, with its card?"""
        return self.checkpoint.is_file() and self.checkpoint.with_suffix(".json").is_file()

    @property
    def done(self) -> bool:
        """Is the run finished: is its checkpoint there, or its card committed? ValueError: with other settings."""
        if not (self.weights_here or (self.card.parent == paths.checkpoints_dir() and self.card.is_file())):
            return False
        if changed := difference(read_card(self.card)["settings"], self.config.settled()):
            raise ValueError(f"{self.card} was trained with other settings ({changed}): delete or rename it.")
        return True

    @property
    def history(self) -> pd.DataFrame | None:
        """The learning curves of a training run that has ended an epoch here."""
        try:
            return read_history(self.config.place)
        except MissingData:
            return None

    @property
    def epochs(self) -> int:
        """Epochs that have ended, of ``config.numbers.epochs``."""
        return 0 if self.history is None else len(self.history)

    @property
    def images(self) -> int:
        """Training images that the network still has to see, each time counted."""
        if self.done:
            return 0
        epoch = self.config.limit or read_grid()["pictures"][self.config.data]
        return (self.config.numbers.epochs - self.epochs) * epoch

    @cached_property
    def missing_data(self) -> str | None:
        """The name of its data set, where that is not under ``CAMPANION_DATA``."""
        if self.config.data.startswith(FOLDER):
            folder = paths.data_dir() / self.config.folder_of_classes / "train"
            return None if folder.is_dir() else self.config.data_name
        entry = find_entry(self.config.data)
        return self.config.data if entry.layouts and entry.find(paths.data_dir()) is None else None


def by_network(cells: Iterable[Cell]) -> list[list[Cell]]:
    """``cells`` in groups of one data set, size of image, network and epochs: what a run of a result is made of."""
    groups = defaultdict(list)
    for cell in cells:
        groups[_key(cell.config)].append(cell)
    return list(groups.values())


def longest(groups: Iterable[list[Cell]]) -> list[list[Cell]]:
    """Of groups that differ in their epochs alone, the longest training runs that can answer, else the shortest.

    Longer ones can once :data:`LEAST` networks of each method (or as many as the group has) are finished.
    """
    chosen: dict[tuple, list[Cell]] = {}
    for group in sorted(groups, key=lambda cells: cells[0].config.numbers.epochs):
        planned, done = (Counter(cell.method for cell in part) for part in (group, [c for c in group if c.done]))
        key = _key(group[0].config)[:3]
        if key not in chosen or all(done[method] >= min(LEAST, count) for method, count in planned.items()):
            chosen[key] = group
    return list(chosen.values())


def _key(config: Config) -> tuple:
    return config.data_name, config.pixels, config.network, config.numbers.epochs


def read_grid() -> dict:
    """``configs/grids/lfi.yaml``; read-only for callers."""
    path = paths.root() / "configs" / "grids" / "lfi.yaml"
    return _read(str(path), path.stat().st_mtime_ns)


@cache
def _read(path: str, _changed: int) -> dict:
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))

"""The training runs behind LFI-CAM's tables and figures: ``configs/grids/lfi.yaml``, read as cells.

A cell is one training run with one checkpoint, however many tables use it. ``docs/training.md`` has the scales and the
commands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import pandas as pd
import torch
import yaml

from campanion import paths
from campanion.data.registry import find_entry
from campanion.errors import MissingData, one_of
from campanion.models.load import read_card
from campanion.training.checkpoint import read_history
from campanion.training.settings import FOLDER, Config, attention_of, difference, make_config

#: What uses the cells, by the beginning of the notebook's name.
TABLES = {"11": "table1", "12": "table2", "13": "table3", "14": "fig6", "15": "fig3", "16": "fig5"}
#: Shorter training runs that a page shows until those of a scale are finished.
STANDS_IN = {"reduced": "brief"}
_CROSSED = ("data", "network", "method")
_OTHER = ("tables", "method", "lr_seed")
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
    def kind(self) -> tuple[str, str, int]:
        """Network, method and side of the images: training runs that are alike in these are equally fast."""
        return self.config.network, self.method, self.config.pixels

    @property
    def checkpoint(self) -> Path:
        """The committed checkpoint where there is one, else the one that training writes or will write."""
        return self._file(".safetensors")

    @property
    def card(self) -> Path:
        """The training run's card: committed, alone where the weights are too large for it, or beside the weights."""
        return self._file(".json")

    def _file(self, suffix: str) -> Path:
        committed = paths.checkpoints_dir() / f"{self.name}{suffix}"
        return committed if committed.is_file() else self.config.place / committed.name

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


def longest(cells: Iterable[Cell]) -> list[list[Cell]]:
    """``cells`` in groups of one data set, size of image, network and epochs: what a run of a result is made of.

    Of groups that differ in their epochs alone, only the longest training runs that can answer, else the shortest.
    Longer ones can once :data:`LEAST` networks of each method (or as many as the group has) are finished.
    """
    groups = defaultdict(list)
    for cell in cells:
        config = cell.config
        groups[config.numbers.epochs, (config.data_name, config.pixels, config.network)].append(cell)
    chosen: dict[tuple, list[Cell]] = {}
    for (_, network), group in sorted(groups.items(), key=lambda item: item[0][0]):
        planned, done = (Counter(cell.method for cell in part) for part in (group, [c for c in group if c.done]))
        if network not in chosen or all(done[method] >= min(LEAST, count) for method, count in planned.items()):
            chosen[network] = group
    return list(chosen.values())


def read_grid() -> dict:
    """``configs/grids/lfi.yaml``; read-only for callers."""
    path = paths.root() / "configs" / "grids" / "lfi.yaml"
    return _read(str(path), path.stat().st_mtime_ns)


@cache
def _read(path: str, _changed: int) -> dict:
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def default_scale() -> str:
    """``"short"`` where there is a GPU, else ``"reduced"``."""
    return "short" if torch.cuda.is_available() else "reduced"


def cells(scale: str | None = None, table: str | Sequence[str] | None = None) -> list[Cell]:
    """The cells of a scale (:func:`default_scale`), each once, in the order of the YAML file.

    ``table``: only those that this table or figure, or these, use. ValueError: unknown scale or table.

    >>> [cell.name for cell in cells("reduced", "table1") if not cell.done]
    """
    grid, scale = read_grid(), scale or default_scale()
    one_of("scale", scale, grid["scales"])
    wanted = list(TABLES.values()) if table is None else [table] if isinstance(table, str) else list(table)
    for name in wanted:
        one_of("table of the grid", name, TABLES.values())
    by_name: dict[str, Cell] = {}
    part = grid["scales"][scale]
    for group in part["groups"]:
        for config in _configs({**part["settings"], **group}, scale):
            before = by_name.get(config.run, Cell(config, (), scale))
            if before.config != config:
                raise ValueError(f"Two cells of scale {scale} are called {config.run}, with different settings.")
            by_name[config.run] = replace(before, tables=tuple(dict.fromkeys((*before.tables, *group["tables"]))))
    return [cell for cell in by_name.values() if set(cell.tables) & set(wanted)]


def _configs(group: Mapping[str, object], scale: str) -> Iterable[Config]:
    """The settings of a group's cells: its lists crossed, each with a name."""
    lists = [_listed(group[key]) for key in _CROSSED]
    pairs = group.get("lr_seed") or list(product(_listed(group["lr"]), _listed(group["seed"])))
    folder = {"folder": str(paths.out_dir() / "quick" / "training")} if scale == "quick" else {}
    for (lr, seed), data, network, method in product(pairs, *lists):
        settings = {key: value for key, value in group.items() if key not in _OTHER} | folder | attention_of(method)
        settings |= {"data": data, "network": network, "lr": lr, "seed": seed}
        config = make_config(settings)
        length = f"e{config.numbers.epochs}" if "epochs" in group else config.recipe
        name = f"{config.data_name}_{network}_{method}_lr{lr:g}_seed{seed}_{length}"
        yield make_config({**settings, "name": name})


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def tables_of(notebooks: Iterable[str]) -> list[str]:
    """The tables and figures whose notebooks are among ``notebooks``: of ``["11_lfi_table1_cifar"]``, ``table1``."""
    return [TABLES[key[:2]] for key in notebooks if key[:2] in TABLES]


def train_cells(chosen: Sequence[Cell]) -> None:
    """Train the cells that are not done, one after another; a run that was stopped resumes.

    MissingData: the data of one of them are not there; nothing is trained.
    """
    from campanion.training.loop import train  # takes seconds to import

    missing = [cell for cell in chosen if not cell.done]
    for cell in missing:
        if cell.missing_data:
            raise MissingData(
                f"{cell.name} needs {cell.missing_data}, which is not in {paths.data_dir()}: "
                "`python -m campanion data status` says how to get it."
            )
    for cell in missing:
        train(cell.config)

"""The trainings behind LFI-CAM's tables and figures: one list of cells (``configs/grids/lfi.yaml``) at several scales.

====================================================  ==============================
``python -m campanion grid [--scale S] [--table T]``  what is missing, and its hours
``python -m campanion grid ... --run [--only NAME]``  train it; resumes
====================================================  ==============================

A scale is ``quick`` (generated scenes), ``brief`` or ``reduced`` (a CPU), ``short`` (a GPU) or ``paper`` (the paper's
recipe); by default ``short`` where there is a GPU and else ``reduced``. A cell is one training with one checkpoint,
however many tables use it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import pandas as pd
import torch
import yaml

from campanion import paths
from campanion.data.registry import find_entry
from campanion.errors import MissingData, unknown
from campanion.models.trained import read_card
from campanion.training.settings import FOLDER, Config, make_config
from campanion.training.state import read_history

#: What uses the cells, by the beginning of the notebook's name.
TABLES = {"11": "table1", "12": "table2", "13": "table3", "14": "fig6", "15": "fig3", "16": "fig5"}
_CROSSED = ("data", "network", "method")
_OTHER = ("tables", "method", "lr_seed")


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        config: its settings, with a name.
        tables: what uses it: ``table1``, ``table2``, ``table3``, ``fig3``, ``fig5``, ``fig6``.
        scale: the scale that it is of.
    """

    config: Config
    tables: tuple[str, ...]
    scale: str

    @property
    def name(self) -> str:
        """Of the run and its checkpoint."""
        return self.config.run

    @property
    def method(self) -> str:
        """``plain``, ``abn`` or ``lfi-GENERATION``, with ``-finFIN`` where FIN is not trained."""
        return method_of(self.config.attention, self.config.generation, self.config.fin)

    @property
    def checkpoint(self) -> Path:
        """The committed checkpoint where there is one, else the one that training writes or will write."""
        committed = paths.checkpoints_dir() / f"{self.name}.safetensors"
        return committed if committed.is_file() else self.config.place / f"{self.name}.safetensors"

    @property
    def done(self) -> bool:
        """Is the checkpoint there?

        Raises:
            ValueError: it is there, but was trained with other settings; names them.
        """
        if not (self.checkpoint.is_file() and self.checkpoint.with_suffix(".json").is_file()):
            return False
        usual = {name: field.default for name, field in Config.model_fields.items()}  # a card may lack the usual
        found = usual | read_card(self.checkpoint)["settings"]
        wanted = usual | json.loads(json.dumps(self.config.settled(), default=list))
        if differing := sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key)):
            said = "; ".join(f"{key} is {found.get(key)!r}, not {wanted.get(key)!r}" for key in differing)
            raise ValueError(f"{self.checkpoint} was trained with other settings ({said}): delete or rename it.")
        return True

    @property
    def history(self) -> pd.DataFrame | None:
        """The learning curves of a training that has ended an epoch here."""
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
        """Training pictures that the network still has to see, each time counted."""
        if self.done:
            return 0
        one = self.config.limit or read_grid()["pictures"][self.config.data]
        return (self.config.numbers.epochs - self.epochs) * one

    @cached_property
    def missing_data(self) -> str | None:
        """The name of its data set, where that is not under ``CAMPANION_DATA``."""
        if self.config.data.startswith(FOLDER):
            return None if (paths.data_dir() / self.config.folder_of_classes).is_dir() else self.config.data_name
        entry = find_entry(self.config.data)
        return self.config.data if entry.layouts and entry.find(paths.data_dir()) is None else None


def by_network(cells: Iterable[Cell]) -> list[list[Cell]]:
    """``cells`` in groups of one data set, size of image, network and epochs: what a run of a result is made of."""
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_key(cell.config), []).append(cell)
    return list(groups.values())


def _key(config: Config) -> tuple:
    return config.data_name, config.pixels, config.network, config.numbers.epochs


def method_of(attention: str | None, generation: str, fin: str = "trained") -> str:
    """The grid's word for a network's attention.

    >>> method_of("lfi", "paper", "frozen")
    'lfi-paper-finfrozen'
    """
    if attention != "lfi":
        return attention or "plain"
    return f"lfi-{generation}" + ("" if fin == "trained" else f"-fin{fin}")


def read_grid() -> dict:
    """``configs/grids/lfi.yaml``; not to be changed by who reads it."""
    path = paths.root() / "configs" / "grids" / "lfi.yaml"
    return _read(str(path), path.stat().st_mtime_ns)


@cache
def _read(path: str, _changed: int) -> dict:
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def default_scale() -> str:
    """``"short"`` where there is a GPU, else ``"reduced"``."""
    return "short" if torch.cuda.is_available() else "reduced"


def cells(scale: str | None = None, table: str | Sequence[str] | None = None) -> list[Cell]:
    """The cells of a scale, each once, in the order of the YAML file.

    Args:
        scale: None is :func:`default_scale`.
        table: only those that these tables or figures use.

    Raises:
        ValueError: unknown scale or table.

    Example:
        >>> [cell.name for cell in cells("reduced", "table1") if not cell.done]
    """
    grid, scale = read_grid(), scale or default_scale()
    if scale not in grid["scales"]:
        raise ValueError(unknown("scale", scale, grid["scales"]))
    wanted = list(TABLES.values()) if table is None else [table] if isinstance(table, str) else list(table)
    for name in wanted:
        if name not in TABLES.values():
            raise ValueError(unknown("table of the grid", name, TABLES.values()))
    found: dict[str, Cell] = {}
    part = grid["scales"][scale]
    for group in part["groups"]:
        for config in _configs({**part["settings"], **group}, scale):
            before = found.get(config.run)
            if before is not None and before.config != config:
                raise ValueError(f"Two cells of scale {scale} are called {config.run}, with different settings.")
            tables = dict.fromkeys((*(before.tables if before else ()), *group["tables"]))
            found[config.run] = Cell(config, tuple(tables), scale)
    return [cell for cell in found.values() if set(cell.tables) & set(wanted)]


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


def attention_of(method: str) -> dict[str, str]:
    """The settings that a method stands for; the inverse of :func:`method_of`."""
    attention, *rest = method.split("-")
    if attention == "plain":
        return {}
    named = {"generation": rest[0]} if rest else {}
    if len(rest) > 1:
        named["fin"] = rest[1].removeprefix("fin")
    return {"attention": attention, **named}


def tables_of(notebooks: Iterable[str]) -> list[str]:
    """The tables and figures whose notebooks are among ``notebooks``, by their names.

    >>> tables_of(["11_lfi_table1_cifar", "20_fd_fig1_fig6_discriminability"])
    ['table1']
    """
    return [TABLES[key[:2]] for key in notebooks if key[:2] in TABLES]


def train_cells(chosen: Sequence[Cell]) -> None:
    """Train the cells that are not done, one after another; a stopped training goes on.

    Raises:
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

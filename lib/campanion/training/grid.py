"""The training runs behind LFI-CAM's tables and figures: one list of cells (``configs/grids/lfi.yaml``), many scales.

====================================================  ==============================
``python -m campanion grid [--scale S] [--table T]``  what is missing, and its hours
``python -m campanion grid ... --run [--only NAME]``  train it; resumes
====================================================  ==============================

A scale is ``quick`` (generated scenes), ``brief`` or ``reduced`` (a CPU), ``short`` (a GPU) or ``paper`` (the paper's
recipe); by default ``short`` where there is a GPU and else ``reduced``. A cell is one training run with one checkpoint,
however many tables use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch

from campanion import paths
from campanion.errors import MissingData, unknown
from campanion.training.cell import Cell, read_grid
from campanion.training.settings import Config, attention_of, make_config

#: What uses the cells, by the beginning of the notebook's name.
TABLES = {"11": "table1", "12": "table2", "13": "table3", "14": "fig6", "15": "fig3", "16": "fig5"}
#: Shorter training runs that a page shows until those of a scale are finished.
STANDS_IN = {"reduced": "brief"}
_CROSSED = ("data", "network", "method")
_OTHER = ("tables", "method", "lr_seed")


def default_scale() -> str:
    """``"short"`` where there is a GPU, else ``"reduced"``."""
    return "short" if torch.cuda.is_available() else "reduced"


def cells(scale: str | None = None, table: str | Sequence[str] | None = None) -> list[Cell]:
    """The cells of a scale (:func:`default_scale`), each once, in the order of the YAML file.

    ``table``: only those that this table or figure, or these, use. ValueError: unknown scale or table.

    >>> [cell.name for cell in cells("reduced", "table1") if not cell.done]
    """
    grid, scale = read_grid(), scale or default_scale()
    if scale not in grid["scales"]:
        raise ValueError(unknown("scale", scale, grid["scales"]))
    wanted = list(TABLES.values()) if table is None else [table] if isinstance(table, str) else list(table)
    for name in wanted:
        if name not in TABLES.values():
            raise ValueError(unknown("table of the grid", name, TABLES.values()))
    by_name: dict[str, Cell] = {}
    part = grid["scales"][scale]
    for group in part["groups"]:
        for config in _configs({**part["settings"], **group}, scale):
            before = by_name.get(config.run, Cell(config, (), scale))
            if before.config != config:
                raise ValueError(f"Two cells of scale {scale} are called {config.run}, with different settings.")
            by_name[config.run] = replace(before, tables=tuple(dict.fromkeys((*before.tables, *group["tables"]))))
    return [cell for cell in by_name.values() if set(cell.tables) & set(wanted)]


def with_stand_ins(scale: str | None = None, table: str | Sequence[str] | None = None) -> list[Cell]:
    """:func:`cells`, those of :data:`STANDS_IN` before them: what a page chooses from with :func:`longest`."""
    scale = scale or default_scale()
    return [cell for name in (STANDS_IN.get(scale), scale) if name for cell in cells(name, table)]


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

"""``campanion train`` and ``campanion grid``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pkgutil import resolve_name

import click

from campanion.errors import one_of, sentence_of

# Training runs that no file of configs/ describes: the function that runs each, and the arguments that name it.
_TRAININGS = {
    "voc_vgg16": ("campanion.training.voc:run", {"head": "vgg16"}),
    "voc_mlp": ("campanion.training.voc:run", {"head": "mlp"}),
    "voc_linear": ("campanion.training.voc:run", {"head": "linear"}),
    "vqa_scenes": ("campanion.training.vqa:run", {"data": "scenes"}),
    "vqa_v2": ("campanion.training.vqa:run", {"data": "vqa-v2"}),
}


@click.command()
@click.argument("config")
@click.argument("settings", nargs=-1, metavar="[SETTING=VALUE]...")
@click.option("--show", is_flag=True, help="Print the settings and the run's folder; train nothing.")
def train(config: str, settings: Sequence[str], show: bool) -> None:
    """Train a network; the same command continues a training run that was stopped.

    CONFIG is a YAML file, the name of one in configs/, or one of voc_vgg16, voc_mlp, voc_linear, vqa_scenes and
    vqa_v2. Settings such as lr=0.07 seed=1 come on top. Many processes:
    torchrun --nproc_per_node=N -m campanion train CONFIG.
    """
    from campanion.training.settings import parse_changes, read_config

    if config in _TRAININGS:
        _train_named(config, parse_changes(list(settings)), show)
        return
    chosen = read_config(config, parse_changes(list(settings)))
    if show:
        print(json.dumps({**chosen.settled(), "folder": str(chosen.place)}, indent=2))
        return
    from campanion.training.loop import train as train_network  # only here: accelerate takes seconds to import

    if facts := train_network(chosen):
        test = facts["accuracy"]["test"]
        print(f"{chosen.place / facts['name']}.safetensors: {100 * test['top1']:.2f} % of {test['n']:,} test images")


def _train_named(name: str, changes: dict[str, object], show: bool) -> None:
    """Carry out a training run of :data:`_TRAININGS`; its settings are the other arguments of its function."""
    from pydantic import ValidationError, validate_call

    place, fixed = _TRAININGS[name]
    function = resolve_name(place)
    known = {key: p.default for key, p in inspect.signature(function).parameters.items() if key not in fixed}
    for key in changes:
        one_of(f"setting of {name}", key, known)
    if show:
        print(json.dumps(known | changes, indent=2, default=str))
        return
    try:
        facts = validate_call(function)(**fixed, **changes)
    except ValidationError as problem:
        raise ValueError(f"{name}: {sentence_of(problem)}") from problem
    print(json.dumps({"name": facts["name"], "measured": facts["accuracy"]}, indent=2))


@click.command()
@click.option("--scale", help="quick, brief, reduced, short or paper (default: short with a GPU, else reduced).")
@click.option("--table", "tables", multiple=True, help="Only what this table or figure uses; may be repeated.")
@click.option("--notebook", "keys", multiple=True, help="Only what this notebook uses; may be repeated.")
@click.option("--only", metavar="NAME", help="This training run alone.")
@click.option("--run", "run_missing", is_flag=True, help="Train what is missing; a run that was stopped goes on.")
def grid(scale: str | None, tables: Sequence[str], keys: Sequence[str], only: str | None, run_missing: bool) -> None:
    """List the training runs behind LFI-CAM's tables and their hours, or run those that are missing."""
    from campanion.notebooks import find
    from campanion.training.grid import cells, tables_of, train_cells
    from campanion.training.hours import listing

    chosen = cells(scale, tables or None)
    if keys:
        used = set(tables_of(find(key).stem for key in keys))
        chosen = [cell for cell in chosen if used & set(cell.tables)]
    if only:
        known = {cell.name: cell for cell in chosen}
        one_of("cell", only, known)
        chosen = [known[only]]
    if run_missing:
        train_cells(chosen)
    else:
        print(listing(chosen) if chosen else "No training run of this scale is behind it.")

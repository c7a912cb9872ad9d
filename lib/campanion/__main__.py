"""The one command line: ``campanion``, or ``python -m campanion``."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

import click

from campanion import cli
from campanion.errors import unknown

# Trainings that no file of configs/ describes: the function that runs each, and the arguments that name it.
_TRAININGS = {
    "scenes_vgg": ("campanion.training.scenes:run", {"arch": "scenes_vgg"}),
    "scenes_resnet": ("campanion.training.scenes:run", {"arch": "scenes_resnet"}),
    "voc_mlp": ("campanion.training.voc:run", {"head": "mlp"}),
    "voc_linear": ("campanion.training.voc:run", {"head": "linear"}),
    "vqa_scenes": ("campanion.training.vqa:run", {"data": "scenes"}),
    "vqa_v2": ("campanion.training.vqa:run", {"data": "vqa-v2"}),
}


@click.group(
    cls=cli.Commands,
    invoke_without_command=True,
    elsewhere={
        "data": ("campanion.data.__main__:data", "Which data sets and weights are here, and how to get more."),
        "notebooks": ("campanion.notebooks.__main__:notebooks", "Run and check the notebooks."),
    },
)
@click.version_option(package_name="campanion", message="%(prog)s %(version)s")
@click.pass_context
def campanion(ctx: click.Context) -> None:
    """The reproducible companion to LFI-CAM, FD-CAM and LIFT-CAM.

    `campanion COMMAND --help` explains a command. `./reproduce.sh` is `campanion reproduce` with an environment of its
    own; notebooks/40_explore.ipynb is `campanion explain` by mouse.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@campanion.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--model", default="resnet50", show_default=True, help="A name for campanion.load_model.")
@click.option(
    "--methods", default="grad_cam,fd_cam,lift_cam", show_default=True, help="Names with commas between them."
)
@click.option("--class", "target", help="Name or number; of one output higher or lower (default: the predicted class).")
@click.option("--activation", type=click.Choice(["softmax", "sigmoid"]), help="Logits to probabilities (the model's).")
@click.option("--layer", help="Dotted name of the layer (default: the network's last).")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="Folder for the files.")
@click.option("--opacity", type=float, default=0.55, show_default=True, help="Of the maps, 0 to 1.")
@click.option("--palette", default="viridis", show_default=True, help="A colour map of matplotlib's.")
@click.option("--channels", type=int, default=5, show_default=True, help="Of the largest weights, for each method.")
@click.option("--curves", is_flag=True, help="Draw insertion and deletion, too.")
@click.option("--overlay", is_flag=True, help="Write each map over the image at the image's own size, too.")
@click.option("--force", is_flag=True, help="Replace what was written of the same image before.")
@click.option("--device", default="cpu", show_default=True)
def explain(
    images: Sequence[str], methods: str, activation: str | None, out: Path, force: bool, **given: object
) -> int:
    """Explain IMAGES: files, folders (the image files in them) or - for standard input.

    Of each image it writes a figure as PNG and PDF, and the numbers as NPZ: maps, weights, class, probabilities. The
    names say the image, the model, the class and every option that is not the default. An image that cannot be read
    does not stop the others: the exit status is then 1, and 2 where none could be explained.
    """
    from campanion.explorer.files import explain_files
    from campanion.explorer.request import Look, Request, sources
    from campanion.models import load_model
    from campanion.progress import terminal_bar, track

    model, target, layer, device = (given.pop(name) for name in ("model", "target", "layer", "device"))
    names = tuple(dict.fromkeys(name.strip() for name in _split(methods) if name.strip()))
    request = Request(model, names, target, layer, Look(**given), activation)
    files = sources(images)
    network = load_model(model, device=device)
    network.activation = activation or network.activation
    done = 0
    results = explain_files(network, files, request, out, force)
    for source, said, report in track(results, "images", len(files), "image") if len(files) > 1 else results:
        if said:
            terminal_bar.write(f"{source.path}: {said}" if len(files) > 1 else said, file=sys.stderr)
        if report:
            terminal_bar.write(report + "\n" * (len(files) > 1))
            done += 1
    return 0 if done == len(files) else 1 if done else 2


def _split(methods: str) -> list[str]:
    """Names of methods; a comma inside of a name's options (``fd_cam:bias=0,switch=off``) does not end it."""
    parts = methods.split(",")
    for i in range(len(parts) - 1, 0, -1):
        if "=" in parts[i] and ":" not in parts[i]:
            parts[i - 1 : i + 1] = [f"{parts[i - 1]},{parts[i]}"]
    return parts


@campanion.command()
@click.argument("config")
@click.argument("settings", nargs=-1, metavar="[SETTING=VALUE]...")
@click.option("--show", is_flag=True, help="Print the settings and the run's folder; train nothing.")
def train(config: str, settings: Sequence[str], show: bool) -> None:
    """Train a network; the same command continues a training that was stopped.

    CONFIG is a YAML file, the name of one in configs/, or one of scenes_vgg, scenes_resnet, voc_mlp, voc_linear,
    vqa_scenes and vqa_v2. Settings such as lr=0.07 seed=1 come on top. Many processes: torchrun --nproc_per_node=N -m
    campanion train CONFIG.
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
    """Run a training of :data:`_TRAININGS`; its settings are the other arguments of its function."""
    from pydantic import ValidationError, validate_call

    place, fixed = _TRAININGS[name]
    function = resolve_name(place)
    known = {key: p.default for key, p in inspect.signature(function).parameters.items() if key not in fixed}
    for key in changes:
        if key not in known:
            raise ValueError(unknown(f"setting of {name}", key, known))
    if show:
        print(json.dumps(known | changes, indent=2, default=str))
        return
    try:
        facts = validate_call(function)(**fixed, **changes)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise ValueError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from problem
    measured = facts.get("evaluation") or facts["accuracy"]
    print(json.dumps({"name": facts["name"], "measured": measured}, indent=2))


@campanion.command()
@click.option("--scale", help="quick, brief, reduced, short or paper (default: short with a GPU, else reduced).")
@click.option("--table", "tables", multiple=True, help="Only what this table or figure uses; may be repeated.")
@click.option("--notebook", "keys", multiple=True, help="Only what this notebook uses; may be repeated.")
@click.option("--only", metavar="NAME", help="This training alone.")
@click.option("--run", "run_missing", is_flag=True, help="Train what is missing; a training that was stopped goes on.")
def grid(scale: str | None, tables: Sequence[str], keys: Sequence[str], only: str | None, run_missing: bool) -> None:
    """List the trainings behind LFI-CAM's tables and their hours, or run those that are missing."""
    from campanion.training.grid import cells, tables_of, train_cells
    from campanion.training.hours import listing

    chosen = cells(scale, tables or None)
    if keys:
        used = set(tables_of(keys))
        chosen = [cell for cell in chosen if used & set(cell.tables)]
    if only:
        known = {cell.name: cell for cell in chosen}
        if only not in known:
            raise ValueError(unknown("cell", only, known))
        chosen = [known[only]]
    if run_missing:
        train_cells(chosen)
    elif chosen:
        print(listing(chosen))


@campanion.group(cls=cli.Commands)
def trained() -> None:
    """Use trained checkpoints: their accuracy, their maps, and whether the maps of two look alike."""


_LIMIT = click.option("--limit", type=cli.COUNT, metavar="N", help="So many test images.")
_DEVICE = click.option("--device", default="cpu", show_default=True)


@trained.command()
@click.argument("checkpoint")
@_LIMIT
@_DEVICE
def accuracy(checkpoint: str, limit: int | None, device: str) -> None:
    """Top-1 accuracy of CHECKPOINT on its test images."""
    from campanion.experiments.trained import accuracy as measure

    measured = measure(checkpoint, limit, device)
    print(f"top-1 {100 * measured['top1']:.2f} % of {measured['n']:,} images, loss {measured['loss']:.4f}")


@trained.command()
@click.argument("checkpoint")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file, .safetensors.")
@click.option("--method", help="A name of campanion.METHODS (default: the map that the network makes itself).")
@_LIMIT
@_DEVICE
def maps(checkpoint: str, out: Path, method: str | None, limit: int | None, device: str) -> None:
    """Write a map of each test image of CHECKPOINT into one file."""
    from campanion.experiments.trained import maps_of, save_maps
    from campanion.models.trained import read_card

    made, ids, method = maps_of(checkpoint, method, limit, device=device)
    facts = read_card(checkpoint)
    save_maps(made, ids, {"method": method, "name": facts["name"], "sha256": facts["sha256"]}, out)
    print(f"{out}: {method} of {len(made):,} images, {made.shape[1]}x{made.shape[2]}")


@trained.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--threshold", type=float, default=127, show_default=True, help="Of 0 to 255.")
@click.option("--variant", default="paper", help="paper, or official: what the authors' code computes.")
def iou(first: Path, second: Path, threshold: float, variant: str) -> None:
    """IoU of two files of maps, image by image."""
    from campanion.experiments.trained import iou_of

    values = iou_of(first, second, threshold, variant)
    error = values.std() / len(values) ** 0.5
    print(f"mean IoU {values.mean():.4f}, standard error {error:.4f}, {len(values):,} images")


@campanion.command()
@click.option("--write", "target", type=click.Path(path_type=Path), help="Replace the scoreboard in this file.")
@click.option("--check", "checked", type=click.Path(path_type=Path), help="Fail if this file's scoreboard is old.")
def scoreboard(target: Path | None, checked: Path | None) -> int:
    """Print every claim of the papers with its verdict."""
    from campanion.report.scoreboard import update

    if target and checked:
        raise ValueError("Give --write or --check, not both.")
    return update(target or checked, write=checked is None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return cli.run(campanion, arguments)


if __name__ == "__main__":
    sys.exit(main())

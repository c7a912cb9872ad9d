"""The one command line: ``campanion``, or ``python -m campanion``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from campanion import cli
from campanion.errors import unknown


@click.group(
    cls=cli.Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
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


campanion.elsewhere = {
    "train": ("campanion.training.commands:train", "Train a network, or continue a training run that was stopped."),
    "grid": ("campanion.training.commands:grid", "List the training runs behind LFI-CAM's tables, or run them."),
    "data": ("campanion.data.__main__:data", "Which data sets and weights are here, and how to get more."),
    "notebooks": ("campanion.notebooks.__main__:notebooks", "Run and check the notebooks."),
}


@campanion.command()
@click.argument("command", default="quick")
@click.argument("targets", nargs=-1)
@click.option("--limit", type=cli.COUNT, metavar="N", help="full: only the first N images of each data set.")
@click.option(
    "--scale", type=click.Choice(["brief", "reduced", "short", "paper"]), help="full lfi: how much is trained."
)
@click.option("--cores", type=cli.COUNT, metavar="N", help="Cores to use (default: all).")
@click.option("--profile", type=click.Path(path_type=Path), help="full: a Snakemake profile, such as profiles/slurm.")
@click.option("-n", "--dry-run", "dry", is_flag=True, help="Say what would be done.")
def reproduce(command: str, targets: Sequence[str], cores: int | None, dry: bool, **full: object) -> int:
    """Run what is missing of COMMAND; ./reproduce.sh is this with an environment of its own.

    \b
    quick    every notebook on generated scenes: on the CPU, offline, minutes (the default)
    full     on real data (CAMPANION_DATA): writes data/results; resumes where it stopped.
             TARGETS are notebooks (21_fd_table1_faithfulness, 21), papers (lfi, fd, lift) or all
    cached   the committed notebooks again on the committed results, in place, with their figures
    figures  every figure of figures/ again, from the committed results
    site     the pages of the notebooks, the library and the scoreboard, into out/site
    test     style, tests, and the committed notebooks against what they store
    notebook JupyterLab on this machine
    """
    from campanion.notebooks import MODES, find, missing_data, workflow

    others = {"figures": lambda: workflow.draw_figures(cores), "site": workflow.build_site,
              "test": workflow.run_tests, "notebook": workflow.open_jupyter}  # fmt: skip
    if command not in (*MODES, *others):
        raise click.UsageError(unknown("command", command, (*MODES, *others)))
    if targets and command != "full":
        raise click.UsageError(f"{targets[0]!r} is one word too many: only full takes targets; see `notebooks run`.")
    if command != "full" and any(full.values()):
        raise click.UsageError("--limit, --scale and --profile belong to full: ./reproduce.sh full --limit 500.")
    if full["profile"] and not (config := full["profile"] / "config.yaml").is_file():
        raise click.UsageError(f"There is no profile {str(full['profile'])!r}: it is a folder with a config.yaml.")
    if full["profile"] and not dry and "CHANGE_ME" in config.read_text(encoding="utf-8"):
        raise click.UsageError(f"{config} has CHANGE_ME in it: put your account and partitions there (docs/slurm.md).")
    every_notebook, keys = workflow.targets(["all"]), workflow.targets(targets)
    workflow.check_room()
    if command in others:
        if dry:
            print(f"Would run: {command}.")
            return 0
        return others[command]()
    if command == "full":
        chosen = keys or every_notebook
        if missing := [sentence for key in chosen for sentence in missing_data(find(key))]:
            raise OSError("\n".join(missing))
        if tables := [key for key in chosen if "_lfi_" in key]:
            from campanion.training.commands import grid

            grid.callback(full["scale"], (), tables, None, run_missing=False)
    status = workflow.run_snakemake(command, keys, cores=cores, dry=dry, **full)
    if status == 0 and not dry:
        from campanion.report.heads import closing

        print(closing())
    return status


@campanion.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--model", default="resnet50", show_default=True, help="For campanion.load_model; or module:function of your own."
)
@click.option(
    "--methods", default="grad_cam,fd_cam,lift_cam", show_default=True, help="Names with commas between them."
)
@click.option("--class", "target", help="Name or number; of one output higher or lower (default: the predicted class).")
@click.option("--activation", type=click.Choice(["softmax", "sigmoid"]), help="Logits to probabilities (the model's).")
@click.option("--layer", help="Dotted name of the layer (default: the network's last).")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="Folder for the files.")
@click.option("--opacity", type=float, default=0.75, show_default=True, help="Of the maps, 0 to 1.")
@click.option("--palette", default="viridis", show_default=True, help="A colour map of matplotlib's.")
@click.option("--channels", type=int, default=5, show_default=True, help="Of the largest weights, for each method.")
@click.option("--curves", is_flag=True, help="Draw insertion and deletion, too.")
@click.option("--overlay", is_flag=True, help="Write each map over the image at the image's own size, too.")
@click.option("--force", is_flag=True, help="Replace what was written of the same image before.")
@cli.DEVICE
def explain(images: Sequence[str], methods: str, activation: str | None, out: Path, force: bool, **look: object) -> int:
    """Explain IMAGES: files, folders (the image files in them) or - for standard input.

    Of each image it writes a figure as PNG and PDF, and the numbers as NPZ: maps, weights, class, probabilities. The
    names say the image, the model, the class and every option that is not the default. An image that cannot be read
    does not stop the others: the exit status is then 1, and 2 where none could be explained.
    """
    from campanion.explorer import Look, Request, explain_files, image_sources, own_network
    from campanion.models import load_model
    from campanion.progress import terminal_bar, track

    model, target, layer, device = (look.pop(name) for name in ("model", "target", "layer", "device"))
    # a comma inside of a name's options (``fd_cam:bias=0,switch=off``) does not end it
    parts = re.split(r",(?![^,:]*=[^,:]*(?:,|$))", methods)
    names = tuple(dict.fromkeys(name.strip() for name in parts if name.strip()))
    request = Request(model, names, target, layer, Look(**look), activation)
    files = image_sources(images)
    network = own_network(model).to(device) if ":" in model else load_model(model, device=device)
    if activation:
        network.activation = activation
    done = 0
    results = explain_files(network, files, request, out, force)
    for source, problem, report in track(results, "images", len(files), "image") if len(files) > 1 else results:
        if problem:
            terminal_bar.write(f"{source.path}: {problem}" if len(files) > 1 else problem, file=sys.stderr)
        if report:
            terminal_bar.write(report + "\n" * (len(files) > 1))
            done += 1
    return 0 if done == len(files) else 1 if done else 2


@campanion.group(cls=cli.Commands)
def trained() -> None:
    """Use trained checkpoints: their accuracy, their maps, and whether the maps of two look alike."""


_LIMIT = click.option("--limit", type=cli.COUNT, metavar="N", help="So many test images.")


@trained.command()
@click.argument("checkpoint")
@_LIMIT
@cli.DEVICE
def accuracy(checkpoint: str, limit: int | None, device: str) -> None:
    """Top-1 accuracy of CHECKPOINT, a file or a name, on its test images."""
    from campanion.experiments import learned

    test = learned.accuracy(checkpoint, limit, device)
    print(f"top-1 {100 * test['top1']:.2f} % of {test['n']:,} images, loss {test['loss']:.4f}")


@trained.command()
@click.argument("checkpoint")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file, .safetensors.")
@click.option("--method", help="A name of campanion.METHODS (default: the map that the network makes itself).")
@_LIMIT
@cli.DEVICE
def maps(checkpoint: str, out: Path, method: str | None, limit: int | None, device: str) -> None:
    """Write a map of each test image of CHECKPOINT into one file."""
    from campanion.experiments.learned import maps_of
    from campanion.experiments.mapfiles import save_maps
    from campanion.models.load import read_card

    values, ids, method = maps_of(checkpoint, method, limit, device=device)
    card = read_card(checkpoint)
    save_maps(values, ids, {"method": method, "name": card["name"], "sha256": card["sha256"]}, out)
    print(f"{out}: {method} of {len(values):,} images, {values.shape[1]}x{values.shape[2]}")


@trained.command()
@click.argument("checkpoint")
@cli.DEVICE
def keep(checkpoint: str, device: str) -> None:
    """Copy a finished training run into the repository: its card, and its weights or, of large ones, its maps."""
    from campanion.experiments import learned

    print(*learned.keep(checkpoint, device), sep="\n")


@trained.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--threshold", type=float, default=127, show_default=True, help="Of 0 to 255.")
@click.option("--variant", default="paper", help="paper, or official: what the authors' code computes.")
def iou(first: Path, second: Path, threshold: float, variant: str) -> None:
    """IoU of two files of maps, image by image."""
    from campanion.experiments.mapfiles import iou_of

    values = iou_of(first, second, threshold, variant)
    error = values.std() / len(values) ** 0.5
    print(f"mean IoU {values.mean():.4f}, standard error {error:.4f}, {len(values):,} images")


@campanion.command()
def scoreboard() -> None:
    """Print every claim of the papers with its verdict."""
    from campanion.report.scoreboard import committed, plain

    print(plain(committed()))


@campanion.command()
@click.option("--write", is_flag=True, help="Renew the heads of the notebooks and the tables of README.md.")
@click.option("--check", is_flag=True, help="Fail if one of them is older than the results.")
def answers(write: bool, check: bool) -> int:
    """Print the answer of every notebook, made from the committed results."""
    from campanion.report.heads import run

    if write and check:
        raise ValueError("Give --write or --check, not both.")
    return run(write, check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return cli.run(campanion, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""``campanion data status`` and ``campanion data fetch NAME``, also as ``python -m campanion.data``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from campanion import cli, paths
from campanion.data.download import DownloadError
from campanion.data.registry import fetch, find_entry, status
from campanion.errors import MissingData

_ROOT = click.option(
    "--root", type=click.Path(path_type=Path), help="Data folder (default: CAMPANION_DATA, else data/)."
)


@click.group(cls=cli.Commands)
def data() -> None:
    """Which data sets and weights are here, and how to get more."""


@data.command("status")
@_ROOT
def print_status(root: Path | None) -> None:
    """Print what is there, where, its size and licence, and how to get the rest."""
    print(status((root or paths.data_dir()).expanduser()))


@data.command("fetch")
@click.argument("name")
@_ROOT
def fetch_set(name: str, root: Path | None) -> int:
    """Download the set or weights NAME (`status` lists them), or say how to obtain it.

    NAME may also be weights/NETWORK of any of torchvision's classifiers.
    """
    root = (root or paths.data_dir()).expanduser()
    find_entry(name)
    try:
        made = fetch(name, root)
    except MissingData:
        raise
    except (DownloadError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"{name} could not be stored in {root}: {problem}.", file=sys.stderr)
        return 1
    print("\n".join(f"{name}: {place}" for place in made) or f"{name}: nothing to fetch, it is there.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 to be obtained by hand or unknown."""
    return cli.run(data, arguments, "python -m campanion.data")


if __name__ == "__main__":
    raise SystemExit(main())

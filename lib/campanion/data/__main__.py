"""``python -m campanion.data status`` and ``python -m campanion.data fetch NAME``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from campanion import paths
from campanion.data.download import DownloadError
from campanion.data.registry import fetch, find_entry, status
from campanion.errors import MissingData


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 failed, 2 to be obtained by hand or unknown."""
    parser = argparse.ArgumentParser(prog="python -m campanion.data", description="Which data are there, and get more.")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--root", type=Path, default=None, help="data folder (default: CAMPANION_DATA, else data/)")
    commands.add_parser("status", parents=[shared], help="what is there")
    getter = commands.add_parser("fetch", parents=[shared], help="download one set, or say how to obtain it")
    getter.add_argument("name", help="a name that `status` lists, or weights/NAME of a torchvision classifier")
    options = parser.parse_args(arguments)
    root = (options.root or paths.data_dir()).expanduser()
    if options.command == "status":
        print(status(root))
        return 0
    try:
        find_entry(options.name)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    try:
        made = fetch(options.name, root)
    except MissingData as problem:
        print(problem, file=sys.stderr)
        return 2
    except (DownloadError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"{options.name} could not be stored in {root}: {problem}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what has come is kept, and the same command resumes.", file=sys.stderr)
        return 130
    print("\n".join(f"{options.name}: {place}" for place in made) or f"{options.name}: nothing to fetch, it is there.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

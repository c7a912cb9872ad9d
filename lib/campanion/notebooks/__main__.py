"""``campanion notebooks list|run|ready|check|text``, also as ``python -m campanion.notebooks``."""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import yaml

from campanion import cli
from campanion.notebooks import find, keys, log_dir, missing_data, notebooks_dir, parameters, run, text
from campanion.notebooks.rules import problems

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def value(text: str) -> object:
    """The value that ``text`` spells in JSON or Python, else the text itself; in brackets words need no quotes.

    >>> value("10"), value("true"), value("None"), value("resnet18"), value("[resnet18, vgg16]")
    (10, True, None, 'resnet18', ['resnet18', 'vgg16'])
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    if text.startswith("[") and text.endswith("]"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            pass
    return text


def given_parameters(pairs: Sequence[str], declared: Mapping[str, str]) -> dict[str, object]:
    """``name=value`` words as parameters; one value for a parameter whose default is a list becomes a list.

    Args:
        pairs: the words.
        declared: the notebook's parameters with their defaults as source text.

    Raises:
        ValueError: a word that is not ``name=value``.

    >>> given_parameters(["models=resnet18,vgg16", "seed=1"], {"models": '["vgg16"]', "seed": "0"})
    {'models': ['resnet18', 'vgg16'], 'seed': 1}
    """
    given = {}
    for pair in pairs:
        name, equals, spelled = pair.partition("=")
        if not equals:
            raise ValueError(f"Write a parameter as name=value, not {pair!r}.")
        given[name] = value(spelled)
        if isinstance(value(declared.get(name, "")), list | tuple) and not isinstance(given[name], list | tuple):
            given[name] = [value(part.strip()) for part in spelled.split(",")]
    return given


@click.group(cls=cli.Commands)
def notebooks() -> None:
    """Run and check the notebooks."""


@notebooks.command("list")
def print_list() -> None:
    """Print the notebooks' names."""
    print("\n".join(keys()))


@notebooks.command("run")
@click.argument("key")
@click.option("--mode", default="quick", help="quick, full or cached (default: quick).")
@click.option("--limit", type=cli.COUNT, metavar="N", help="Images of each data set, where the notebook has a limit.")
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--output", type=click.Path(path_type=Path), help="Where the executed notebook goes.")
def run_notebook(key: str, mode: str, limit: int | None, pairs: Sequence[str], output: Path | None) -> int:
    """Execute the notebook KEY: its name, or the beginning of it.

    A parameter's value is read as JSON or Python (-p seed=1), else as a word; for a parameter that is a list, words
    with commas between them do: -p models=resnet18,vgg16.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    path = find(key)
    declared = parameters(path)
    given = given_parameters(pairs, declared)
    if limit is not None and "limit" in declared:
        given["limit"] = limit
    elif limit is not None:
        print(f"{path.stem} has no parameter limit: it runs whole.", flush=True)
    print(f"{path.stem}: {mode} run started", flush=True)
    start = time.monotonic()
    try:
        made = run(path.stem, mode, given, output)
    except (PapermillExecutionError, DeadKernelError) as error:
        print(_COLOURS.sub("", str(error)), file=sys.stderr)
        log = log_dir(mode) / path.name
        print(f"{path.stem} failed; the notebook up to the failing cell is {log}.", file=sys.stderr)
        return 1
    print(f"{path.stem}: done in {time.monotonic() - start:.0f} s, {made}")
    return 0


@notebooks.command()
@click.argument("keys", nargs=-1, required=True)
def ready(keys: Sequence[str]) -> int:
    """Say what a full run of the notebooks KEYS needs and does not find."""
    missing = [sentence for key in keys for sentence in missing_data(find(key))]
    print("\n".join(missing), end="\n" if missing else "", file=sys.stderr)
    return 2 if missing else 0


@notebooks.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(files: Sequence[Path]) -> int:
    """Is every committed notebook, or each of FILES, as a committed notebook must be?"""
    looked_at = list(files) or sorted(notebooks_dir().glob("*.ipynb"))
    if not looked_at:
        print(f"There is no notebook in {notebooks_dir()}.", file=sys.stderr)
        return 1
    faults = [f"{path.name}: {fault}" for path in looked_at for fault in problems(path)]
    print("\n".join(faults) if faults else f"{len(looked_at)} notebooks are as a committed notebook must be.")
    return 1 if faults else 0


@notebooks.command("text")
@click.argument("file", type=click.Path(path_type=Path))
def print_text(file: Path) -> None:
    """Print the outputs of the executed notebook FILE."""
    print(text(file))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 for a failure and 2 for a wrong request."""
    return cli.run(notebooks, arguments, "python -m campanion.notebooks")


if __name__ == "__main__":
    sys.exit(main())

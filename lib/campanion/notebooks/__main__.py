"""``campanion notebooks list|run|ready|check|text``, also as ``python -m campanion.notebooks``."""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click
import yaml

from campanion import cli
from campanion.notebooks import find, keys, log_dir, missing_data, notebooks_dir, parameters, run, text
from campanion.notebooks.rules import problems

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def value(text: str) -> object:
    """The value that ``text`` spells in JSON or Python, else the text itself; in brackets words need no quotes."""
    for read in (json.loads, ast.literal_eval, *([yaml.safe_load] if text.startswith("[") else [])):
        with suppress(ValueError, SyntaxError, yaml.YAMLError):
            return read(text)
    return text


def given_parameters(pairs: Sequence[str], declared: Mapping[str, str]) -> dict[str, object]:
    """``name=value`` words as parameters; one value for a parameter whose default is a list becomes a list.

    >>> given_parameters(["models=resnet18,vgg16", "seed=1"], {"models": '["vgg16"]', "seed": "0"})
    {'models': ['resnet18', 'vgg16'], 'seed': 1}
    """
    values = {}
    for pair in pairs:
        name, equals, spelled = pair.partition("=")
        if not equals:
            raise ValueError(f"Write a parameter as name=value, not {pair!r}.")
        values[name] = value(spelled)
        if isinstance(value(declared.get(name, "")), list | tuple) and not isinstance(values[name], list | tuple):
            values[name] = [value(word.strip()) for word in spelled.split(",")]
    return values


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
    values = given_parameters(pairs, declared)
    if limit is not None and "limit" in declared:
        values["limit"] = limit
    elif limit is not None:
        print(f"{path.stem} has no parameter limit: it runs whole.", flush=True)
    print(f"{path.stem}: {mode} run started", flush=True)
    start = time.monotonic()
    try:
        executed = run(path.stem, mode, values, output)
    except (PapermillExecutionError, DeadKernelError) as error:
        said = _COLOURS.sub("", str(error))
        refused = _is_refusal(said, getattr(error, "ename", ""))
        print(error.evalue if refused else said, file=sys.stderr)
        log = log_dir(mode) / path.name
        print(f"{path.stem} failed; the notebook up to the failing cell is {log}.", file=sys.stderr)
        return 2 if refused else 1
    print(f"{path.stem}: done in {time.monotonic() - start:.0f} s, {executed}")
    return 0


def _is_refusal(traceback: str, error: str) -> bool:
    """Whether the library refused: that is one sentence, as on any command line; the notebook keeps the traceback."""
    raised = traceback.rpartition("\nFile ")[2].partition("\n")[0].replace("\\", "/")
    return "/lib/campanion/" in raised and error in ("MissingData", "MissingResult", "ValueError")


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
    files = files or sorted(notebooks_dir().glob("*.ipynb"))
    if not files:
        print(f"There is no notebook in {notebooks_dir()}.", file=sys.stderr)
        return 1
    faults = [f"{path.name}: {fault}" for path in files for fault in problems(path)]
    print("\n".join(faults or [f"{len(files)} notebooks are as a committed notebook must be."]))
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

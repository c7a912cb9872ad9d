"""The command line of the notebooks::

python -m campanion.notebooks list
python -m campanion.notebooks run 21_fd_table1_faithfulness --mode full --limit 500
python -m campanion.notebooks run 32_lift_table2_shap_similarity --mode quick -p seed=1
python -m campanion.notebooks ready 21_fd_table1_faithfulness
python -m campanion.notebooks check
python -m campanion.notebooks text out/quick/notebooks/99_scoreboard.ipynb
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from campanion.notebooks import MODES, find, keys, log_dir, missing_data, notebooks_dir, parameters, run, text
from campanion.notebooks.rules import problems

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def value(text: str) -> object:
    """The value that ``text`` spells in JSON or Python, else the text itself.

    >>> value("10"), value("true"), value("None"), value("resnet18")
    (10, True, None, 'resnet18')
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _run_command(args: argparse.Namespace) -> int:
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    given = {}
    for pair in args.parameter:
        name, equals, spelled = pair.partition("=")
        if not equals:
            raise ValueError(f"Write a parameter as name=value, not {pair!r}.")
        given[name] = value(spelled)
    path = find(args.key)
    if args.limit is not None and "limit" in parameters(path):
        given["limit"] = args.limit
    elif args.limit is not None:
        print(f"{path.stem} has no parameter limit: it runs whole.", flush=True)
    print(f"{path.stem}: {args.mode} run started", flush=True)
    start = time.monotonic()
    try:
        output = run(path.stem, args.mode, given, args.output)
    except (PapermillExecutionError, DeadKernelError) as error:
        print(_COLOURS.sub("", str(error)), file=sys.stderr)
        log = log_dir(args.mode) / path.name
        print(f"{path.stem} failed; the notebook up to the failing cell is {log}.", file=sys.stderr)
        return 1
    print(f"{path.stem}: done in {time.monotonic() - start:.0f} s, {output}")
    return 0


def _check_command(args: argparse.Namespace) -> int:
    found = args.paths or sorted(notebooks_dir().glob("*.ipynb"))
    if not found:
        print(f"There is no notebook in {notebooks_dir()}.", file=sys.stderr)
        return 1
    faults = [f"{Path(p).name}: {fault}" for p in found for fault in problems(Path(p))]
    print("\n".join(faults) if faults else f"{len(found)} notebooks are as a committed notebook must be.")
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 for a failure and 2 for a wrong request."""
    parser = argparse.ArgumentParser(prog="python -m campanion.notebooks", description="Run and check the notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the notebooks' names")
    running = commands.add_parser("run", help="execute a notebook")
    running.add_argument("key", help="its name or the beginning of it")
    running.add_argument("--mode", default="quick", help=" | ".join(MODES))
    running.add_argument(
        "--limit", type=int, metavar="N", help="images of each data set, where the notebook takes a limit"
    )
    running.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("--output", metavar="PATH", help="where the executed notebook goes")
    asking = commands.add_parser("ready", help="is the data that a full run needs there?")
    asking.add_argument("keys", nargs="+", metavar="key")
    checking = commands.add_parser("check", help="is every committed notebook as it must be?")
    checking.add_argument("paths", nargs="*")
    printing = commands.add_parser("text", help="print the outputs of an executed notebook")
    printing.add_argument("path")
    args = parser.parse_args(arguments)
    try:
        if args.command == "run":
            return _run_command(args)
        if args.command == "check":
            return _check_command(args)
        if args.command == "ready":
            missing = [sentence for key in args.keys for sentence in missing_data(find(key))]
            print("\n".join(missing), end="\n" if missing else "", file=sys.stderr)
            return 2 if missing else 0
        print("\n".join(keys()) if args.command == "list" else text(args.path))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m campanion.notebooks.figures_all``: every figure of ``figures/``, from the committed results.

The committed notebooks draw them. Here their code runs in a few processes that import the library once, instead of in
a kernel for each notebook, which would take most of the time; the notebooks' files stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from campanion import paths
from campanion.notebooks import find, keys, notebooks_dir


def draw(key: str) -> tuple[str, float, str]:
    """Run a notebook's code in its default mode, in this process; its figures go to ``figures/``.

    Args:
        key: the notebook, see :func:`campanion.notebooks.find`.

    Returns:
        its whole name, the seconds it took and the traceback of an error (empty where there was none).

    Example:
        >>> draw("34")
    """
    import matplotlib.pyplot as plt
    import nbformat

    path = find(key)
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    start, names, error = time.monotonic(), {"__name__": "__main__"}, ""
    with contextlib.chdir(notebooks_dir()), plt.rc_context(), contextlib.redirect_stdout(io.StringIO()):
        try:
            for cell in cells:
                exec(compile(cell.source, path.name, "exec"), names)
        except Exception:
            error = traceback.format_exc(limit=-3)
        finally:
            plt.close("all")
    return path.stem, time.monotonic() - start, error


def draw_all(wanted: Sequence[str], cores: int) -> int:
    """:func:`draw` for several notebooks in ``cores`` processes; prints a line for each and returns how many failed."""
    start, failed = time.monotonic(), 0
    with ProcessPoolExecutor(min(cores, len(wanted)), multiprocessing.get_context("spawn"), _prepare) as pool:
        for done, (key, seconds, error) in enumerate(pool.map(draw, wanted), start=1):
            print(f"{done:2d} of {len(wanted)}  {key}: {'failed' if error else f'{seconds:.0f} s'}", flush=True)
            failed += bool(error)
            print(error, end="", file=sys.stderr)
    print(f"{len(wanted) - failed} notebooks in {time.monotonic() - start:.0f} s; figures: {paths.figures_dir()}")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 if a notebook failed, 2 for a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[2])
    parser.add_argument("keys", nargs="*", help="notebooks, by name or the beginning of it (default: all)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, metavar="N")
    options = parser.parse_args(arguments)
    try:
        wanted = [find(key).stem for key in options.keys] or keys()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if draw_all(wanted, max(1, options.cores)) else 0


def _prepare() -> None:
    """What a kernel of the batch has, too: no window, no progress bars, one thread."""
    os.environ |= {"MPLBACKEND": "agg", "CAMPANION_BATCH": "1"}
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    # IPython, which notebooks display with, puts a module of its own in the place of __main__, so that the processes of
    # the pool would not find the functions there.
    from campanion.notebooks import figures_all

    sys.exit(figures_all.main())

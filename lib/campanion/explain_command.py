"""``python -m campanion explain photo.jpg``: maps of a picture as files, without a notebook."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from campanion.cams.methods import label, parse
from campanion.explorer.bench import Bench, find_class, search
from campanion.explorer.figure import PALETTES, save
from campanion.models import load_model
from campanion.pictures import open_picture, percent
from campanion.report.figures import MAP

DEFAULT = ("grad_cam", "fd_cam", "lift_cam")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m campanion explain",
        description="Explain a picture: writes PNG, PDF and NPZ (maps, weights, class, probabilities).",
    )
    made.add_argument("picture", type=Path, help="a picture file")
    made.add_argument("--model", default="resnet50", help="a name for campanion.load_model (default: %(default)s)")
    made.add_argument(
        "--methods", default=",".join(DEFAULT), help="names with commas between them (default: %(default)s)"
    )
    made.add_argument("--class", dest="target", default=None, help="name or number; by default the predicted class")
    made.add_argument("--layer", default=None, help="dotted name of the layer (default: the network's last)")
    made.add_argument("--out", type=Path, default=Path("out"), help="folder for the files (default: %(default)s)")
    made.add_argument("--opacity", type=float, default=0.55, help="of the maps, 0 to 1 (default: %(default)s)")
    made.add_argument("--palette", default=MAP, help=f"{', '.join(PALETTES)}, or another of matplotlib's")
    made.add_argument("--channels", type=int, default=5, help="of the largest weights, for each method (default: 5)")
    made.add_argument("--curves", action="store_true", help="draw insertion and deletion too")
    return made


def explain(options: argparse.Namespace) -> str:
    """Do what ``options`` of :func:`parser` ask for; returns the report.

    Raises:
        ValueError: unknown method, model, class, layer or palette, or a file that is no picture.
        FileNotFoundError: the picture or the weights are not there.
        OSError: the folder cannot be written.
    """
    methods = list(dict.fromkeys(name.strip() for name in options.methods.split(",") if name.strip()))
    if not methods:
        raise ValueError("--methods names none: give one, such as --methods fd_cam.")
    for name in methods:
        parse(name)
    if options.channels < 0:
        raise ValueError(f"--channels is 0 or more, not {options.channels}.")
    picture = open_picture(options.picture)
    model = load_model(options.model)
    target = None if options.target is None else find_class(model.class_names, options.target)
    bench = Bench(model, picture, options.picture.stem, options.layer)
    target = bench.predicted if target is None else target
    answers = [bench.explain(name, target) for name in methods]
    start = time.perf_counter()
    look = {k: getattr(options, k) for k in ("opacity", "palette", "channels", "curves")}
    files = save(bench, methods, options.out, target, options.model, **look)
    top = search(model.class_names, bench.probabilities)
    width = max(len(label(name)) for name in methods)
    lines = [
        f"{options.model}, layer {bench.layer}: {', '.join(f'{name} {percent(chance)}' for _, name, chance in top)}",
        f"explained: {model.class_names[target]} ({percent(float(bench.probabilities[target]))})",
        "",
        f"{'method'.ljust(width)}  seconds",
        *(
            f"{label(a.method).ljust(width)}  {a.seconds:7.3f}{'  constant: nothing found' if a.degenerate else ''}"
            for a in answers
        ),
        f"(forward pass {bench.seconds:.3f} s, files {time.perf_counter() - start:.1f} s)",
        "",
        *map(str, files),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 asked wrongly or something is missing."""
    options = parser().parse_args(arguments)
    try:
        print(explain(options))
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0

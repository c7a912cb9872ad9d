"""``python -m campanion``: explain a picture, or see the project's commands."""

from __future__ import annotations

import sys

OVERVIEW = """\
campanion: the reproducible companion to LFI-CAM, FD-CAM and LIFT-CAM

  python -m campanion explain PICTURE          maps of a picture of yours, as PNG, PDF and NPZ (--help: its options)
  python -m campanion.data status              which data and weights are here; `fetch NAME` gets more
  python -m campanion.notebooks list           the notebooks; `run KEY` runs one, `check` looks at all
  python -m campanion.report.scoreboard               every claim with its verdict
  python -m campanion.train CONFIG             train a network from a file of configs/
  python -m campanion.experiments.trained ...              networks that were trained: look at them, measure them

  ./reproduce.sh                               every notebook on generated scenes; --help: full runs, tests, JupyterLab
  notebooks/40_explore.ipynb                   the same as `explain`, by mouse"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 2 asked wrongly."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help", "help"):
        print(OVERVIEW)
        return 0
    if given[0] != "explain":
        print(f"Unknown command {given[0]!r}: `python -m campanion` lists the commands.", file=sys.stderr)
        return 2
    from campanion.explain_command import main as explain  # only here: it loads torch

    return explain(given[1:])


if __name__ == "__main__":
    raise SystemExit(main())

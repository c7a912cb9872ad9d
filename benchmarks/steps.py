"""The slowest notebooks and cells of a run: ``python benchmarks/steps.py [quick|full|cached]``, from its logs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from campanion.notebooks import MODES, log_dir


def cells(folder: Path) -> pd.DataFrame:
    """Seconds of every cell that ran: notebook, cell, first line of its code, as papermill noted them."""
    rows = []
    for path in sorted(folder.glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            seconds = cell["metadata"].get("papermill", {}).get("duration")
            if cell["cell_type"] == "code" and seconds is not None:
                line = "".join(cell["source"]).strip().partition("\n")[0]
                rows.append({"notebook": path.stem, "cell": number, "seconds": seconds, "begins": line[:60]})
    return pd.DataFrame(rows, columns=["notebook", "cell", "seconds", "begins"])


def main() -> None:
    """Print the slowest notebooks and cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", nargs="?", choices=MODES, default="quick")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="lines of each table")
    options = parser.parse_args()
    found = cells(log_dir(options.mode))
    if found.empty:
        raise SystemExit(f"No notebook ran yet: there is none in {log_dir(options.mode)}.")
    notebooks = found.groupby("notebook").seconds.sum().sort_values(ascending=False)
    print(f"{len(notebooks)} notebooks, {notebooks.sum():.0f} s of cells\n")
    print(notebooks.head(options.most).round(1).to_string(), "\n")
    print(found.nlargest(options.most, "seconds").round(1).to_string(index=False))


if __name__ == "__main__":
    main()

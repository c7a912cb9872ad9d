"""Build the site: ``python docs/build.py`` puts it into ``out/site``, without a network and without running a notebook.

The pages are the committed notebooks, the files of ``docs``, the cards and the other texts of the repository, gathered
in ``out/site-source`` in the folders that they have here, so that the links between them hold. Every warning fails.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "docs/**/*.md",
    "docs/images/*.webp",
    "figures/99_scoreboard.png",
    "notebooks/[0-9][0-9]_*.ipynb",
    "data/README.md",
    "data/checkpoints/*.md",
    "benchmarks/README.md",
    "configs/*.yaml",  # pages link to them
    "configs/grids/*.yaml",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)


def gather(source: Path) -> None:
    """Copy the pages to ``source`` where they are new or changed, and remove there what is no page any more."""
    wanted = {path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern)}
    for old in [p for p in source.rglob("*") if p.is_file() and p.relative_to(source) not in wanted]:
        old.unlink()
    for page in wanted:
        target = source / page
        if not target.exists() or target.read_bytes() != (ROOT / page).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / page, target)
    shutil.move(source / "docs" / "index.md", source / "index.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns Sphinx's exit status."""
    parser = argparse.ArgumentParser(prog="python docs/build.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="folder for site/ and site-source/ (out)")
    out = parser.parse_args(arguments).out.resolve()
    from sphinx.cmd.build import main as sphinx

    gather(out / "site-source")
    quiet = ["--quiet", "--fail-on-warning", "--keep-going"]
    folders = ["-c", str(ROOT / "docs"), "-d", str(out / "site-doctrees"), str(out / "site-source"), str(out / "site")]
    return sphinx(["-b", "html", *quiet, *folders])


if __name__ == "__main__":
    sys.exit(main())

"""Where things are: the checkout, the real data, what is generated.

The checkout is found from this file (the package is installed in editable mode) or from ``CAMPANION_ROOT``;
real data and third-party weights lie under ``CAMPANION_DATA`` (default ``data/`` of the checkout).
"""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """Top folder of the checkout: ``CAMPANION_ROOT``, else the folder that holds ``lib/campanion``."""
    return Path(os.environ.get("CAMPANION_ROOT") or Path(__file__).resolve().parents[2])


def data_dir() -> Path:
    """Folder of the real data sets and third-party weights: ``CAMPANION_DATA``, else ``data/``."""
    return Path(os.environ.get("CAMPANION_DATA") or root() / "data").expanduser()


def papers_dir() -> Path:
    """Committed: the published numbers (one CSV per table) and ``claims.yml``."""
    return root() / "data" / "papers"


def results_dir() -> Path:
    """Committed: result files, one JSON per notebook, per-image rows in ``rows/*.parquet``.

    ``CAMPANION_RESULTS`` points a run elsewhere, as the ``quick`` profile does (``out/quick/results``).
    """
    return Path(os.environ.get("CAMPANION_RESULTS") or root() / "data" / "results")


def checkpoints_dir() -> Path:
    """Committed: small checkpoints that this project trained, with their cards."""
    return root() / "data" / "checkpoints"


def figures_dir() -> Path:
    """Regenerated figures (PDF and PNG); ``CAMPANION_FIGURES`` points a run elsewhere."""
    return Path(os.environ.get("CAMPANION_FIGURES") or root() / "figures")


def out_dir() -> Path:
    """Ignored by git: running results, logs, pictures of data-set images."""
    return Path(os.environ.get("CAMPANION_OUT") or root() / "out")

"""Where things are: the checkout, the real data, what is generated, and what an installed package brings along.

In a checkout everything is found from this file (the package is installed in editable mode) or from
``CAMPANION_ROOT``. Installed from a wheel there is no checkout: the papers' tables and the small checkpoints lie in the
package, data and third-party weights in the user's cache folder, and output goes to the current folder.
``CAMPANION_DATA``, ``CAMPANION_RESULTS``, ``CAMPANION_FIGURES`` and ``CAMPANION_OUT`` name other folders.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from campanion.errors import MissingData

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"  # of a wheel: copies of the folders below data/ (pyproject.toml says which)


def checkout() -> Path | None:
    """Top folder of the checkout: ``CAMPANION_ROOT``, else the folder that holds ``lib/campanion``; or None."""
    if named := os.environ.get("CAMPANION_ROOT"):
        return Path(named)
    top = _PACKAGE.parents[1]
    return top if (top / "pyproject.toml").is_file() and _PACKAGE.parent.name == "lib" else None


def root() -> Path:
    """The checkout, for what cannot do without it: notebooks, results, configurations; else MissingData."""
    if (top := checkout()) is None:
        raise MissingData(
            "This needs a checkout of campanion, and only the package is installed: clone the repository and run "
            "there, or set CAMPANION_ROOT to the folder of a clone."
        )
    return top


def data_dir() -> Path:
    """Folder of real data and third-party weights: ``CAMPANION_DATA``, else ``data/``, else the user's cache folder."""
    if named := os.environ.get("CAMPANION_DATA"):
        return Path(named).expanduser()
    top = checkout()
    return top / "data" if top else user_cache_path("campanion", appauthor=False)


def _committed(name: str) -> Path:
    top = checkout()
    return top / "data" / name if top else _SHIPPED / name


#: The published numbers (one CSV per table) and ``claims.yml``.
papers_dir = partial(_committed, "papers")
#: Small checkpoints that this project trained, with their cards; a wheel brings those that have a name.
checkpoints_dir = partial(_committed, "checkpoints")
#: Photographs in the public domain, with their table of sources.
pictures_dir = partial(_committed, "pictures")


def results_dir() -> Path:
    """Result files, one JSON per notebook, and per-image rows; ``CAMPANION_RESULTS`` points a run elsewhere."""
    return Path(os.environ.get("CAMPANION_RESULTS") or root() / "data" / "results")


def figures_dir() -> Path:
    """Regenerated figures (PDF and PNG); ``CAMPANION_FIGURES`` points a run elsewhere."""
    return Path(os.environ.get("CAMPANION_FIGURES") or root() / "figures")


def out_dir() -> Path:
    """Ignored by git: running results, logs, figures with data-set images."""
    return Path(os.environ.get("CAMPANION_OUT") or (checkout() or Path.cwd()) / "out")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; when the block ends without an error, the file takes ``path``'s place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes never write to one name
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, to ``path`` in one step."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked(path: str | Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock file ``path``; a second process says ``waiting`` and waits. It is free when its holder ends."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if waiting:
            print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def checksum(path: str | Path, algorithm: str) -> str:
    """Hexadecimal ``sha256`` or ``md5`` of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


#: SHA-256 of a file, as 64 hexadecimal digits.
sha256 = partial(checksum, algorithm="sha256")

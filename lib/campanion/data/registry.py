"""The one list of data sets (``datasets.yaml``): open a set by name, get it, or say in a sentence how to.

Paths are relative to the data folder (``CAMPANION_DATA``). A set with a ``reader`` can be opened; one with ``archives``
can be fetched; the others say in a sentence how they are obtained.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import TypeAdapter

from campanion import paths
from campanion.data import weights
from campanion.data.download import download, unpack
from campanion.data.entries import Entry
from campanion.data.samples import Dataset
from campanion.errors import MissingData, one_of, unknown

_TABLE = yaml.safe_load(Path(__file__).with_name("datasets.yaml").read_text(encoding="utf-8"))
DATASETS: dict[str, Entry] = TypeAdapter(dict[str, Entry]).validate_python(_TABLE) | weights.ENTRIES


def find_entry(name: str) -> Entry:
    """The entry called ``name``: one of :data:`DATASETS`, or ``weights/NAME`` of any torchvision classifier."""
    entry = DATASETS.get(name) or weights.entry(name)
    if entry is None:
        raise ValueError(unknown("data set or weights", name, DATASETS))
    return entry


def open_dataset(name: str, root: str | Path | None = None, split: str | None = None, **options: object) -> Dataset:
    """Open a data set by name.

    Args:
        name: a name of :data:`DATASETS` that has a reader.
        root: the data folder, by default ``CAMPANION_DATA``; generated sets need none.
        split: the part of the set; its default is the part that the papers evaluate on.
        options: passed to generated sets (``n``, by default 1000, and ``seed``).

    Raises:
        ValueError: unknown name or split; lists what can be opened.
        MissingData: the set is not in the data folder; says how to get it.

    >>> data = open_dataset("imagenet-val")
    >>> data[data.order()[0]].image.mode
    'RGB'
    """
    readable = {known: entry for known, entry in DATASETS.items() if entry.reader}
    one_of("data set", name, readable)
    entry = readable[name]
    if split is not None and entry.splits and split not in entry.splits:
        raise ValueError(unknown(f"split of {name}", split, entry.splits))
    return entry.open(Path(root).expanduser() if root is not None else paths.data_dir(), split, **options)


def fetch(name: str, root: Path) -> list[Path]:
    """Download and unpack what ``name`` needs below the data folder ``root``; what is already there is left alone.

    Returns:
        The files or folders by which each part is recognised.

    Raises:
        ValueError: unknown name, or an archive that is unsafe or damaged.
        MissingData: the set may not be downloaded by a program; the message says how to obtain it.
        DownloadError: see :func:`campanion.data.download.download`.
    """
    entry = find_entry(name)
    if name.startswith(weights.PREFIX):
        found = entry.find(root)
        return [found[0] if found else weights.fetch_weights(name, root)]
    if not entry.archives:
        # The first layout is the whole set; where only a sample lies, the sentence is still of use.
        if not entry.layouts or entry.layouts[0].count(root):
            return []
        raise MissingData(f"{entry.title}: {entry.obtain} The data folder is {root}.")
    made = []
    for archive in entry.archives:
        folder = root / archive.folder
        if not (folder / archive.makes).exists():
            # The archive, and its contents, which for images are as large again.
            packed = download(archive.url, folder / archive.file, archive.checksum, room=2.2)
            unpack(packed, folder, archive.makes)
            packed.unlink()
        made.append(folder / archive.makes)
    return made


def status(root: Path) -> str:
    """Table of every set: how many files are there, where, size, licence, how to get it."""
    rows = [("name", "files", "where", "size", "licence", "how to get it")]
    for name, entry in DATASETS.items():
        how = f"by hand (`fetch {name}` says how)" if entry.obtain else f"fetch {name}"
        files, where = "-", "-"
        if not entry.layouts:
            files, how = "drawn", "nothing to get"
        elif layout := entry.find(root):
            files, where = f"{layout[1]:,}", layout[0].relative_to(root).as_posix()
        rows.append((name, files, where, entry.size, entry.licence, how))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * w for w in widths))
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"Data folder: {root} ({'there' if root.is_dir() else 'not there yet'})", "", *lines])

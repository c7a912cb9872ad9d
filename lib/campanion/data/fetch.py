"""Get a set of the registry, or say in a sentence how to."""

from __future__ import annotations

from pathlib import Path

from campanion.data import weights
from campanion.data.download import download
from campanion.data.registry import find_entry
from campanion.data.unpack import unpack
from campanion.errors import MissingData


def fetch(name: str, root: Path, progress: bool = True) -> list[Path]:
    """Download and unpack what ``name`` needs below ``root``; what is already there is left alone.

    Args:
        name: a name of the registry, or ``weights/NAME`` of any torchvision classifier.
        root: the data folder.
        progress: show a bar for each file.

    Returns:
        The files or folders by which each part is recognised.

    Raises:
        ValueError: unknown name, or an archive that is unsafe or damaged.
        MissingData: the set may not be downloaded by a program; the message says how to obtain it.
        DownloadError: see :func:`campanion.data.download.download`.

    >>> fetch("voc2007", Path("data"))
    [PosixPath('data/voc2007/VOCdevkit/VOC2007/ImageSets/Main/trainval.txt'), ...]
    """
    entry = find_entry(name)
    if name.startswith(weights.PREFIX):
        return [weights.fetch_weights(name, root, progress)]
    if not entry.archives:
        # The first layout is the whole set; where only a sample lies, the sentence is still of use.
        if not entry.layouts or entry.layouts[0].count(root):
            return []
        raise MissingData(f"{entry.title}: {entry.obtain} The data folder is {root}.")
    made = []
    for archive in entry.archives:
        folder = root / archive.folder
        if not (folder / archive.makes).exists():
            # The archive, and its contents, which for pictures are as large again.
            packed = download(
                archive.url, folder / archive.file, md5=archive.md5, sha256=archive.sha256, room=2.2, progress=progress
            )
            unpack(packed, folder, archive.makes)
            packed.unlink()
        made.append(folder / archive.makes)
    return made

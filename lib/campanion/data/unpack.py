"""Unpack an archive without trusting it: no member may leave the folder, and half an archive never looks whole."""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath


def unpack(archive: Path, folder: Path, makes: str) -> Path:
    """Unpack ``archive`` (zip, tar, tar.gz) and merge it into ``folder``; returns ``folder / makes``.

    Everything is unpacked beside its place first, then renamed into it, ``makes`` last: when ``makes`` is there, so is
    the rest.

    Args:
        archive: the file.
        folder: where its members belong.
        makes: a member (file or folder, relative) by which a whole archive is recognised.

    Raises:
        ValueError: a damaged archive, a member that would lie outside ``folder``, or no ``makes`` in it.

    >>> unpack(Path("val2017.zip"), Path("data/coco"), "val2017")
    PosixPath('data/coco/val2017')
    """
    beside = folder / f".unpacking-{archive.name}"
    shutil.rmtree(beside, ignore_errors=True)  # left by an interrupted call
    beside.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, beside)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(beside, filter="data")
        if not (beside / makes).exists():
            raise ValueError(f"The archive {archive} holds no {makes}: it is not the expected one.")
        _merge(beside, folder, last=beside / makes)
    except tarfile.FilterError as problem:
        raise ValueError(f"The archive {archive} was not unpacked, it is unsafe: {problem}.") from problem
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as problem:
        raise ValueError(f"The archive {archive} is damaged: {problem}. Delete it and fetch it again.") from problem
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder / makes


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for name in zipped.namelist():
            # zipfile would strip these parts and write the file elsewhere; an archive that has them is not ours.
            inside = PurePosixPath(name.replace("\\", "/"))
            if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
                raise ValueError(f"The archive {archive} was not unpacked, it is unsafe: {name!r} leaves the folder.")
        zipped.extractall(folder)


def _merge(source: Path, target: Path, last: Path) -> None:
    if not target.exists() or not source.is_dir():
        os.replace(source, target)
        return
    for child in sorted(source.iterdir(), key=lambda c: c == last or c in last.parents):
        _merge(child, target / child.name, last)

"""One file from the network, resumable and verified, and its contents unpacked; each is in its place only when whole.

Our own code: no library at hand resumes a download, verifies the first digits of a checksum alone (torchvision's file
names) and says in a sentence what is kept. Every failure is such a sentence.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from tqdm.auto import tqdm

from campanion.paths import checksum

CHUNK = 1 << 15  # bytes; what has come of the last chunk is lost at an interruption
TIMEOUT = 30.0  # seconds without a byte, not for the whole file


class DownloadError(RuntimeError):
    """A file could not be had; the message says what is kept and what to do."""


def download(url: str, path: str | Path, expected: str, room: float = 1.0) -> Path:
    """Download ``url`` to ``path``; a whole file that is already there and verifies is kept.

    Bytes go to ``path`` with ``.part`` added. After an interruption the same call asks the server for the rest only.

    Args:
        url, path: the address, and the file to make; its folder is made too.
        expected: checksum, ``"sha256:..."`` or ``"md5:..."``, or its first digits (8 at least), as torchvision's file
            names have them.
        room: free disk wanted, in sizes of the file: above 1 when it is unpacked afterwards.

    Raises:
        DownloadError: no network, an error answer, an interruption, no space, or a wrong checksum.
        ValueError: ``expected`` is no checksum.
    """
    kind, _, digits = expected.lower().partition(":")
    if kind not in ("sha256", "md5") or len(digits) < 8:
        raise ValueError(f"A download needs a checksum, sha256:... or md5:... with 8 digits at least, not {expected!r}.")
    path = Path(path)
    if path.is_file() and checksum(path, kind).startswith(digits):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _transfer(url, path, part, room)
    if not (actual := checksum(part, kind)).startswith(digits):
        part.unlink()
        raise DownloadError(
            f"The file from {url} has the wrong checksum and was removed: expected {digits}, got {actual}. "
            "Try again; if it stays wrong, the file behind the address has changed."
        )
    os.replace(part, path)
    return path


def unpack(archive: Path, folder: Path, makes: str) -> Path:
    """Unpack ``archive`` (zip, tar, tar.gz), merge it into ``folder`` and return ``folder / makes``.

    Everything is unpacked beside its place first, then renamed into it, the member ``makes`` last: when it is there,
    so is the rest. ValueError: a damaged archive, a member that would lie outside ``folder``, or no ``makes`` in it.
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


def _transfer(url: str, path: Path, part: Path, room: float) -> None:
    """Bring ``part`` to the full length of the file at ``url``."""
    have = part.stat().st_size if part.is_file() else 0
    # Identity: a compressed transfer would make lengths and ranges mean other bytes than the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    connected = False
    by_hand = f"By hand: download {url} and save it as {path}, then repeat the command."
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            connected = True
            unsatisfiable = answer.status_code == requests.codes.requested_range_not_satisfiable
            if have and unsatisfiable and answer.headers.get("Content-Range", "").endswith(f"/{have}"):
                return  # every byte had come; only the check was missing
            start = _starts_at(answer)
            if have and (unsatisfiable or start not in (0, have)):
                part.unlink()  # what is kept does not belong to this file
            elif not answer.ok:
                raise DownloadError(f"{url} answered {answer.status_code} {answer.reason}. {by_hand}")
            else:
                _receive(answer, part, start, room)
                return
    except requests.RequestException as problem:
        received = part.stat().st_size if part.is_file() else 0
        if connected:
            raise DownloadError(
                f"The download of {url} was interrupted ({_short(problem)}). {received:,} bytes are kept in {part}; "
                "the same command resumes there."
            ) from problem
        host = urlsplit(url).netloc
        raise DownloadError(f"{host} cannot be reached ({_short(problem)}). {by_hand}") from problem
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        raise DownloadError(
            f"No space is left for {path}. Free some; what has come is kept in {part} and the same command resumes."
        ) from problem
    _transfer(url, path, part, room)  # without what was kept


def _receive(answer: requests.Response, part: Path, have: int, room: float) -> None:
    """Append the body of ``answer`` to the first ``have`` bytes of ``part``."""
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    free = shutil.disk_usage(part.parent).free
    if total and room * total - have > free:
        raise DownloadError(
            f"{part.parent} has {free / 1e9:.1f} GB free, but {answer.url} needs {(room * total - have) / 1e9:.1f} GB. "
            "Free some space, or point CAMPANION_DATA (or --root) at a larger disk."
        )
    # disable=None: silent where there is no terminal
    bar = tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None)
    with bar, part.open("ab" if have else "wb") as file:
        for chunk in answer.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        if total is not None and file.tell() != total:
            raise requests.ConnectionError(f"{file.tell():,} of {total:,} bytes came")


def _starts_at(answer: requests.Response) -> int:
    """First byte of the answer: 0 unless the server answered a range request with ``206 Partial Content``."""
    if answer.status_code != requests.codes.partial_content:
        return 0
    start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else -1


def _short(problem: Exception) -> str:
    """The innermost reason, without the layers of library names around it."""
    while problem.__cause__ or problem.__context__:
        problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]
    return str(problem) or type(problem).__name__


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

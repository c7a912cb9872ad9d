"""Files that are there whole or not at all, whenever a process is killed; locks between processes; checksums."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Another name beside ``path`` to write to; when the block ends without an error, the file takes ``path``'s place.

    Example:
        >>> with replacing("table.parquet") as part:
        ...     frame.to_parquet(part)
    """
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
    """Hold the lock file ``path``; a second process waits, and says ``waiting`` once. It is free when its holder ends.

    Example:
        >>> with locked(folder / "lock", "Another process trains this network; this one waits."):
        ...     train(network)
    """
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


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Files that are there whole or not at all, whenever a process is killed; locks between processes; checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


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


def locked(path: str | Path) -> FileLock:
    """The lock file ``path``, to hold with ``with``; a second process waits. It is free when its holder ends."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Files that are there whole or not at all, whenever a process is killed, and locks between processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


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
def locked(path: str | Path) -> Iterator[None]:
    """Hold the lock file ``path``; a second process waits here. The system frees it when its holder ends or is killed.

    Where the system has no such locks (Windows), nothing is locked.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

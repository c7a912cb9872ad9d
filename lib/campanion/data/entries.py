"""What the registry knows of a set: where it may lie, its terms, and the archives that bring it."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from campanion.data.samples import Dataset

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Archive:
    """A file to download and unpack into ``folder`` of the data folder, with its published checksum (``"md5:..."``).

    ``makes`` is a file or folder below ``folder`` that is there once the archive is unpacked, moved in last.
    """

    url: str
    folder: str
    makes: str
    checksum: str = Field(pattern="^(md5|sha256):")

    @property
    def file(self) -> str:
        """Name of the file at the end of the address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, config=_STRICT)
class Layout:
    """A place where a set may lie, and the pattern of the files that are counted there ('' counts the place as one)."""

    path: str
    pattern: str = ""

    def count(self, root: Path) -> int:
        """Number of counted files; 0 when the set does not lie here."""
        place = root / self.path
        if not self.pattern:
            return int(place.exists())
        return sum(1 for _ in place.glob(self.pattern))


@dataclass(frozen=True, config=_STRICT)
class Entry:
    """One set of the registry; with a ``reader`` it can be opened, with ``archives`` it can be fetched.

    ``reader`` names a function below :mod:`campanion.data`, such as ``voc:open_voc2007``, which may be asked for one of
    ``splits``.
    """

    title: str
    licence: str
    size: str
    layouts: tuple[Layout, ...] = ()
    obtain: str = ""
    archives: tuple[Archive, ...] = ()
    reader: str = ""
    splits: tuple[str, ...] = ()

    def open(self, root: Path, split: str | None = None, **options: object) -> Dataset:
        """The set below ``root``; its reader is imported only now, since some need packages that others do not."""
        return resolve_name(f"campanion.data.{self.reader}")(root, split, **options)

    def find(self, root: Path) -> tuple[Path, int] | None:
        """Where the set lies below ``root`` and how many files were counted there; the first layout wins."""
        for layout in self.layouts:
            if count := layout.count(root):
                return root / layout.path, count
        return None

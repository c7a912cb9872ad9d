"""Per-image rows of a long run: kept as they come, resumed after a stop, never mixed between runs.

A running file is an SQLite database (``out/rows``), a finished one parquet (``data/results/rows``).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from campanion import paths
from campanion.errors import MissingResult
from campanion.paths import replacing

_APPLICATION = 0x63616D70  # marks a database as a file of rows
_DISK = (
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip


class RowStore(contextlib.AbstractContextManager):
    """Result rows in an SQLite file, all rows of one image in one transaction: a killed run loses at most the image
    that it was working on.

    The first column of ``key`` is the unit of resuming; ``settings`` are everything that decides the numbers, not how
    many there are. ValueError: the file was made with others, or is damaged. RuntimeError: another process is writing
    it. OSError: it cannot be written, now or when rows are added.

    >>> with RowStore(path, settings={"model": "resnet18", "seed": 0}) as store:
    ...     store.append([{"image": "a.jpg", "method": "grad_cam", "insertion": 0.5}])
    """

    def __init__(
        self, path: str | Path, key: Sequence[str] = ("image", "method"), *, settings: Mapping[str, object]
    ) -> None:
        self.path, self.key = Path(path), tuple(key)
        self.settings = json.loads(_dump(dict(settings)))
        self.rows: list[dict] = []
        self._keys: set[tuple] = set()
        with self._sentences("Point CAMPANION_OUT at a folder that can be written."):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=0)
            try:
                self._open()
            except BaseException:
                self._base.close()
                raise

    @property
    def done(self) -> set[str]:
        """Images (values of the first key column) whose rows are safely in the file."""
        return {k[0] for k in self._keys}

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add the rows of whole images in one write; refuses rows that are there already or lack a key column."""
        group = json.loads(_dump([dict(r) for r in rows]))
        keys = [self._key_of(r) for r in group]
        if twice := [k for i, k in enumerate(keys) if k in self._keys or k in keys[:i]]:
            named = ", ".join(f"{n}={v!r}" for n, v in zip(self.key, twice[0], strict=True))
            raise ValueError(f"The row {named} is in {self.path} already: skip what `done` holds.")
        values = [(_dump(k), _dump(r)) for k, r in zip(keys, group, strict=True)]
        with self._sentences("Finished images are kept; free some space, then the same command goes on."), self._base:
            self._base.executemany("INSERT INTO rows VALUES (?, ?)", values)
        self._keys.update(keys)
        self.rows.extend(group)

    def frame(self) -> pd.DataFrame:
        """All rows, sorted by key whatever order they came in; key columns first, the others by name."""
        frame = pd.DataFrame(self.rows, columns=None if self.rows else list(self.key))
        frame = frame[[*self.key, *sorted(set(frame.columns) - set(self.key))]]
        return frame.sort_values(list(self.key), kind="stable", ignore_index=True)

    def close(self) -> None:
        """Close the file and free its lock."""
        self._base.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _sentences(self, advice: str) -> Iterator[None]:
        """What SQLite and the system complain of, as sentences."""
        try:
            yield
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            text = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if "locked" in text:
                raise RuntimeError(
                    f"Another run is writing {self.path}: wait for it, stop it, or give this run its own file."
                ) from error
            if isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK:
                raise OSError(f"Cannot write {self.path}: {text}. {advice}") from error
            raise ValueError(f"{self.path} is not a file of result rows, or damaged ({text}): delete it.") from error

    def _open(self) -> None:
        run = self._base.execute
        run("PRAGMA locking_mode = EXCLUSIVE")  # from the first write on, until the file is closed
        with self._base:
            run("BEGIN EXCLUSIVE")
            if not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                run("CREATE TABLE about (key TEXT, settings TEXT)")
                run("CREATE TABLE rows (key TEXT PRIMARY KEY, content TEXT)")
                run(f"PRAGMA application_id = {_APPLICATION}")
            elif run("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise sqlite3.DatabaseError("another database")
            elif run("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick check failed")
            if not run("SELECT count(*) FROM rows").fetchone()[0]:  # new, or of a run that has not measured an image
                run("DELETE FROM about")
                run("INSERT INTO about VALUES (?, ?)", (_dump(self.key), _dump(self.settings)))
        try:
            key, settings = (json.loads(text) for text in run("SELECT key, settings FROM about").fetchone())
            self.rows = [json.loads(text) for (text,) in run("SELECT content FROM rows ORDER BY rowid")]
            self._keys = {self._key_of(row) for row in self.rows}
            old, new = _flat({"key": key, **settings}), _flat({"key": list(self.key), **self.settings})
        except (ValueError, TypeError, KeyError) as error:
            raise sqlite3.DatabaseError(str(error)) from error
        for name in sorted(old.keys() | new.keys()):
            a, b = (repr(s[name]) if name in s else "nothing" for s in (old, new))
            if a != b:
                raise ValueError(
                    f"{self.path} holds rows made with {name} = {a}, but this run has {name} = {b}: "
                    "run with the old setting, name another file, or delete this one."
                )

    def _key_of(self, row: Mapping[str, object]) -> tuple:
        if missing := [k for k in self.key if k not in row]:
            raise KeyError(f"A row lacks the key column {missing[0]!r}; it has {', '.join(row)}.")
        return tuple(row[k] for k in self.key)


def running_path(data: str, model: str, name: str = "rows") -> Path:
    """Where a run keeps its rows until it ends: ``out/rows/<name>_<data>_<model>.sqlite``, which git ignores."""
    return paths.out_dir() / "rows" / f"{name}_{data}_{model}.sqlite"


def rows_path(data: str, model: str, name: str = "cams") -> Path:
    """Where finished rows are kept, committed: ``data/results/rows/[<name>_]<data>_<model>.parquet``, cams unnamed."""
    stem = f"{data}_{model}" if name == "cams" else f"{name}_{data}_{model}"
    return paths.results_dir() / "rows" / f"{stem}.parquet"


def with_rows(names: Sequence[str], data: str, model: str) -> str:
    """The first of ``names`` that ``model`` has committed rows of; without any, the first begun; else the first."""
    places = ((name, path(data, model, name)) for path in (rows_path, running_path) for name in names)
    return next((name for name, path in places if path.exists()), names[0])


def write_rows(frame: pd.DataFrame, path: str | Path, settings: Mapping[str, object]) -> Path:
    """Write ``frame`` to a parquet file in one step (temporary name, then rename), with ``settings`` inside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({b"campanion": _dump(dict(settings), sort_keys=True).encode()})
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")
    return path


def read_rows(path: str | Path) -> tuple[pd.DataFrame, dict]:
    """Rows and settings of a parquet file written by :func:`write_rows`; MissingResult where it is not there."""
    import pyarrow.parquet as pq

    if not Path(path).exists():
        raise MissingResult(f"No per-image rows at {path}: is the network's name right? Mode 'full' measures them.")
    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[b"campanion"])


def kept_rows(name: str) -> dict[str, pd.DataFrame]:
    """The committed rows ``name``, by ``"NAME on DATA"``, in a quick run too; then those of ``CAMPANION_RESULTS``."""
    folders = dict.fromkeys((paths.root() / "data" / "results", paths.results_dir()))
    files = [path for folder in folders for path in sorted((folder / "rows").glob(f"{name}_*.parquet"))]
    return {f"{settings['model']} on {settings['data']}": rows for rows, settings in map(read_rows, files)}


def _dump(value: object, sort_keys: bool = False) -> str:
    return json.dumps(value, default=_plain, separators=(",", ":"), sort_keys=sort_keys)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return value.tolist()
    raise TypeError(f"A result row or setting holds {type(value).__name__}, which is not a JSON value: {value!r}.")


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat

"""Per-image rows of a long run: appended as they come, resumed after a stop, never mixed between runs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from campanion import paths
from campanion.errors import MissingResult
from campanion.files import replacing

try:
    import fcntl
except ImportError:  # Windows has no fcntl: one run at a time is then the user's care
    fcntl = None

FORMAT = 1


class RowStore:
    """Append-only file of result rows, one JSON line for all rows of one image.

    The line is written, flushed and synced in one go, so that a killed run loses at most the image it was
    working on: a half-written last line is dropped when the file is opened again. The first line holds the
    settings of the run; opening with other settings is refused, as is a second writer.

    Args:
        path: the running file, usually :func:`running_path`.
        key: columns that name a row; the first one is the unit of resuming (``done``).
        settings: everything that decides the numbers (model, weights sha256, data set, metric settings, seed),
            JSON values only. What merely decides how much is done, such as a limit, does not belong here.

    Raises:
        ValueError: the file was made with other settings or another key, or is damaged; the sentence says where.
        RuntimeError: another process is writing the file.
        OSError: the file cannot be written, now or when rows are added: a full disk, a read-only folder.

    >>> with RowStore(path, settings={"model": "resnet18", "seed": 0}) as store:
    ...     store.append([{"image": "a.jpg", "method": "grad_cam", "insertion": 0.5}])
    """

    def __init__(
        self, path: str | Path, key: Sequence[str] = ("image", "method"), *, settings: Mapping[str, object]
    ) -> None:
        self.path = Path(path)
        self.key = tuple(key)
        self.settings = json.loads(_dump(dict(settings)))
        self.rows: list[dict] = []
        self._keys: set[tuple] = set()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - open for the store's life
        except OSError as error:
            raise OSError(
                f"Cannot write {self.path}: {error.strerror}. Point CAMPANION_OUT at a folder that can be written."
            ) from error
        try:
            self._lock()
            self._resume()
        except BaseException:
            self._file.close()
            raise

    @property
    def done(self) -> set:
        """Images (values of the first key column) whose rows are safely in the file."""
        return {k[0] for k in self._keys}

    def __contains__(self, key: tuple) -> bool:
        return tuple(key) in self._keys

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add the rows of one image (or of a batch of whole images) in one write that lasts.

        Raises:
            KeyError: a row lacks a key column.
            ValueError: a row is in the file already, or twice among ``rows``.
        """
        group = json.loads(_dump([dict(r) for r in rows]))
        if not group:
            return
        keys = [self._key_of(r) for r in group]
        twice = [k for i, k in enumerate(keys) if k in self._keys or k in keys[:i]]
        if twice:
            named = ", ".join(f"{n}={v!r}" for n, v in zip(self.key, twice[0], strict=True))
            raise ValueError(f"The row {named} is in {self.path} already: skip what `done` holds.")
        self._write(_dump(group))
        self._keys.update(keys)
        self.rows.extend(group)

    def frame(self) -> pd.DataFrame:
        """All rows, sorted by key whatever order they came in; key columns first, the others by name."""
        frame = pd.DataFrame(self.rows, columns=None if self.rows else list(self.key))
        frame = frame[[*self.key, *sorted(set(frame.columns) - set(self.key))]]
        return frame.sort_values(list(self.key), kind="stable", ignore_index=True)

    def to_parquet(self, path: str | Path) -> Path:
        """Write :meth:`frame` and the settings to ``path``; the same rows give the same bytes."""
        return write_rows(self.frame(), path, self.settings)

    def close(self) -> None:
        """Close the file and free its lock."""
        self._file.close()

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it however the process ends
        except OSError as error:
            raise RuntimeError(
                f"Another run is writing {self.path}: wait for it, stop it, or give this run its own file."
            ) from error

    def _resume(self) -> None:
        self._file.seek(0)
        whole, newline, _half = self._file.read().rpartition(b"\n")
        self._file.truncate(len(whole) + len(newline))
        header = {"rows": FORMAT, "key": list(self.key), "settings": self.settings}
        if not newline:
            self._write(_dump(header))
            return
        first, *lines = whole.split(b"\n")
        self._check_header(self._parse(first, 1), header)
        for number, line in enumerate(lines, start=2):
            group = self._parse(line, number)
            try:
                self._keys.update([self._key_of(r) for r in group])
            except (KeyError, TypeError) as error:
                raise ValueError(self._damaged(number)) from error
            self.rows.extend(group)

    def _check_header(self, found: dict, wanted: dict) -> None:
        parts = found if isinstance(found, dict) else {}
        if parts.get("rows") != FORMAT or "key" not in parts or not isinstance(parts.get("settings"), dict):
            raise ValueError(f"{self.path} is not a file of result rows: give this run another file.")
        old, new = _flat({"key": found["key"], **found["settings"]}), _flat({"key": wanted["key"], **self.settings})
        for name in sorted(old.keys() | new.keys()):
            a, b = (repr(s[name]) if name in s else "nothing" for s in (old, new))
            if a != b:
                raise ValueError(
                    f"{self.path} holds rows made with {name} = {a}, but this run has {name} = {b}: "
                    "run with the old setting, name another file, or delete this one."
                )

    def _parse(self, line: bytes, number: int) -> list | dict:
        try:
            return json.loads(line)
        except ValueError as error:
            raise ValueError(self._damaged(number)) from error

    def _damaged(self, number: int) -> str:
        return f"Line {number} of {self.path} is damaged: delete that line (its image is done again) or the file."

    def _key_of(self, row: Mapping[str, object]) -> tuple:
        missing = [k for k in self.key if k not in row]
        if missing:
            raise KeyError(f"A row lacks the key column {missing[0]!r}; it has {', '.join(row)}.")
        return tuple(row[k] for k in self.key)

    def _write(self, text: str) -> None:
        start = self._file.seek(0, os.SEEK_END)
        data = memoryview(text.encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except BaseException as error:  # a full disk or Ctrl-C: leave no half line for the next append to join on to
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            if isinstance(error, OSError):
                raise OSError(
                    f"Cannot write {self.path}: {error.strerror}. Finished images are kept; free some space, then the "
                    "same command goes on."
                ) from error
            raise


def running_path(data: str, model: str, name: str = "rows") -> Path:
    """Where a run appends its rows: ``out/rows/<name>_<data>_<model>.jsonl``, which git ignores."""
    return paths.out_dir() / "rows" / f"{name}_{data}_{model}.jsonl"


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
    """Rows and settings of a parquet file written by :func:`write_rows`.

    Raises:
        MissingResult: the file is not there; the sentence names the command that makes such files.
    """
    import pyarrow.parquet as pq

    if not Path(path).exists():
        raise MissingResult(f"No per-image rows at {path}: make them with `./reproduce.sh full`.")
    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[b"campanion"])


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
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

"""RowStore: rows survive a kill at any moment, and runs are never mixed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from campanion import errors
from campanion.errors import MissingResult
from campanion.results.rows import RowStore, kept_rows, read_rows, write_rows

SETTINGS = {"model": "resnet18", "seed": 0, "insertion": {"step": 1792, "baseline": "blur"}}

WRITER = """
import sys, types
bare = types.ModuleType("campanion")  # without the package's own imports (torch), which take seconds
bare.__path__ = [sys.argv[3]]
sys.modules["campanion"] = bare
from campanion.results.rows import RowStore
path, images = sys.argv[1], int(sys.argv[2])
with RowStore(path, settings={"seed": 3}) as store:
    print("open", flush=True)
    for i in range(images):
        if f"{i:04}" in store.done:
            continue
        text = "x" * 20000
        store.append([{"image": f"{i:04}", "method": m, "value": i * 0.1 + j, "text": text}
                      for j, m in enumerate(("cam", "fd_cam", "lift_cam"))])
"""


def rows_of(image: str, value: float = 1.0) -> list[dict]:
    return [{"image": image, "method": m, "auc": value + i} for i, m in enumerate(("fd_cam", "cam"))]


def test_rows_come_back(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("b"))
        store.append([{"image": "a", "method": "cam", "auc": np.float32(0.5), "curve": np.arange(3)}])
        store.append([])
    with RowStore(path, settings=SETTINGS) as again:
        assert again.done == {"a", "b"}
        frame = again.frame()
    assert list(frame.columns) == ["image", "method", "auc", "curve"]
    assert frame[["image", "method"]].to_numpy().tolist() == [["a", "cam"], ["b", "cam"], ["b", "fd_cam"]]
    assert frame.auc.tolist() == [0.5, 2.0, 1.0]
    assert frame.curve[0] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "seed = 0, but this run has seed = 1"),
        (
            {"insertion": {"step": 224, "baseline": "blur"}},
            "insertion.step = 1792, but this run has insertion.step = 224",
        ),
        ({"dtype": "bf16"}, "dtype = nothing, but this run has dtype = 'bf16'"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, says):
    path = tmp_path / "rows.sqlite"
    with RowStore(path, settings=SETTINGS) as store:
        store.append([{"image": "a", "method": "cam"}])
    with pytest.raises(ValueError, match=says):
        RowStore(path, settings={**SETTINGS, **change})
    with pytest.raises(ValueError, match="key"):
        RowStore(path, key=("image",), settings=SETTINGS)
    RowStore(path, settings=SETTINGS).close()  # a refused opening holds no lock


def test_a_file_without_rows_takes_other_settings(tmp_path):
    """A run that was stopped before its first image stands in nobody's way."""
    path = tmp_path / "rows.sqlite"
    RowStore(path, settings=SETTINGS).close()
    with RowStore(path, key=("image",), settings={**SETTINGS, "seed": 1}) as store:
        store.append([{"image": "a"}])
    with pytest.raises(ValueError, match="seed = 1, but this run has seed = 0"):
        RowStore(path, key=("image",), settings=SETTINGS)


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path, settings=SETTINGS) as store:
        with pytest.raises(RuntimeError, match=r"Another run is writing .*rows\.sqlite"):
            RowStore(path, settings=SETTINGS)
        store.append(rows_of("a"))


def test_doubled_row_damaged_and_foreign_file(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("a"))
        with pytest.raises(ValueError, match="image='a', method='fd_cam'"):
            store.append(rows_of("a"))
        with pytest.raises(ValueError, match="image='b'"):
            store.append(rows_of("b") + rows_of("b"))
        with pytest.raises(KeyError, match="method"):
            store.append([{"image": "c"}])
        with pytest.raises(TypeError, match="object"):
            store.append([{"image": "c", "method": "cam", "auc": object()}])
        assert store.done == {"a"}
        store.append(rows_of("b"))
    whole = path.read_bytes()
    for damaged in (whole.replace(b'"method":', b'"oops" : '), whole[: len(whole) // 2], b'{"a": 1}\n'):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a file of result rows, or damaged"):
            RowStore(path, settings=SETTINGS)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE rows (a)")
    with pytest.raises(ValueError, match="another database"):
        RowStore(path, settings=SETTINGS)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("a"))
        pages = store._base.execute("PRAGMA page_count").fetchone()[0]
        store._base.execute(f"PRAGMA max_page_count = {pages}")  # a full disk
        with pytest.raises(OSError, match=r"full\. Finished images are kept"):
            store.append([{"image": "b", "method": "cam", "text": "x" * 100_000}])
        assert store.done == {"a"}
        store._base.execute("PRAGMA max_page_count = 100000")
        store.append(rows_of("b"))
    with RowStore(path, settings=SETTINGS) as again:
        assert len(again.rows) == 4


def test_parquet_bytes_do_not_depend_on_the_order(tmp_path):
    for name, order in (("one", "abc"), ("two", "cba")):
        with RowStore(tmp_path / f"{name}.sqlite", settings=SETTINGS) as store:
            for image in order:
                store.append(rows_of(image, ord(image))[:: 1 if name == "one" else -1])
            write_rows(store.frame(), tmp_path / f"{name}.parquet", store.settings)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    frame, settings = read_rows(tmp_path / "one.parquet")
    assert settings == SETTINGS
    pd.testing.assert_frame_equal(frame, store.frame())
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(MissingResult, match="Mode 'full' measures them"):
        read_rows(tmp_path / "none.parquet")


def test_interrupted_parquet_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_rows(pd.DataFrame({"image": ["a"], "method": ["cam"]}), tmp_path / "r.parquet", SETTINGS)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_rows(pd.DataFrame({"image": ["b"], "method": ["cam"]}), path, SETTINGS)
    assert path.read_bytes() == before


def test_rows_of_a_full_run_elsewhere_come_after_the_committed_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMPANION_ROOT", str(tmp_path))
    monkeypatch.setenv("CAMPANION_RESULTS", str(tmp_path / "own"))
    for folder, models in (("data/results", ["a", "b"]), ("own", ["b", "c"])):
        for model in models:
            rows = pd.DataFrame({"image": ["1"], "of": folder})
            write_rows(rows, tmp_path / folder / "rows" / f"n_d_{model}.parquet", {"model": model, "data": "d"})
    found = {name: rows["of"].item() for name, rows in kept_rows("n").items()}
    assert list(found.items()) == [("a on d", "data/results"), ("b on d", "own"), ("c on d", "own")]


def test_killed_at_random_moments_equals_undisturbed(tmp_path):
    """SIGKILL at random moments, then resume: nothing is lost and nothing doubled."""
    images, rng = 60, np.random.default_rng(0)

    def start(path):
        command = [sys.executable, "-c", WRITER, str(path), str(images), str(Path(errors.__file__).parent)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()  # imports are over, the file is open
        return process

    calm, stormy = tmp_path / "calm.sqlite", tmp_path / "stormy.sqlite"
    assert start(calm).wait(20) == 0
    kills = 0
    for _ in range(3):
        process = start(stormy)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert start(stormy).wait(20) == 0
    frames = []
    for path in (calm, stormy):
        with RowStore(path, settings={"seed": 3}) as store:
            assert len(store.rows) == 3 * images
            frames.append(store.frame())
    pd.testing.assert_frame_equal(*frames)

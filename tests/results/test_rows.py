"""RowStore: rows survive a kill at any moment, and runs are never mixed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from campanion import errors
from campanion.errors import MissingResult
from campanion.results.store import RowStore, read_rows, write_rows

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
    path = tmp_path / "rows.jsonl"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("b"))
        store.append([{"image": "a", "method": "cam", "auc": np.float32(0.5), "curve": np.arange(3)}])
        store.append([])
    with RowStore(path, settings=SETTINGS) as again:
        assert again.done == {"a", "b"}
        assert ("b", "cam") in again
        assert ("a", "fd_cam") not in again
        frame = again.frame()
    assert list(frame.columns) == ["image", "method", "auc", "curve"]
    assert frame[["image", "method"]].to_numpy().tolist() == [["a", "cam"], ["b", "cam"], ["b", "fd_cam"]]
    assert frame.auc.tolist() == [0.5, 2.0, 1.0]
    assert frame.curve[0] == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_half_written_last_line_is_dropped(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("a"))
        store.append(rows_of("b"))
    path.write_bytes(path.read_bytes()[:-cut])
    with RowStore(path, settings=SETTINGS) as again:
        assert again.done == {"a"}
        again.append(rows_of("b"))
        assert len(again.frame()) == 4
    with RowStore(path, settings=SETTINGS) as third:
        assert third.done == {"a", "b"}


def test_half_written_header_begins_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"rows":1,"key":["ima')
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("a"))
    with RowStore(path, settings=SETTINGS) as again:
        assert again.done == {"a"}


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
    path = tmp_path / "rows.jsonl"
    RowStore(path, settings=SETTINGS).close()
    with pytest.raises(ValueError, match=says):
        RowStore(path, settings={**SETTINGS, **change})
    with pytest.raises(ValueError, match="key"):
        RowStore(path, key=("image",), settings=SETTINGS)
    RowStore(path, settings=SETTINGS).close()  # a refused opening holds no lock


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    with RowStore(path, settings=SETTINGS) as store:
        with pytest.raises(RuntimeError, match=r"Another run is writing .*rows\.jsonl"):
            RowStore(path, settings=SETTINGS)
        store.append(rows_of("a"))


def test_doubled_row_damaged_line_and_foreign_file(tmp_path):
    path = tmp_path / "rows.jsonl"
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
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"[{oops\n" + lines[2])
    with pytest.raises(ValueError, match="Line 2 of"):
        RowStore(path, settings=SETTINGS)
    path.write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="not a file of result rows"):
        RowStore(path, settings=SETTINGS)


def test_failed_write_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    with RowStore(path, settings=SETTINGS) as store:
        store.append(rows_of("a"))

        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                store.append(rows_of("b"))
        assert store.done == {"a"}
        store.append(rows_of("b"))
    with RowStore(path, settings=SETTINGS) as again:
        assert len(again) == 4


def test_parquet_bytes_do_not_depend_on_the_order(tmp_path):
    for name, order in (("one", "abc"), ("two", "cba")):
        with RowStore(tmp_path / f"{name}.jsonl", settings=SETTINGS) as store:
            for image in order:
                store.append(rows_of(image, ord(image))[:: 1 if name == "one" else -1])
            store.to_parquet(tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    frame, settings = read_rows(tmp_path / "one.parquet")
    assert settings == SETTINGS
    pd.testing.assert_frame_equal(frame, store.frame())
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(MissingResult, match=r"reproduce\.sh full"):
        read_rows(tmp_path / "none.parquet")


def test_interrupted_parquet_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_rows(pd.DataFrame({"image": ["a"], "method": ["cam"]}), tmp_path / "r.parquet", SETTINGS)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_rows(pd.DataFrame({"image": ["b"], "method": ["cam"]}), path, SETTINGS)
    assert path.read_bytes() == before


def test_killed_at_random_moments_equals_undisturbed(tmp_path):
    """SIGKILL at random moments, then resume: nothing is lost and nothing doubled."""
    images, rng = 60, np.random.default_rng(0)

    def start(path):
        command = [sys.executable, "-c", WRITER, str(path), str(images), str(Path(errors.__file__).parent)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()  # imports are over, the file is open
        return process

    calm, stormy = tmp_path / "calm.jsonl", tmp_path / "stormy.jsonl"
    assert start(calm).wait(20) == 0
    kills = 0
    for _ in range(3):
        process = start(stormy)
        time.sleep(float(rng.uniform(0, 0.03)))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        stormy.write_bytes(stormy.read_bytes()[: -int(rng.integers(1, 2000))])  # and cut in the middle of a write
    assert kills
    assert start(stormy).wait(20) == 0
    frames = []
    for path in (calm, stormy):
        with RowStore(path, settings={"seed": 3}) as store:
            assert len(store) == 3 * images
            frames.append(store.frame())
    pd.testing.assert_frame_equal(*frames)

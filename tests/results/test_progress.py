"""track(): silent where outputs are stored, lines in the log, a bar for a person."""

from __future__ import annotations

import re
import sys

import pytest
import tqdm.std
from campanion import progress


@pytest.fixture
def batch(monkeypatch, tmp_path):
    monkeypatch.setenv("CAMPANION_BATCH", "1")
    monkeypatch.setenv("CAMPANION_LOG", str(tmp_path / "logs" / "run.log"))
    return tmp_path / "logs" / "run.log"


@pytest.fixture
def clock(monkeypatch):
    """tqdm's clock, which stands until a loop moves it."""
    now = [1000.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    monkeypatch.setattr(tqdm.std.tqdm, "monitor_interval", 0)  # its thread would look at the real clock
    return now


def test_batch_prints_nothing_and_logs_about_every_ten_seconds(clock, batch, capfd):
    for i, value in enumerate(progress.track(range(10), "insertion", unit="image")):
        assert value == i
        clock[0] += 4.0
    assert capfd.readouterr() == ("", "")
    lines = batch.read_text().splitlines()
    assert [re.search(r"insertion: (\d+) %", line).group(1) for line in lines] == ["30", "60", "90", "100"]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d insertion: 30 % \(3/10\), +4\.00s/image, 00:12 passed, 00:28 left", lines[0]
    )
    assert lines[-1].endswith("(10/10),  4.00s/image, 00:40 passed, 00:00 left")


def test_a_loop_that_breaks_off_leaves_where_it_stopped(clock, batch):
    for i in progress.track(range(10), "a"):
        clock[0] += 15.0
        if i == 2:
            break
    for _ in progress.track((1 / (2 - i) for i in range(2)), "b", total=5):
        clock[0] += 15.0
    assert [line.split(" ", 2)[2].split(",")[0] for line in batch.read_text().splitlines()] == [
        "a: 10 % (1/10)", "a: 20 % (2/10)", "a: 20 % (2/10)", "b: 20 % (1/5)", "b: 40 % (2/5)",
    ]  # fmt: skip


def test_short_loops_leave_no_line_and_unknown_length_works(clock, batch):
    assert list(progress.track(iter("ab"), "short")) == ["a", "b"]
    assert not batch.exists()
    for _ in progress.track(iter("ab"), "unknown"):
        clock[0] += 15.0
    assert "unknown: 2 it, " in batch.read_text()


def test_bars_inside_of_bars_keep_to_lines_of_their_own(clock, batch):
    for _ in progress.track(range(2), "outer"):
        for _ in progress.track(range(2), "inner"):
            clock[0] += 15.0
    lines = [line.split(" ", 2)[2] for line in batch.read_text().splitlines()]
    assert [line.split(",")[0] for line in lines] == [
        "inner: 50 % (1/2)", "inner: 100 % (2/2)", "outer: 50 % (1/2)",
        "inner: 50 % (1/2)", "inner: 100 % (2/2)", "outer: 100 % (2/2)",
    ]  # fmt: skip
    assert all(line.isprintable() for line in lines)


def test_without_log_and_watcher_it_is_the_plain_iterator(monkeypatch, capfd):
    monkeypatch.delenv("CAMPANION_BATCH", raising=False)
    monkeypatch.delenv("CAMPANION_LOG", raising=False)
    assert list(progress.track([1, 2], "x")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("CAMPANION_BATCH", "0")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track(range(3), "maps")) == [0, 1, 2]
    assert "maps" in capsys.readouterr().err

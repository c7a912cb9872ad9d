"""track(): silent where outputs are stored, lines in the log, a bar for a person."""

from __future__ import annotations

import re
import sys

import pytest
from campanion import progress


@pytest.fixture
def batch(monkeypatch, tmp_path):
    monkeypatch.setenv("CAMPANION_BATCH", "1")
    monkeypatch.setenv("CAMPANION_LOG", str(tmp_path / "logs" / "run.log"))
    return tmp_path / "logs" / "run.log"


def clock(monkeypatch, step: float) -> None:
    ticks = iter(i * step for i in range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_batch_prints_nothing_and_logs_about_every_ten_seconds(monkeypatch, batch, capfd):
    clock(monkeypatch, 4.0)
    assert list(progress.track(range(10), "insertion", unit="image")) == list(range(10))
    out = capfd.readouterr()
    assert out.out == ""
    assert out.err == ""
    lines = batch.read_text().splitlines()
    assert len(lines) == 4  # at 12, 24 and 36 s, and the end at 44 s
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d insertion: 30 % \(3/10\), 0\.25 image/s, 00:12 passed, 00:28 left", lines[0]
    )
    assert lines[-1].endswith("(10/10), 0.23 image/s, 00:44 passed, 00:00 left, done")


def test_break_and_error_are_logged_as_stopped(monkeypatch, batch):
    clock(monkeypatch, 4.0)
    loop = progress.track(range(5), "a")
    next(loop)
    loop.close()
    with pytest.raises(ZeroDivisionError):
        list(progress.track((1 / (2 - i) for i in range(5)), "b", total=5))
    assert [line.rsplit(", ")[-1] for line in batch.read_text().splitlines()] == ["stopped", "stopped"]


def test_short_loops_leave_no_line_and_unknown_length_works(monkeypatch, batch):
    assert list(progress.track(iter("ab"), "short")) == ["a", "b"]
    assert not batch.exists()
    clock(monkeypatch, 4.0)
    assert list(progress.track(iter("ab"), "unknown")) == ["a", "b"]
    assert "unknown: 2 it, " in batch.read_text()


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
